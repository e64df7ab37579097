"""Every format gives the same weights and, through the command, timm's logits."""

import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest
import safetensors.numpy
from helpers.foreign_weights import (
    garden_tensors,
    tf1_tensors,
    timm_state,
    write_checkpoint,
    write_keras,
)
from helpers.hash_filled import hash_images

from resnet_rs.convert.__main__ import main
from resnet_rs.convert.weights import paths_of
from resnet_rs.run.workdir import load_workdir

REFERENCE = pathlib.Path(__file__).parents[1] / 'models' / 'reference_logits.json'


def convert(*arguments) -> None:
    main([str(argument) for argument in arguments])


def arrays_of(workdir, which='ema') -> dict[str, np.ndarray]:
    return paths_of(load_workdir(workdir, which)[2])


def assert_same(some: dict, other: dict) -> None:
    assert some.keys() == other.keys()
    for path, array in some.items():
        np.testing.assert_array_equal(array, other[path], err_msg=path)


@pytest.fixture(scope='module')
def state():
    return timm_state('resnetrs14')


@pytest.fixture(scope='module')
def expected(state, tmp_path_factory):
    """Our leaves of the hash-filled ResNet-RS-14, through timm's format."""
    directory = tmp_path_factory.mktemp('expected')
    safetensors.numpy.save_file(state, directory / 'rs.safetensors')
    convert('--source=timm', directory / 'rs.safetensors', f'--output={directory / "out"}')
    return arrays_of(directory / 'out')


@pytest.mark.parametrize(
    'timm_name, name', [('resnet18', 'resnet_18'), ('resnetrs50', 'resnet_rs_50')]
)
def test_timm_logits(timm_name, name, tmp_path):
    file = tmp_path / f'{timm_name}_i64.safetensors'
    tensors = timm_state(timm_name)
    tensors |= {'bn1.num_batches_tracked': np.zeros((), np.int64)}
    safetensors.numpy.save_file(tensors, file)
    convert('--source=timm', file, f'--output={tmp_path / "out"}')

    config, model, variables = load_workdir(tmp_path / 'out', 'ema', dtype='float32')
    assert (config.model.name, config.data.image_size) == (name, 64)
    assert (config.data.eval_crop, config.data.resize) == {
        'resnet_18': ('fraction 0.875', 'bicubic_antialias'),  # trained by timm
        'resnet_rs_50': ('padding 32', 'bicubic_tf1'),
    }[name]
    reference = json.loads(REFERENCE.read_text())['logits'][f'{timm_name}@64']
    images = hash_images(64).astype(np.float32)
    logits = np.asarray(jax.jit(model.apply, static_argnums=2)(variables, images, False))
    tolerance = 1e-4 * reference['std']
    assert np.abs(logits[0, :5] - reference['first5']).max() <= tolerance
    assert abs(logits.mean() - reference['mean']) <= tolerance
    assert logits.argmax() == reference['argmax']


def test_timm_round_trip(expected, state, tmp_path):
    safetensors.numpy.save_file(state, tmp_path / 'in.safetensors')
    convert('--source=timm', tmp_path / 'in.safetensors', f'--output={tmp_path / "out"}')
    file = tmp_path / 'back.safetensors'
    convert('--to=timm', f'--workdir={tmp_path / "out"}', f'--output={file}', '--checkpoint=0')
    back = safetensors.numpy.load_file(file)
    counters = {key for key in back if key.endswith('num_batches_tracked')}
    assert len(counters) == sum(key.endswith('running_mean') for key in state)
    assert_same({key: back[key] for key in back.keys() - counters}, state)


def test_tf1_averages_and_raw_weights(state, expected, tmp_path):
    averages = tf1_tensors(state)
    raw = {name: array + 1 for name, array in averages.items()}
    tensors = raw | {f'{k}/ExponentialMovingAverage': v for k, v in averages.items()}
    tensors |= {'global_step': np.int64(7), 'dense/bias/Momentum': averages['dense/bias']}
    prefix = tmp_path / 'resnet-rs-14-i96' / 'model.ckpt'
    write_checkpoint(prefix, tensors)
    convert('--source=tf1', prefix.parent, f'--output={tmp_path / "both"}')
    assert_same(arrays_of(tmp_path / 'both', 'ema'), expected)
    plus_one = {path: array + 1 for path, array in expected.items()}
    assert_same(arrays_of(tmp_path / 'both', 'raw'), plus_one)
    assert load_workdir(tmp_path / 'both', 'raw')[0].data.image_size == 96

    convert('--source=tf1', '--weights=raw', prefix, f'--output={tmp_path / "raw"}')
    assert_same(arrays_of(tmp_path / 'raw', 'ema'), plus_one)


