"""Learning from pseudo-labels: the loss, the command that makes them, and whole runs."""

import argparse
import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from etils import epath
from helpers import processes
from helpers.input_batches import batch_of
from helpers.random_network import digits_config, write_network
from helpers.whole_runs import Killed, train_until_killed, without_time

import train_lib
from resnet_rs import pseudo_label
from resnet_rs.config.stored import write_config
from resnet_rs.datasets.pseudo_labels import Description, PseudoLabels
from resnet_rs.datasets.splits import DatasetInfo, SplitInfo
from resnet_rs.models import init_variables
from resnet_rs.run import labelling
from resnet_rs.run.checkpoint import Checkpoints
from resnet_rs.run.run_log import read_metrics
from resnet_rs.training.networks import model_of, normalise
from resnet_rs.training.objectives import create_objective
from resnet_rs.training.sharding import create_mesh, to_global
from resnet_rs.training.steps import create_program
from resnet_rs.utils.errors import UserError

pytestmark = pytest.mark.usefixtures('one_stage')

SPLIT = 'train[700:]'
EXAMPLES = 737


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp('teacher') / 'run')


@pytest.fixture(scope='module')
def file(teacher, tmp_path_factory):
    path = tmp_path_factory.mktemp('labels') / 'labels.npz'
    images = labelling.find_images(teacher, SPLIT)
    labelling.label_images(teacher, 'last', images, path)
    return path


def small_config(file, **settings):
    config = digits_config()
    config.data.train_split = 'train[:700]'
    config.model.batch_norm_group_size = 4
    config.duration = '6 steps'
    config.eval.every = '6 steps'
    config.checkpoint.every = '2 steps'
    config.log.every = '3 steps'
    config.optimizer.warmup = '0 steps'
    config.objective, config.pseudo_labels.file = 'pseudo_labels', str(file)
    config.pseudo_labels.ratio = 3
    config.update_from_flattened_dict(settings)
    return config


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


@pytest.mark.parametrize('form', ['soft', 'hard'])
@pytest.mark.parametrize('normalise_by', ['all_images', 'labelled_images'])
def test_losses_are_those_of_the_formula(form, normalise_by):
    """Soft: -sum p log q without smoothing; hard and labelled: -log q of the smoothed label."""
    settings = {'pseudo_labels.form': form, 'pseudo_labels.normalise_by': normalise_by}
    objective = create_objective(small_config('FILE', **settings))
    random = np.random.default_rng(0)
    logits, target = random.normal(size=(8, 10)), random.dirichlet(np.ones(10), 8)
    label, is_pseudo = target.argmax(1), np.arange(8) % 4 > 0
    batch = {'image': jnp.zeros((8, 1)), 'label': label, 'is_pseudo': jnp.array(is_pseudo)}
    if form == 'soft':
        batch['target'] = jnp.array(target)
    apply = lambda images, rngs: (jnp.array(logits), {})  # noqa: E731
    losses, _, values = objective.losses(apply, batch, {}, {})
    log_q = np.log(softmax(logits))
    expected = -(0.9 * log_q[np.arange(8), label] + 0.1 * log_q.mean(1))
    if form == 'soft':
        expected = np.where(is_pseudo, -(target * log_q).sum(1), expected)
    scale = 4 if normalise_by == 'labelled_images' else 1
    np.testing.assert_allclose(losses, scale * expected, rtol=1e-5)
    if scale == 4:  # the mean over labelled images, and ratio times that over pseudo-labelled ones
        parts = expected[~is_pseudo].mean() + 3 * expected[is_pseudo].mean()
        assert losses.mean() == pytest.approx(parts, rel=1e-5)
    np.testing.assert_allclose(values['pseudo_loss'], np.where(is_pseudo, expected, 0), rtol=1e-5)
    assert values['labelled_images'].sum() == 2 and values['pseudo_images'].sum() == 6


def test_without_pseudo_labelled_images_it_is_supervised_learning():
    config = small_config('FILE')
    logits = jnp.array(np.random.default_rng(0).normal(size=(6, 10)))
    batch = {'image': jnp.zeros((6, 1)), 'label': jnp.arange(6)}
    pseudo = {'is_pseudo': jnp.zeros(6, bool), 'target': jnp.zeros((6, 10))}
    apply = lambda images, rngs: (logits, {})  # noqa: E731
    found = create_objective(config).losses(apply, batch | pseudo, {}, {})[0]
    config.objective, config.pseudo_labels.file = 'supervised', ''
    expected = create_objective(config).losses(apply, batch, {}, {})[0]
    np.testing.assert_array_equal(found, expected)


