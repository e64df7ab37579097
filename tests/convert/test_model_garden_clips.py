"""3-D ResNets of Model Garden: its names and its logits, and conversion of its checkpoints."""

import json
import pathlib

import jax
import numpy as np
import pytest
from helpers.foreign_weights import write_checkpoint
from helpers.garden_clips import (
    CLASSES,
    NETWORKS,
    STAGE_SIZES,
    hash_clip,
    hash_filled,
)

from resnet_rs.convert.__main__ import main
from resnet_rs.convert.model_garden_clips import garden_key
from resnet_rs.convert.weights import paths_of
from resnet_rs.models import create_model, init_variables
from resnet_rs.run.workdir import load_workdir

GOLDEN = json.loads(pathlib.Path(__file__).with_name('model_garden_clips.json').read_text())
SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'


@pytest.fixture(scope='module', params=NETWORKS)
def network(request):
    with jax.enable_x64():
        return request.param, *hash_filled(request.param, 'float64')


def test_names_and_logits(network):
    """In float64; both networks have all parts: gates, two stems, kernels that alternate."""
    name, model, variables = network
    keys = {garden_key(path, STAGE_SIZES, NETWORKS[name]) for path in paths_of(variables)}
    assert sorted(keys) == GOLDEN['keys'][name]
    expected = np.array(GOLDEN['logits'][name])
    with jax.enable_x64():
        logits = np.asarray(jax.jit(model.apply, static_argnums=2)(variables, hash_clip(), False))
    assert logits.dtype == np.float64
    assert np.abs(logits - expected).max() < 1e-10 * expected.std()


def tensors_of(model, variables, stem):
    """A checkpoint of the network in Model Garden's names and shapes."""
    sizes = model.architecture.stage_sizes
    tensors = {}
    for path, array in paths_of(variables).items():
        if path.endswith('kernel') and 'squeeze_excite' in path:
            array = array[None, None]
        elif path.endswith('kernel') and 'self_gating' in path:
            array = array[None, None, None]
        tensors[garden_key(path, sizes, stem) + SUFFIX] = array
    return tensors


def convert(tensors, directory, *arguments):
    write_checkpoint(directory / 'garden' / 'ckpt-1', tensors)
    source = ['--source=model_garden', str(directory / 'garden')]
    main([*source, f'--output={directory / "out"}', *arguments])
    return load_workdir(directory / 'out', 'ema')


@pytest.fixture(scope='module')
def small():
    """resnet_3d_rs_14, of which Model Garden has no counterpart, under Model Garden's names."""
    model = create_model('resnet_3d_rs_14', num_classes=CLASSES)
    variables = init_variables(model, 32)
    return variables, tensors_of(model, variables, 'deep')


def test_conversion(small, tmp_path):
    variables, tensors = small
    average = '/.OPTIMIZER_SLOT/optimizer/average'
    averages = {
        key.removesuffix(SUFFIX) + average + SUFFIX: 2 * array for key, array in tensors.items()
    }
    config, model, found = convert(tensors | averages, tmp_path, f'--num_classes={CLASSES}')
    assert config.model.name == 'resnet_3d_rs_14'
    assert config.model.padding == 'same' == model.architecture.padding
    assert tuple(config.data.mean_rgb) == (0, 0, 0) and tuple(config.data.std_rgb) == (255,) * 3
    expected, found = paths_of(variables), paths_of(found)
    assert expected.keys() == found.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(2 * array, found[path], err_msg=path)


@pytest.mark.parametrize(
    'change, message',
    [
        ({'_temporal_conv/kernel': np.zeros((2, 1, 1, 64, 64))}, 'no network of this project'),
        ({'_temporal_conv/kernel': np.zeros((64, 64))}, 'no kernel over time'),
        ({'_self_gating/_transformer_w/kernel': np.zeros((256, 256, 1))}, 'has shape'),
        ({}, 'not the 400 or 600 or 700 of Kinetics; give --num_classes=11'),
    ],
)
def test_other_checkpoints_are_refused(small, change, message, tmp_path, capsys):
    _, tensors = small
    first = 'backbone/layer_with_weights-6/'
    tensors = tensors | {f'{first}{name}{SUFFIX}': array for name, array in change.items()}
    arguments = [f'--num_classes={CLASSES}'] if change else []
    with pytest.raises(SystemExit):
        convert(tensors, tmp_path, *arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