def test_tf1_tarball_without_checkpoint_file(state, expected, tmp_path):
    averages = {f'{k}/ExponentialMovingAverage': v for k, v in tf1_tensors(state).items()}
    write_checkpoint(tmp_path / 'files' / 'model.ckpt', averages)
    archive = tmp_path / 'resnet-rs-14-i96.tar.gz'
    with tarfile.open(archive, 'w:gz', compresslevel=1) as tar:
        tar.add(tmp_path / 'files', 'resnet-rs-14-i96')
    convert('--source=tf1', archive, f'--output={tmp_path / "out"}')
    assert_same(arrays_of(tmp_path / 'out', 'ema'), expected)
    assert_same(arrays_of(tmp_path / 'out', 'raw'), expected)


@pytest.mark.parametrize(
    'layout',
    [{}, {'projection_first': True}, {'group': 'model_weights'}, {'parts': 3}, {'names': False}],
    ids=str,
)
def test_keras(layout, state, expected, tmp_path):
    write_keras(tmp_path / 'rs.h5', state, **layout)
    convert('--source=keras', tmp_path / 'rs.h5', f'--output={tmp_path / "out"}')
    assert_same(arrays_of(tmp_path / 'out'), expected)


def test_keras_without_top_gets_a_new_head(state, expected, tmp_path, capsys):
    write_keras(tmp_path / 'rs_notop.h5', state, top=False)
    convert(
        '--source=keras',
        tmp_path / 'rs_notop.h5',
        '--num_classes=12',
        f'--output={tmp_path / "out"}',
    )
    assert 'NEWLY INITIALISED' in capsys.readouterr().out
    arrays = arrays_of(tmp_path / 'out')
    kernel, bias = arrays.pop('head/kernel'), arrays.pop('head/bias')
    assert_same(arrays, {k: v for k, v in expected.items() if not k.startswith('head/')})
    assert kernel.shape == (2048, 12) and 0.009 < kernel.std() < 0.011
    assert bias.shape == (12,) and not bias.any()


def test_model_garden(state, expected, tmp_path):
    tensors = garden_tensors(state)
    slot = 'backbone/layer_with_weights-0/kernel/.OPTIMIZER_SLOT/optimizer/momentum'
    tensors |= {
        '_CHECKPOINTABLE_OBJECT_GRAPH': np.asarray(b'graph'),
        'save_counter/.ATTRIBUTES/VARIABLE_VALUE': np.int64(1),
        f'{slot}/.ATTRIBUTES/VARIABLE_VALUE': np.zeros(3, np.float32),
    }
    write_checkpoint(tmp_path / 'resnet-rs-14-i96' / 'ckpt-1', tensors)
    convert('--source=model_garden', tmp_path / 'resnet-rs-14-i96', f'--output={tmp_path / "out"}')
    config, model, variables = load_workdir(tmp_path / 'out', 'ema')
    assert_same(paths_of(variables), expected)
    assert config.data.eval_crop == 'fraction 0.875' and config.data.resize == 'bilinear'
    architecture = model.architecture
    assert (architecture.activation, architecture.padding) == ('swish', 'same')
    assert architecture.pool_unstrided_shortcut and architecture.num_classes == 1000


def test_model_garden_averages(state, expected, tmp_path):
    suffix = '/.ATTRIBUTES/VARIABLE_VALUE'
    averages = garden_tensors(state)
    tensors = {name: array + 1 for name, array in averages.items()} | {
        name.replace(suffix, f'/.OPTIMIZER_SLOT/optimizer/average{suffix}'): array
        for name, array in averages.items()
    }
    write_checkpoint(tmp_path / 'rs' / 'ckpt-1', tensors)
    convert('--source=model_garden', tmp_path / 'rs' / 'ckpt-1', f'--output={tmp_path / "out"}')
    assert_same(arrays_of(tmp_path / 'out', 'ema'), expected)
    assert_same(
        arrays_of(tmp_path / 'out', 'raw'), {path: array + 1 for path, array in expected.items()}
    )