def run(config, devices, batch):
    mesh = create_mesh(jax.devices()[:devices])
    program = create_program(config, mesh, 700 * 4)
    state = program.init()
    for _ in range(2):
        state, metrics = program.train_step(state, to_global(batch, mesh), {})
    return jax.device_get((state, metrics))


def test_eight_devices_are_one_and_mixed_targets_keep_their_kind():
    batch = batch_of(32)
    is_pseudo = np.arange(32) % 4 > 0
    target = np.random.default_rng(0).dirichlet(np.ones(10), 32).astype(np.float32)
    batch |= {'is_pseudo': is_pseudo, 'target': target * is_pseudo[:, None]}
    config = small_config('FILE', **{'batch_size': 32, 'data.mixup_alpha': 0.5})
    (one, metrics), (eight, others) = (run(config, devices, batch) for devices in (1, 8))
    for name, value in metrics.items():
        assert value == pytest.approx(others[name], rel=1e-3, abs=1e-5), name
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3),
        one.variables,
        eight.variables,
    )
    assert (metrics['labelled_images'], metrics['pseudo_images']) == (16, 48)  # of two steps
    shares = 0.25 * metrics['labelled_loss'] + 0.75 * metrics['pseudo_loss']
    assert metrics['loss'] == pytest.approx(shares, rel=1e-5)


def test_labels_are_the_probabilities_of_the_teacher(teacher, file):
    labels = PseudoLabels.read(file)
    config = digits_config()
    with Checkpoints(teacher, read_only=True) as source:
        like = jax.eval_shape(
            lambda: init_variables(model_of(config, batch_norm_group_size=None), 32)
        )
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        variables = source.restore_weights(0, like)['ema']
    batch = next(iter(labelling.find_images(teacher, SPLIT).batches()))
    network = model_of(config, batch_norm_group_size=None)
    logits = network.apply(variables, normalise(jnp.asarray(batch['image']), config), False)
    found = labels.probabilities[batch['index']]
    np.testing.assert_allclose(found, softmax(np.asarray(logits)), atol=1e-5)
    np.testing.assert_array_equal(labels.label[batch['index']], batch['label'])
    assert labels.mask.all() and len(labels.label) == EXAMPLES
    np.testing.assert_allclose(labels.probabilities.sum(1), 1, atol=1e-5)


def test_settings_from_flags_are_checked(tmp_path):
    config = digits_config()
    directory, config.data.data_dir = config.data.data_dir, ''
    config.data.classes, config.model.num_classes = (7, 12), 2
    config.data.name, config.data.label = 'dsprites', 'x_position'
    write_config(tmp_path, config)
    digits = {'data.name': 'digits', 'data.data_dir': directory}
    for settings, message in (
        (digits | {'data.classes': (3, 3)}, r'data.classes is \(3, 3\); it takes different'),
        ({'data.source': 'image_folder'}, 'but data.data_dir is empty; name the folder'),
        ({'eval.image_size': 8}, 'eval.image_size is 8; it takes'),
    ):
        with pytest.raises(UserError, match=message):
            labelling.find_images(tmp_path, 'train', settings)
    images = labelling.find_images(tmp_path, 'train', digits)
    assert images.config.data.label == '' and images.info.num_classes == 10
    part = labelling.find_images(tmp_path, 'train', digits | {'data.classes': (7, 2)})
    assert part.info.class_names == ('7', '2')


