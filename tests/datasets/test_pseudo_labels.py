"""Files of pseudo-labels, their selection, and batches of labelled and pseudo-labelled images."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from helpers import prepared
from helpers.input_batches import folder_of, good_file, take

import input_pipeline
from configs import digits, pseudo_labels
from resnet_rs.config.durations import to_steps
from resnet_rs.config.mixture import images_per_epoch
from resnet_rs.config.validation import check_settings
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.pseudo_labels import (
    Description,
    PseudoLabels,
    data_digest,
    find_images,
    select,
)
from resnet_rs.datasets.sources import sources_of
from resnet_rs.run.preflight import check_pseudo_labels
from resnet_rs.utils.errors import UserError

SPLIT = 'train[700:]'
EXAMPLES = 737


def described(**changes):
    classes = tuple(map(str, range(changes.get('num_classes', 10))))
    standard = Description('a teacher', 'tfds', 'digits', SPLIT, 'digest', classes, 10)
    return dataclasses.replace(standard, **changes)


def labels_of(probabilities, classes=None, label=None, **changes):
    count = len(probabilities)
    label = np.zeros(count, np.int32) if label is None else label
    probabilities = np.asarray(probabilities, np.float32)
    mask = np.ones(count, bool)
    return PseudoLabels(described(**changes), probabilities, classes, label, mask)


def certain(predicted, confidence, classes=10):
    """Probabilities whose largest is `confidence`, of class `predicted`."""
    rest = (1 - np.asarray(confidence)) / (classes - 1)
    probabilities = np.repeat(rest[:, None], classes, 1)
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return probabilities


def test_classes_are_balanced_in_both_directions():
    """20 images of each class, as in Noisy Student, from 5, 200 and 30; 10 are too uncertain."""
    predicted = np.repeat([0, 1, 2], [5, 200, 40])
    confidence = np.random.default_rng(0).uniform(0.31, 1, len(predicted))
    confidence[-10:] = 0.29
    labels = labels_of(certain(predicted, confidence))
    found = select(labels, 0.3, 20)
    assert found.per_class.tolist() == [20, 20, 20] + [0] * 7
    chosen, times = np.unique(found.examples, return_counts=True)
    assert chosen[:5].tolist() == [0, 1, 2, 3, 4] and set(times[:5]) == {4}
    best = np.sort(confidence[5:205])[-20:]
    of_second = chosen[(chosen >= 5) & (chosen < 205)]
    np.testing.assert_allclose(np.sort(confidence[of_second]), best)
    assert set(times[5:]) == {1} and chosen.max() < 235
    assert found.copies[:4].tolist() == [0, 1, 2, 3]
    # 7 of each: each of 5 images once, and two of them, at random, twice.
    few = select(labels, 0.3, 7).examples[:7]
    assert sorted(np.unique(few, return_counts=True)[1]) == [1, 1, 1, 2, 2]
    everything = select(labels, 0.0, 0)
    assert everything.examples.tolist() == list(range(245)) and not everything.copies.any()


def test_images_that_cannot_be_decoded_are_not_chosen():
    labels = labels_of(certain([0, 1], [0.9, 0.9]))
    labels.mask[1] = False
    assert select(labels, 0.0, 3).examples.tolist() == [0, 0, 0]


def test_soft_targets_are_tempered_distributions():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(10), 6)
    labels = labels_of(probabilities)
    examples = np.array([4, 0, 4])
    np.testing.assert_allclose(labels.targets(examples, 1.0), probabilities[examples], rtol=1e-6)
    root = np.sqrt(probabilities[examples])
    expected = root / root.sum(1, keepdims=True)
    np.testing.assert_allclose(labels.targets(examples, 2.0), expected, rtol=1e-5)

    order = np.argsort(-probabilities, 1)[:, :3].astype(np.int32)
    largest = labels_of(np.take_along_axis(probabilities, order, 1), order)
    targets = largest.targets(examples, 1.0)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    assert ((targets > 0).sum(1) == 3).all()
    np.testing.assert_array_equal(largest.predicted, labels.predicted)
    kept = np.where(targets > 0, probabilities[examples], 0)
    np.testing.assert_allclose(targets, kept / kept.sum(1, keepdims=True), rtol=1e-5)


def test_a_file_is_read_as_it_was_written_and_a_damaged_one_is_one_line(tmp_path):
    path = tmp_path / 'labels.npz'
    labels = labels_of(np.full((3, 2), 0.5), np.zeros((3, 2), np.int32))
    labels.write(path)
    found = PseudoLabels.read(path)
    assert found.description == labels.description and found.digest == labels.digest
    np.testing.assert_array_equal(found.classes, labels.classes)
    other = labels_of(np.full((3, 2), 0.5), np.ones((3, 2), np.int32))
    assert other.digest != labels.digest
    with pytest.raises(UserError, match='does not exist; write it with python -m'):
        PseudoLabels.read(tmp_path / 'other.npz')
    content = path.read_bytes()
    for damaged in (content[:200], b'', b'PK' * 100):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match='is no file of pseudo-labels'):
            PseudoLabels.read(path)
    np.savez(path, probabilities=np.ones((2, 2)))
    with pytest.raises(UserError, match='is no file of pseudo-labels'):
        PseudoLabels.read(path)


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    return write_labels(tmp_path_factory.mktemp('labels') / 'labels.npz', 'array_record')


def write_labels(path, file_format):
    """Pseudo-labels of all but 700 training digits: class (own label + 1) % 10 at 0.55."""
    config = small_config(path, **{'data.data_dir': prepared.data_dir('digits', file_format)})
    info = find_dataset(config.data)
    split = info.split(SPLIT)
    config.objective, config.pseudo_labels.file = 'supervised', ''
    own = {}
    for batch in input_pipeline.eval_batches(config, split=SPLIT, batch_size=67):
        real = batch['index'] >= 0
        own |= dict(zip(batch['index'][real], batch['label'][real], strict=True))
    label = np.array([own[index] for index in range(EXAMPLES)], np.int32)
    probabilities = certain((label + 1) % 10, np.full(EXAMPLES, 0.55))
    labels_of(probabilities, label=label, data=data_digest(info, split)).write(path)
    return path


def small_config(path, **settings):
    config = digits.get_config('debug').unlock()
    config.data.data_dir = prepared.data_dir('digits', 'array_record')
    config.data.train_split = 'train[:700]'
    config.data.augment = 'none'
    config.objective, config.pseudo_labels.file = 'pseudo_labels', str(path)
    config.batch_size = 16
    config.pseudo_labels.ratio = 3
    config.update_from_flattened_dict(settings)
    return config


def test_a_batch_holds_both_kinds_and_each_has_its_own_position(file):
    config = small_config(file)
    info = find_dataset(config.data)
    check_pseudo_labels(config, info)
    batches = take(input_pipeline.train_batches(config), 200)
    pattern = np.tile([False, True, True, True], 4)
    for batch in batches:
        np.testing.assert_array_equal(batch['is_pseudo'], pattern)
        assert batch['image'].dtype == np.uint8 and batch['label'].dtype == np.int32
        np.testing.assert_allclose(batch['target'].sum(1), pattern, rtol=1e-5)
        assert (batch['target'].argmax(1) == batch['label'])[pattern].all()
    labelled, pseudo = (
        np.concatenate([batch['index'][batch['is_pseudo'] == kind] for batch in batches])
        for kind in (False, True)
    )
    assert sorted(labelled[:700]) == list(range(700))
    for epoch in range(3):  # of the pseudo-labelled images
        one = pseudo[epoch * EXAMPLES : (epoch + 1) * EXAMPLES]
        assert sorted(one) == list(range(EXAMPLES))
    later = take(input_pipeline.train_batches(config, first_step=198), 2)
    halves = [
        take(
            input_pipeline.train_batches(
                config, first_step=198, process_index=index, process_count=2
            ),
            1,
        )[0]
        for index in range(2)
    ]
    for name in batches[0]:
        np.testing.assert_array_equal(later[1][name], batches[199][name])
        joined = np.concatenate([half[name] for half in halves])
        np.testing.assert_array_equal(joined, batches[198][name])


def test_the_digest_of_data_depends_on_no_way_to_write_its_directory(tmp_path, monkeypatch):
    config = folder_of(tmp_path, [good_file()] * 2)
    monkeypatch.chdir(tmp_path)
    found = set()
    for directory in (tmp_path, '.', './', '../' + tmp_path.name, f'{tmp_path}/'):
        config.data.data_dir = str(directory)
        info = find_dataset(config.data)
        found.add(data_digest(info, info.split('train')))
    # As it was written before, for which files of pseudo-labels are refused otherwise.
    files = [f'/train/a/{number:03d}.jpg' for number in range(2)]
    text = json.dumps([['a'], files]).encode()
    assert found == {hashlib.sha256(text).hexdigest()[:16]}


def test_images_without_labels_are_a_folder_of_one_class(tmp_path):
    """The labels are of ten classes and the folder has one, as docs/objectives.md describes."""
    folder = folder_of(tmp_path, [good_file()] * 12)
    folder.data.train_split = folder.data.eval_split = 'train'
    info = find_dataset(folder.data)
    found = labels_of(
        certain(np.arange(12) % 10, np.full(12, 0.9)),
        source='image_folder',
        name='',
        split='train',
        data=data_digest(info, info.split('train')),
    )
    found.write(tmp_path / 'labels.npz')
    settings = {'pseudo_labels.data_dir': str(tmp_path)}
    config = small_config(tmp_path / 'labels.npz', **settings)
    check_pseudo_labels(config, find_dataset(config.data))
    batch = next(input_pipeline.train_batches(config))
    own = batch['index'][batch['is_pseudo']]
    assert sorted(own) == list(range(12))
    np.testing.assert_array_equal(batch['label'][batch['is_pseudo']], own % 10)


def test_classes_and_a_computed_label_belong_to_their_own_data(tmp_path):
    """The labelled images and the pseudo-labelled ones may have other classes and labels."""
    folder = folder_of(tmp_path, [good_file()] * 4)
    folder.data.train_split = folder.data.eval_split = 'train'
    info = find_dataset(folder.data)
    of_folder = {'source': 'image_folder', 'name': '', 'split': 'train', 'num_classes': 2}
    of_folder |= {'data': data_digest(info, info.split('train'))}
    path = tmp_path / 'labels.npz'
    labels_of(certain(np.arange(4) % 2, np.full(4, 0.9), 2), **of_folder).write(path)
    settings = {'pseudo_labels.data_dir': str(tmp_path), 'data.classes': (7, 2)}
    config = small_config(path, **settings)
    check_pseudo_labels(config, find_dataset(config.data))
    assert len(find_dataset(sources_of(config)[1].config.data).split('train').labels) == 4

    path = tmp_path / 'digits.npz'
    part = small_config('', **{'data.classes': (7, 2)})
    info = find_dataset(part.data)
    split = info.split(SPLIT)
    found = labels_of(np.full((split.num_examples, 10), 0.1), data=data_digest(info, split))
    description = dataclasses.replace(found.description, classes=(7, 2))
    dataclasses.replace(found, description=description).write(path)
    assert PseudoLabels.read(path).description.classes == (7, 2)
    own = {'data.name': 'dsprites', 'data.label': 'x_position'}
    own |= {'pseudo_labels.data_dir': part.data.data_dir}
    data = sources_of(small_config(path, **own))[1].config.data
    assert (data.name, data.classes, data.label) == ('digits', (7, 2), '')


def test_a_file_without_classes_keeps_its_digest(tmp_path):
    """The description had neither classes nor a label; runs stored the digest of such files."""
    labels = labels_of(np.full((3, 10), 0.1))
    text = json.dumps(
        {
            'teacher': 'a teacher',
            'source': 'tfds',
            'name': 'digits',
            'split': SPLIT,
            'data': 'digest',
            'class_names': list(map(str, range(10))),
            'num_classes': 10,
        },
        sort_keys=True,
    ).encode()
    digest = hashlib.sha256(text)
    for name, array in {n: getattr(labels, n) for n in ('probabilities', 'label', 'mask')}.items():
        digest.update(f'{name} {array.dtype} {array.shape}\n'.encode() + array.tobytes())
    assert labels.digest == digest.hexdigest()[:16]
    labels.write(tmp_path / 'labels.npz')
    stored = dict(np.load(tmp_path / 'labels.npz'))
    assert stored['description'].tobytes() == text
    assert PseudoLabels.read(tmp_path / 'labels.npz').description == labels.description


def test_every_micro_batch_has_both_kinds_in_the_ratio(file):
    config = small_config(
        file, **{'optimizer.accumulation_steps': 4, 'pseudo_labels.ratio': 1, 'batch_size': 16}
    )
    batch = next(input_pipeline.train_batches(config))
    assert [batch['is_pseudo'][number::4].mean() for number in range(4)] == [0.5] * 4


def test_copies_of_an_image_are_augmented_differently(file):
    config = small_config(file, **{'pseudo_labels.per_class': 200, 'data.crop_area': (0.5, 1.0)})
    batches = take(input_pipeline.train_batches(config), 160)
    index = np.concatenate([batch['index'][batch['is_pseudo']] for batch in batches])
    images = np.concatenate([batch['image'][batch['is_pseudo']] for batch in batches])
    first = np.flatnonzero(index == index[0])
    assert len(first) > 1 and len({images[place].tobytes() for place in first}) == len(first)


def test_images_of_tfrecord_files_are_selected_and_copied(tmp_path):
    path = write_labels(tmp_path / 'labels.npz', 'tfrecord')
    settings = {'data.data_dir': prepared.data_dir('digits', 'tfrecord')}
    config = small_config(path, **settings, **{'pseudo_labels.per_class': 78})
    check_pseudo_labels(config, find_dataset(config.data))
    selection = sources_of(config)[1].selection
    batches = take(input_pipeline.train_batches(config), 780 // 12)
    index = np.concatenate([batch['index'][batch['is_pseudo']] for batch in batches])
    predicted = np.concatenate([batch['label'][batch['is_pseudo']] for batch in batches])
    assert sorted(index) == sorted(selection.examples)
    np.testing.assert_array_equal(np.bincount(predicted), 78)


def test_hard_labels_have_no_target(file):
    batch = next(input_pipeline.train_batches(small_config(file, **{'pseudo_labels.form': 'hard'})))
    assert 'target' not in batch and batch['is_pseudo'].sum() == 12


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'split': 'train[701:]'}, 'are of 737 examples, but .* has 736'),
        ({'data': 'other'}, r'are of other data than train\[700:\] of digits .*digest other, not'),
        ({'num_classes': 11}, 'are of 11 classes, but digits has 10; use a teacher of'),
        ({'class_names': tuple('abcdefghij')}, None),  # numbers cannot be compared with names
    ],
)
def test_labels_of_other_data_are_one_line(file, tmp_path, changes, message):
    stored = PseudoLabels.read(file)
    changed = dataclasses.replace(stored.description, **changes)
    probabilities = stored.probabilities
    if changed.num_classes == 11:
        probabilities = np.pad(probabilities, ((0, 0), (0, 1)))
    path = tmp_path / 'labels.npz'
    dataclasses.replace(stored, description=changed, probabilities=probabilities).write(path)
    config = small_config(path)
    info = find_dataset(config.data)
    if message is None:
        check_pseudo_labels(config, info)
        return
    with pytest.raises(UserError, match=message):
        check_pseudo_labels(config, info)


def test_images_in_another_order_are_refused(file, tmp_path):
    stored = PseudoLabels.read(file)
    path = tmp_path / 'labels.npz'
    dataclasses.replace(stored, label=np.roll(stored.label, 1)).write(path)
    with pytest.raises(UserError, match='has the label .* and had .* was written; write it anew'):
        next(input_pipeline.train_batches(small_config(path)))


def test_a_confidence_that_no_image_has_is_refused(file):
    config = small_config(file, **{'pseudo_labels.least_confidence': 0.9})
    with pytest.raises(UserError, match='no pseudo-label in .* has the least confidence 0.9'):
        check_pseudo_labels(config, find_dataset(config.data))
    assert find_images(PseudoLabels.read(file), find_dataset(config.data)).num_examples == EXAMPLES


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'pseudo_labels.file': ''}, "objective is 'pseudo_labels', but pseudo_labels.file is em"),
        ({'objective': 'supervised'}, "but objective is 'supervised', which has no pseudo-labels"),
        ({'batch_size': 18}, r'batch_size is 18, which 1 \+ pseudo_labels.ratio = 4 does not'),
        (
            {'optimizer.accumulation_steps': 8},
            'ratio = 4 x optimizer.accumulation_steps = 8 does not divide; make .* multiple of 32',
        ),
        (
            {'pseudo_labels.form': 'hard', 'pseudo_labels.temperature': 2.0},
            "is 2.0, but pseudo_labels.form is 'hard', which has none",
        ),
    ],
)
def test_settings_that_disagree(settings, message):
    config = small_config('FILE', **settings)
    with pytest.raises(UserError, match=message):
        check_settings(config)


def test_rows_have_the_published_settings():
    """2,048 labelled images in a batch at 0.128; ratio and magnitude of the code's scripts."""
    for row in pseudo_labels.ROWS:
        config = pseudo_labels.get_config(row).unlock()
        with pytest.raises(UserError, match='but pseudo_labels.file is empty'):
            check_settings(config)
        config.pseudo_labels.file = 'FILE'
        check_settings(config)
    student = pseudo_labels.get_config('b7')
    assert student.batch_size == 4 * 2048 and student.pseudo_labels.ratio == 3
    peak = student.optimizer.learning_rate * student.batch_size / 256
    assert peak == pytest.approx(0.128)
    assert (student.data.augment, student.data.randaugment_magnitude) == ('randaugment', 27)
    # An epoch is one of the labelled images: 350 of ImageNet in batches of 2,048 of them.
    lengths = dict(
        batch_size=student.batch_size, examples_per_epoch=images_per_epoch(student, 1_281_167)
    )
    assert to_steps(student.duration, **lengths) == round(350 * 1_281_167 / 2048)
    paper = pseudo_labels.get_config('paper')
    assert (paper.model.name, paper.data.image_size) == ('resnet_rs_152', 224)
    with pytest.raises(UserError, match="no row 'l2'"):
        pseudo_labels.get_config('l2')
