"""Parts of a split by class and by label: NumPy's draw, images and labels, and wrong requests."""

import numpy as np
import pytest
from helpers import prepared

import input_pipeline
from resnet_rs.datasets import subsets
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.pseudo_labels import data_digest
from resnet_rs.utils.errors import UserError


@pytest.fixture(scope='module')
def scans():
    """The labels and the images of the training digits, as scikit-learn and tfds have them."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.target[:1437], np.round(digits.images[:1437] * (255 / 16)).astype(np.uint8)


def config(source='array_record', **data):
    made = prepared.small_config(image_size=32)
    if source == 'image_folder':
        made.data.source, made.data.data_dir = source, prepared.image_folder()
    else:
        made.data.name = 'digits'
        made.data.data_dir = prepared.data_dir('digits', source)
    made.data.update(data)
    return made


def drawn(labels, classes, count, seed):
    """The first `count` of each class's images in NumPy's permutation by [seed, class]."""
    return np.sort(
        np.concatenate(
            [
                np.random.default_rng([seed, number]).permutation(
                    [place for place, label in enumerate(labels) if label == number]
                )[:count]
                for number in classes
            ]
        )
    )


def test_a_draw_and_its_rest_are_those_of_numpy(scans):
    labels, _ = scans
    info = find_dataset(config().data)
    taken = info.split('train[100:900], 7 per class, seed 3')
    expected = drawn(labels[100:900], range(10), 7, seed=3)
    np.testing.assert_array_equal(taken.records, expected)
    assert taken.num_examples == 70
    rest = info.split('train[100:900] except 7 per class, seed 3')
    assert sorted(taken.records + rest.records) == list(range(800))
    assert set(info.split('train[100:900], 3 per class, seed 3').records) < set(taken.records)
    other = info.split('train[100:900], 7 per class, seed 4')
    assert other.records != taken.records
    assert data_digest(info, other) != data_digest(info, taken)


def test_images_and_labels_of_some_classes(scans):
    labels, images = scans
    classes = (7, 2, 5)
    settings = config(classes=classes, eval_split='train[:600]', eval_crop='fraction 1')
    settings.data.resize = 'bicubic'
    info = find_dataset(settings.data)
    assert info.class_names == ('7', '2', '5')
    expected = np.flatnonzero(np.isin(labels[:600], classes))
    batches = input_pipeline.eval_batches(settings, batch_size=64, image_size=16)
    found = [{name: batch[name][batch['mask'] > 0] for name in batch} for batch in batches]
    joined = {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}
    np.testing.assert_array_equal(joined['index'], np.arange(len(expected)))
    np.testing.assert_array_equal(
        joined['label'], [classes.index(label) for label in labels[expected]]
    )
    # The scans have 8 pixels: twice as large, their means over squares stay close.
    means = joined['image'][..., 0].reshape(-1, 8, 2, 8, 2).mean((2, 4))
    assert np.abs(means - images[expected]).mean() < 12
    assert np.abs(means - images[: len(expected)]).mean() > 40


def test_training_sees_every_drawn_image_once_an_epoch(scans):
    labels, _ = scans
    settings = config(classes=(3, 1), train_split='train, 12 per class, seed 5')
    batches = input_pipeline.train_batches(settings)
    seen = [next(batches) for _ in range(3)]
    places = np.concatenate([batch['index'] for batch in seen])
    assert sorted(places) == list(range(24))
    expected = drawn(labels, (3, 1), 12, seed=5)
    of_seen = np.concatenate([batch['label'] for batch in seen])
    np.testing.assert_array_equal(of_seen, [(3, 1).index(labels[expected[k]]) for k in places])


def test_a_part_of_an_image_folder():
    settings = config('image_folder', classes=(2, 0), eval_split='val')
    info = find_dataset(settings.data)
    whole = find_dataset(config('image_folder', eval_split='val').data)
    part = info.split('train, 4 per class, seed 1')
    of_class = [np.flatnonzero(np.array(whole.split('train').labels) == k) for k in (0, 1, 2)]
    expected = np.sort(
        np.concatenate([np.random.default_rng([1, k]).permutation(of_class[k])[:4] for k in (2, 0)])
    )
    assert part.images == tuple(whole.split('train').images[k] for k in expected)
    assert part.labels == tuple(0 if 'class2' in image else 1 for image in part.images)
    assert info.split('val').num_examples == 5 + 7


def test_wrong_requests():
    info = find_dataset(config().data)
    with pytest.raises(UserError, match="class '0' has 143 images in train, fewer than the"):
        info.split('train, 200 per class, seed 0')
    with pytest.raises(UserError, match='holds no example'):
        info.split('train, 0 per class, seed 0')
    with pytest.raises(UserError, match="has no split 'train, few per class"):
        info.split('train, few per class, seed 0')
    with pytest.raises(UserError, match='data.classes has 10, but the classes of digits are 0 to'):
        find_dataset(config(classes=(0, 10)).data)
    assert subsets.parse('train[:9]+test') == ('train[:9]+test', None)