def test_labelling_resumes_and_refuses_another_teacher(teacher, file, monkeypatch, tmp_path):
    path = tmp_path / 'labels.npz'
    images = labelling.find_images(teacher, SPLIT)
    outputs = labelling.outputs_of
    counted = []

    def killed(*arguments):
        for number, found in enumerate(outputs(*arguments)):
            if number == 5:
                raise Killed
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(labelling, 'outputs_of', killed)
        with pytest.raises(Killed):
            labelling.label_images(teacher, 'last', images, path, save_every=2)
    assert not path.exists()
    with pytest.raises(UserError, match='parts was begun with top = 0, not 3; delete it'):
        labelling.label_images(teacher, 'last', images, path, top=3)
    other = write_network(tmp_path / 'other', seed=1)
    with pytest.raises(UserError, match='parts was begun with teacher = .* delete it to begin'):
        labelling.label_images(other, 'last', labelling.find_images(other, SPLIT), path)
    monkeypatch.setattr(
        labelling, 'outputs_of', lambda *a: (counted.append(1) or each for each in outputs(*a))
    )
    labels = labelling.label_images(teacher, 'last', images, path, save_every=2)
    assert len(counted) == 8 - 4 and not path.with_name('labels.npz.parts').exists()
    assert labels.digest == PseudoLabels.read(file).digest
    labelling.label_images(teacher, 'last', images, path)
    assert len(counted) == 4  # it is there already
    with pytest.raises(
        UserError,
        match='holds other probabilities than this command would write: of 10 .*; delete it',
    ):
        labelling.label_images(teacher, 'last', images, path, top=2)


def test_a_process_that_finds_the_facts_waits_for_the_others_too(monkeypatch, tmp_path):
    waited = []
    monkeypatch.setattr(labelling.hosts, 'barrier', waited.append)
    for _ in range(2):  # process 0 may write them before process 1 looks
        assert labelling._resume(tmp_path / 'parts', {'top': 0}) == 0
    assert len(waited) == 2


def test_parts_without_their_facts_are_refused(tmp_path):
    (tmp_path / '00000000-00000003.npz').touch()  # of any teacher
    with pytest.raises(UserError, match=f'{labelling.FACTS}.*delete it to begin'):
        labelling._resume(tmp_path, {'top': 0})
    assert not (tmp_path / labelling.FACTS).exists()


def test_labels_are_written_to_a_bucket(teacher, file, tmp_path, monkeypatch):
    """pathlib would write gs://bucket as gs:/bucket; a folder stands in for the bucket."""
    path_of = epath.Path
    monkeypatch.setattr(
        epath, 'Path', lambda path: path_of(str(path).replace('gs://bucket', str(tmp_path)))
    )
    monkeypatch.chdir(tmp_path)
    pseudo_label.main(
        [f'--workdir={teacher}', f'--split={SPLIT}', '--output=gs://bucket/labels.npz']
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        'labels.npz',
        'labels_histogram.png',
        'labels_images.png',
    }
    assert PseudoLabels.read(tmp_path / 'labels.npz').digest == PseudoLabels.read(file).digest


def test_two_hosts_label_as_one(teacher, file, tmp_path):
    path = tmp_path / 'labels.npz'
    command = ('tests/helpers/small_runs.py', 'resnet_rs/pseudo_label.py')
    arguments = (f'--workdir={teacher}', f'--split={SPLIT}', f'--output={path}', '--save_every=3')
    ended = processes.finish(processes.start(2, *command, *arguments, devices=2))
    for status, _, errors in ended:
        assert status == 0, errors[-3000:]
    outputs = [output for _, output, _ in ended]
    told = ['737 images of train[700:] of digits' in output for output in outputs]
    assert told == [True, False]
    found, one = PseudoLabels.read(path), PseudoLabels.read(file)
    assert found.description == one.description
    np.testing.assert_allclose(found.probabilities, one.probabilities, atol=1e-5)
    np.testing.assert_array_equal(found.label, one.label)
    assert found.mask.all() and not list(tmp_path.glob('*.parts'))


def test_the_command_keeps_the_likeliest_classes_and_draws(teacher, file, tmp_path, capsys):
    path = tmp_path / 'top.npz'
    arguments = [f'--workdir={teacher}', f'--split={SPLIT}', f'--output={path}', '--top=3']
    pseudo_label.main([*arguments, '--least_confidence=0.1', '--per_class=20'])
    shown = capsys.readouterr().out
    assert '737 images of train[700:] of digits, labelled by resnet_rs_14, step 0' in shown
    assert '20 images per class' in shown
    found, whole = PseudoLabels.read(path), PseudoLabels.read(file)
    order = np.argsort(-whole.probabilities, 1, kind='stable')[:, :3]
    np.testing.assert_allclose(
        found.probabilities, np.take_along_axis(whole.probabilities, order, 1), atol=1e-6
    )
    np.testing.assert_array_equal(found.predicted, whole.predicted)
    for name in ('top_histogram.png', 'top_images.png'):
        assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')
    for wrong, message in (
        (f'--output={tmp_path}/none/labels.npz', 'must be an .npz file in a directory that exi'),
        ('--split=trian', "has no split 'trian'"),
        ('--batch_size=12', '--batch_size is 12, which'),
    ):
        with pytest.raises(SystemExit) as stop:
            pseudo_label.main([*arguments, wrong])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and message in error
        assert error.splitlines()[-1].startswith('error: ')


