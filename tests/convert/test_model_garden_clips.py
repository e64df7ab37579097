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

from resnet_rs.convert import model_garden
from resnet_rs.convert.__main__ import main
from resnet_rs.convert.model_garden_clips import garden_key
from resnet_rs.convert.weights import assemble, paths_of, recognise
from resnet_rs.models import create_model, init_variables
from resnet_rs.run.workdir import load_workdir
from resnet_rs.utils.errors import UserError

GOLDEN = json.loads(pathlib.Path(__file__).with_name('model_garden_clips.json').read_text())
SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'


@pytest.fixture(scope='module', params=NETWORKS)
def network(request):
    with jax.enable_x64():
        return request.param, *hash_filled(request.param, 'float64')


def test_names_and_logits(network):
    """Compares networks with all parts, gates, two stems, alternating kernels, in float64."""
    name, model, variables = network
    keys = {garden_key(path, STAGE_SIZES, NETWORKS[name]) for path in paths_of(variables)}
    assert sorted(keys) == GOLDEN['keys'][name]
    expected = np.array(GOLDEN['logits'][name])
    with jax.enable_x64():
        logits = np.asarray(jax.jit(model.apply, static_argnums=2)(variables, hash_clip(), False))
    assert logits.dtype == np.float64
    assert np.abs(logits - expected).max() < 1e-10 * expected.std()


def tensors_of(shapes, stem):
    """Zeros in Model Garden's names and shapes for a network of one block in each stage."""
    tensors = {}
    for path, leaf in paths_of(shapes).items():
        shape = leaf.shape
        if path.endswith('kernel') and 'squeeze_excite' in path:
            shape = (1, 1, *shape)
        elif path.endswith('kernel') and 'self_gating' in path:
            shape = (1, 1, 1, *shape)
        tensors[garden_key(path, (1, 1, 1, 1), stem) + SUFFIX] = np.zeros(shape, np.float32)
    return tensors


@pytest.fixture(scope='module')
def small():
    """resnet_3d_rs_14, of which Model Garden has no counterpart, under Model Garden's names."""
    model = create_model('resnet_3d_rs_14', num_classes=CLASSES)
    shapes = jax.eval_shape(lambda: init_variables(model, 32))
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), 'f'), leaf.shape), shapes)
    return zeros, tensors_of(zeros, 'deep')


def test_conversion(small, tmp_path):
    """The work directory holds the averages, each variable in its place."""
    variables, tensors = small
    average = '/.OPTIMIZER_SLOT/optimizer/average'
    averages = {
        key.removesuffix(SUFFIX) + average + SUFFIX: np.full_like(array, number)
        for number, (key, array) in enumerate(tensors.items())
    }
    write_checkpoint(tmp_path / 'garden' / 'ckpt-1', tensors | averages)
    source = ['--source=model_garden', str(tmp_path / 'garden')]
    main([*source, f'--output={tmp_path / "out"}', f'--num_classes={CLASSES}'])
    config, model, found = load_workdir(tmp_path / 'out', 'ema')
    assert config.model.name == 'resnet_3d_rs_14'
    assert config.model.padding == 'same' == model.architecture.padding
    assert tuple(config.data.mean_rgb) == (0, 0, 0) and tuple(config.data.std_rgb) == (255,) * 3
    found = paths_of(found)
    assert found.keys() == paths_of(variables).keys()
    numbers = {key: number for number, key in enumerate(tensors)}
    for path, array in found.items():
        expected = numbers[garden_key(path, (1, 1, 1, 1), 'deep') + SUFFIX]
        assert array.min() == array.max() == expected, path


@pytest.mark.parametrize(
    'change, message',
    [
        ({'_temporal_conv/kernel': np.zeros((2, 1, 1, 64, 64))}, 'no network of this project'),
        ({'_temporal_conv/kernel': np.zeros((64, 64))}, 'no kernel over time'),
        ({'_self_gating/_transformer_w/kernel': np.zeros((256, 256, 1))}, 'has shape'),
        ({}, 'not the 400 or 600 or 700 of Kinetics; give --num_classes=11'),
    ],
)
def test_other_checkpoints_are_refused(small, change, message, monkeypatch):
    _, tensors = small
    first = 'backbone/layer_with_weights-6/'
    tensors = tensors | {f'{first}{name}{SUFFIX}': array for name, array in change.items()}
    monkeypatch.setattr(model_garden, 'read_tensors', lambda path, wanted: tensors)
    source = model_garden.read(pathlib.Path('file'), 'ema')
    with pytest.raises(UserError, match=message):
        assemble(source, recognise(source, 'v1.5', CLASSES if change else None))
