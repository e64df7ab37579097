"""A run that starts from another's weights keeps the classifier for the same classes alone."""

import logging
import pathlib
import shutil

import jax
import numpy as np
import pytest
from helpers import prepared
from helpers.hash_filled import hash_filled_variables
from helpers.numpy_evaluation import results_of

import train_lib
from configs import digits
from resnet_rs.config.stored import write_config
from resnet_rs.datasets.imagenet_classes import imagenet_names
from resnet_rs.datasets.splits import DatasetInfo
from resnet_rs.multihost import consistency
from resnet_rs.run import preflight, start
from resnet_rs.run.checkpoint import Checkpoints
from resnet_rs.run.class_names import stored_class_names
from resnet_rs.run.run_log import read_metrics
from resnet_rs.run.teacher import weights_digest
from resnet_rs.run.workdir import write_workdir
from resnet_rs.training.sharding import create_mesh
from resnet_rs.training.steps import create_program, model_of
from resnet_rs.training.transfer import transfer_head
from resnet_rs.utils.errors import UserError

pytestmark = pytest.mark.usefixtures('one_stage')

CLASSES = ('class0', 'class1', 'class2')
ROTATED = ('class2', 'class0', 'class1')


def small_config(**settings):
    """One step that changes nothing: the evaluation after it is that of the weights before it."""
    config = prepared.config('image_folder')
    config.model.update(
        {
            'name': 'resnet_14',
            'width_multiplier': 0.25,
            'num_classes': 3,
            'dtype': 'float32',
            'batch_norm_momentum': 1.0,
        }
    )
    config.duration = '1 step'
    config.optimizer.update({'learning_rate': 0.0, 'warmup': '0 steps'})
    config.update_from_flattened_dict(settings)
    return config


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """(work directory without class names, its EMA weights)."""
    config = small_config()
    ema = hash_filled_variables(model_of(config, batch_norm_group_size=None), 'float32')
    raw = jax.tree.map(lambda leaf: leaf * 0.9, ema)
    directory = tmp_path_factory.mktemp('source')
    write_workdir(directory, config, {'raw': raw, 'ema': ema})
    return directory, ema


def named(source, names, directory):
    """A copy of the source whose classes are called `names`."""
    shutil.copytree(source, directory)
    (directory / 'class_names.txt').write_text('\n'.join(names) + '\n')
    return directory


@pytest.mark.parametrize(
    'names, said',
    [
        (CLASSES, 'with its head'),
        (ROTATED, 'with its head, its columns put in the order of these classes'),
    ],
)
def test_a_head_for_the_same_classes_is_kept(names, said, source, no_report, tmp_path, caplog):
    directory, ema = source
    directory = named(directory, names, tmp_path / 'source')
    caplog.set_level(logging.INFO, 'absl')
    config = small_config(init_from=str(directory))
    train_lib.train_and_evaluate(config, str(tmp_path / 'run'))
    scores = read_metrics(tmp_path / 'run')[-1]
    right, losses = results_of(config, ema, lambda label: names.index(CLASSES[label]))
    for weights in ('raw', 'ema'):
        assert scores[f'{weights}_top1'] == pytest.approx(right.mean())
        assert scores[f'{weights}_loss'] == pytest.approx(losses.mean(), rel=1e-4)
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith('starting from') and line.endswith(said) for line in lines), lines


def test_another_class_makes_a_new_head(source, no_report, tmp_path, caplog):
    directory, ema = source
    directory = named(directory, CLASSES, tmp_path / 'source')
    data = shutil.copytree(prepared.image_folder(), tmp_path / 'data')
    for split in ('train', 'val'):
        (pathlib.Path(data) / split / 'class1').rename(pathlib.Path(data) / split / 'apple')
    config = small_config(**{'init_from': str(directory), 'data.data_dir': str(data)})
    caplog.set_level(logging.INFO, 'absl')
    state = jax.device_get(train_lib.train_and_evaluate(config, str(tmp_path / 'run')))
    new = create_program(config, create_mesh(), 72).init().variables['params']['head']
    for weights in (state.variables, state.ema):
        parts = dict(weights['params'])
        jax.tree.map(np.testing.assert_array_equal, parts.pop('head'), jax.device_get(new))
        expected = {name: part for name, part in ema['params'].items() if name != 'head'}
        jax.tree.map(np.testing.assert_array_equal, parts, jax.device_get(expected))
    assert any(
        "with a new head: class 'apple' is not among the classes of the source"
        in record.getMessage()
        for record in caplog.records
    )


def test_a_run_that_would_drop_its_init_from_does_not_start(source, tmp_path):
    """Preflight may count what orbax does not, such as an interrupted copy."""
    config = small_config(init_from=str(source[0]))
    program = create_program(config, create_mesh(), 72)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match='no complete checkpoint, .* not start from init_from='):
            start.start_or_resume(config, program, checkpoints, create_mesh(), None)