def report_of(monkeypatch, labels, images, data):
    monkeypatch.setattr(pseudo_label, 'PAGE_IMAGES', 0)
    monkeypatch.setattr('resnet_rs.run.certainty.write', lambda *arguments: [])
    options = argparse.Namespace(least_confidence=0.0, per_class=0)
    return pseudo_label._report(labels, images, 'FILE', options, data)


def test_the_report_compares_classes_by_name_and_tells_why_images_are_left_out(monkeypatch):
    """Classes of the same number alone are not the same classes."""
    probabilities = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
    description = Description('', 'tfds', 'pets', 'train', '', ('cat', 'dog', 'cow'), 3)
    mask = np.array([True, True, True, False, False])
    labels = PseudoLabels(description, probabilities, None, np.array([2, 0, 1, 0, -1]), mask)
    data = ml_collections.ConfigDict(
        {'source': 'tfds', 'name': 'pets', 'data_dir': '', 'classes': (), 'label': ''}
    )

    def images_of(*class_names, **changes):
        info = DatasetInfo('pets', '/', 'tfrecord', class_names, {})
        config = ml_collections.ConfigDict({'data': data.to_dict() | changes})
        return labelling.Images(config, info, SplitInfo('train', 5))

    text = report_of(monkeypatch, labels, images_of('dog', 'cow', 'cat'), data)
    assert 'own labels agree with 100.00% of the predictions' in text
    assert '1 image cannot be decoded and will not' in text
    assert '1 image without a right class will not be chosen' in text
    assert 'agree' not in report_of(monkeypatch, labels, images_of('a', 'b', 'c'), data)
    numbers = dataclasses.replace(description, class_names=('0', '1', '2'))
    labels = dataclasses.replace(labels, description=numbers)
    text = report_of(monkeypatch, labels, images_of('0', '1', '2'), data)
    assert 'agree with 0.00%' in text
    others = images_of('0', '1', '2', name='others')
    assert 'agree' not in report_of(monkeypatch, labels, others, data)


def test_a_run_resumes_with_its_bits_and_with_its_labels_alone(
    file, no_report, monkeypatch, tmp_path
):
    config = small_config(file, **{'pseudo_labels.per_class': 30, 'data.mixup_alpha': 0.5})
    whole = train_lib.train_and_evaluate(config, str(tmp_path / 'whole'))
    workdir = tmp_path / 'killed'
    train_until_killed(config, workdir, step=4)
    labels = PseudoLabels.read(file)
    other = tmp_path / 'other.npz'
    dataclasses.replace(labels, probabilities=labels.probabilities[:, ::-1]).write(other)
    config.pseudo_labels.file = str(other)
    with monkeypatch.context() as patch:
        patch.setattr(train_lib, 'compile_steps', lambda *arguments: pytest.fail('compiled'))
        with pytest.raises(UserError, match='is not the one with which .* its labels changed'):
            train_lib.train_and_evaluate(config, str(workdir))
    moved = tmp_path / 'moved.npz'  # the same labels elsewhere
    moved.write_bytes(file.read_bytes())
    config.pseudo_labels.file = str(moved)
    resumed = train_lib.train_and_evaluate(config, str(workdir))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), jax.device_get(whole))

    assert without_time(workdir) == without_time(tmp_path / 'whole')
    first = read_metrics(workdir)[0]
    assert (first['labelled_images'], first['pseudo_images']) == (12, 36)  # of three steps of 16
    assert {'labelled_loss', 'pseudo_loss', 'labelled_top1', 'pseudo_top1'} <= first.keys()
    facts = json.loads((workdir / 'pseudo_labels.json').read_text())
    assert facts['labels'] == labels.digest


def test_a_check_says_what_a_run_learns_from(file, run_main, tmp_path):
    config = small_config(file)
    text = train_lib.check(config, str(tmp_path / 'run'))
    assert 'learning from 737 of the 737 pseudo-labelled images in train[700:] of digits: ' in text
    assert 'or 0.03429 epochs, 700 training images' in text  # 6 steps of 4 labelled images