def test_hosts_compare_the_weights_that_a_run_starts_from(source, monkeypatch, tmp_path):
    """A directory of the same name may hold other weights on another host."""
    agreed = []
    monkeypatch.setattr(start.hosts, 'count', lambda: 2)
    monkeypatch.setattr(start.provenance, 'agree', lambda what, facts: agreed.append(facts))
    other = tmp_path / 'other'
    ema = jax.tree.map(lambda leaf: leaf * 0.5, source[1])
    write_workdir(other, small_config(), {'raw': ema, 'ema': ema})
    for directory in (source[0], source[0], other):
        config = small_config(init_from=str(directory))
        program = create_program(config, create_mesh(), 72)
        info = preflight.check_dataset(config)
        assert start.check_init_from(config, info, str(tmp_path / 'run'), program).step == 0
    first, again, differs = agreed
    assert first == again
    assert first['step of init_from'] == differs['step of init_from'] == '0'
    assert first['weights of init_from'] == weights_digest(jax.device_get(source[1]))
    assert 'weights of init_from is' in consistency.first_difference(differs, first)


def test_a_run_starts_from_the_step_that_was_checked(source, tmp_path):
    """The run in init_from may save another checkpoint in the meantime."""
    directory = named(source[0], CLASSES, tmp_path / 'source')
    config = small_config(init_from=str(directory))
    program = create_program(config, create_mesh(), 72)
    info = preflight.check_dataset(config)
    checked = start.check_init_from(config, info, str(tmp_path / 'run'), program)
    later = {'raw': program.init().variables, 'ema': program.init().variables}
    write_workdir(tmp_path / 'later', small_config(), later)
    shutil.copytree(tmp_path / 'later/checkpoints/0', directory / 'checkpoints/5')
    state = start.fine_tuning_start(str(directory), program.init(), checked)
    jax.tree.map(np.testing.assert_array_equal, state.ema, source[1])
    shutil.rmtree(directory / 'checkpoints/0')
    with pytest.raises(UserError, match=r"no checkpoint '0' in .* and steps \[5\]"):
        start.fine_tuning_start(str(directory), program.init(), checked)


def test_mode_check_says_what_becomes_of_the_head(source, tmp_path, monkeypatch):
    # Both take long.
    monkeypatch.setattr(train_lib, 'compile_steps', lambda *arguments: (None, 'memory: enough'))
    monkeypatch.setattr(train_lib.data_check, 'check_data', lambda *arguments: [])
    directory = named(source[0], ROTATED, tmp_path / 'source')
    text = train_lib.check(small_config(init_from=str(directory)), str(tmp_path / 'run'))
    assert f'starts from the EMA weights in {directory}, with its head, its columns' in text
    text = train_lib.check(small_config(init_from=str(source[0])), str(tmp_path / 'run'))
    assert 'with a new head: the source has no class_names.txt; to keep its head, write' in text
    config = small_config(**{'init_from': str(directory), 'model.width_multiplier': 0.5})
    with pytest.raises(UserError, match='of shape .* the network of this configuration'):
        train_lib.check(config, str(tmp_path / 'run'))


def test_class_names_of_another_number_than_the_head_are_refused(source, tmp_path):
    directory = named(source[0], ('class0', 'class1'), tmp_path / 'source')
    with pytest.raises(UserError, match='class_names.txt has 2 names, but the network has 3'):
        train_lib.train_and_evaluate(small_config(init_from=str(directory)), str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    'stored, names, columns',
    [
        (CLASSES, CLASSES, (0, 1, 2)),
        (ROTATED, CLASSES, (1, 2, 0)),
        (('0', '1', '2'), CLASSES, None),
        (CLASSES, ('0', '1', '2'), None),
        ((), CLASSES, None),
        (('0', '1', '2'), ('0', '1', '2'), None),
        (('class0', 'class1', 'other'), CLASSES, None),
        (CLASSES[:2], CLASSES, None),
        (('0', '1'), CLASSES, None),
    ],
)
def test_columns_of_a_head(stored, names, columns):
    number = len(stored) or 3
    assert transfer_head(stored, number, names).columns == columns


@pytest.mark.parametrize(
    'settings, kept',
    [
        ({}, True),
        ({'data.name': 'digits:1.0.0'}, True),
        ({'data.name': 'mnist'}, False),
        ({'data.label': 'orientation'}, False),
        ({'data.source': 'image_folder', 'data.data_dir': 'digits'}, False),
    ],
)
def test_numbered_classes_are_the_same_in_the_same_dataset_alone(settings, kept, tmp_path):
    """'0' to '9' of scanned digits may be anything in another set of ten numbered classes."""
    names = tuple(map(str, range(10)))
    config = digits.get_config().unlock()
    write_config(tmp_path, config)
    (tmp_path / 'class_names.txt').write_text('\n'.join(names) + '\n')
    config.update_from_flattened_dict({'init_from': str(tmp_path)} | settings)
    info = DatasetInfo('any', 'any', 'tfrecord', names, {})
    head = preflight.find_head(config, info, tmp_path / 'new')
    assert head.columns == (tuple(range(10)) if kept else None)
    start = 'with its head: names that are only numbers' if kept else 'with a new head: the classes'
    assert head.described.startswith(start)


def test_converted_weights_of_1000_classes_are_those_of_imagenet(tmp_path):
    synsets = tuple(imagenet_names())
    assert stored_class_names(tmp_path, 1000) == synsets
    assert stored_class_names(tmp_path, 999) == ()
    own = tuple(f'bird {number}' for number in range(1000))
    assert transfer_head(synsets, 1000, own).columns is None
    assert transfer_head(synsets, 1000, synsets).columns == tuple(range(1000))
