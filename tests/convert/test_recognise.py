"""Depth, variant and width are told from the tensors."""

import json
import pathlib

import flax.traverse_util
import jax
import numpy as np
import pytest
from helpers.foreign_weights import (
    garden_tensors,
    layers,
    tensorflow_variables,
    timm_shapes,
    timm_state,
    write_checkpoint,
)
from helpers.framework_parity import our_logits
from helpers.hash_filled import hash_images

from resnet_rs.convert import timm
from resnet_rs.convert.__main__ import main
from resnet_rs.convert.layer_order import FORM, Layer, arrange
from resnet_rs.convert.weights import Source, assemble, recognise
from resnet_rs.models import count_parameters, create_model, init_variables
from resnet_rs.utils.errors import UserError

# Blocks per stage of the published networks, and their trainable parameters.
DEPTHS = {
    50: ((3, 4, 6, 3), 35_691_912),
    101: ((3, 4, 23, 3), 63_618_696),
    152: ((3, 8, 36, 3), 86_621_576),
    200: ((3, 24, 36, 3), 93_209_992),
    270: ((4, 29, 53, 4), 129_861_448),
    350: ((4, 36, 72, 4), 163_956_168),
    420: ((4, 44, 87, 4), 191_891_656),
}
GOLDEN = pathlib.Path(__file__).with_name('model_garden_logits.json')


def deep_state(sizes) -> dict:
    """Zeros under timm's names: the second block of each stage of resnetrs50, repeated."""
    shapes = {}
    for key, shape in timm_shapes('resnetrs50').items():
        if not key.startswith('layer'):
            shapes[key] = shape
        elif key.split('.')[1] == '0':
            shapes[key] = shape
        elif key.split('.')[1] == '1':
            stage, _, rest = key.split('.', 2)
            for block in range(1, sizes[int(stage[-1]) - 1]):
                shapes[f'{stage}.{block}.{rest}'] = shape
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}


@pytest.mark.parametrize('depth', DEPTHS)
def test_depths_of_resnet_rs(depth):
    sizes, parameters = DEPTHS[depth]
    state = deep_state(sizes)
    trainable = {k: v for k, v in state.items() if 'running_' not in k}
    assert sum(array.size for array in trainable.values()) == parameters
    sources = [timm.from_state_dict(state, 'state')]
    for projection_first in (True, False):
        ordered = [
            Layer(name, tensorflow_variables(state, kind, module))
            for kind, module, name in layers(state, projection_first=projection_first)
        ]
        arrays, names = arrange(ordered, 'file')
        sources.append(Source({'raw': arrays, 'ema': arrays}, FORM, names.get))
    for source in sources:
        network = recognise(source, 'v1.5', None)
        assert (network.name, network.settings) == (f'resnet_rs_{depth}', {})
        shapes = {path: array.shape for path, array in source.weights['ema'].items()}
        assert shapes == {path: array.shape for path, array in sources[0].weights['ema'].items()}


@pytest.mark.parametrize(
    'name, settings',
    [
        ('resnet_18', {}),
        ('resnet_50', {}),
        ('resnet_14c', {}),
        ('resnet_18d', {}),
        ('resnet_26d', {}),
        ('se_resnet_14', {}),
        ('se_resnet_18', {'squeeze_excite_divisor': 8}),
        ('se_resnet_18', {}),
        ('se_resnet_26d', {}),
        ('resnet_rs_14', {'width_multiplier': 0.75}),
        ('resnet_18', {'width_multiplier': 0.3}),
    ],
    ids=str,
)
def test_variants(name, settings):
    """Our shapes through timm's names and back; 0.3 gives widths that are cut to integers."""
    model = create_model(name, dtype='float32', **settings)
    shapes = jax.eval_shape(lambda: init_variables(model, 64))
    architecture = model.architecture
    state = {}
    for path, leaf in flax.traverse_util.flatten_dict(dict(shapes), sep='/').items():
        path = path.split('/', 1)[1]
        array = np.broadcast_to(np.float32(0), leaf.shape)
        key = timm.timm_key(path, architecture.stem, architecture.shortcut)
        state[key] = timm.to_timm_layout(path, array)
    source = timm.from_state_dict(state, 'state')
    network = recognise(source, 'v1.5', None)
    assert network.name == name
    if 'width_multiplier' in settings:
        assert abs(network.settings['width_multiplier'] - settings['width_multiplier']) < 1 / 512
    else:
        assert network.settings == settings
    weights, notes = assemble(source, network)
    assert count_parameters(weights['raw']) == count_parameters(shapes) and not notes


def test_v1_is_a_choice():
    state = timm_state('resnet18')
    with pytest.raises(UserError, match='form v1 '):
        recognise(timm.from_state_dict(state, 'state'), 'v1', None)
    shapes = {'conv1.weight': (64, 3, 7, 7)} | {
        key: shape
        for key, shape in timm_shapes('resnetrs50').items()
        if key.startswith('layer') and '.se.' not in key and 'downsample' not in key
    }
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    source = timm.from_state_dict(state, 'state')
    assert recognise(source, 'v1', 10).name == 'resnet_50_v1'
    assert recognise(source, 'v1.5', 10).name == 'resnet_50'


def test_model_garden_logits(tmp_path):
    """Logits recorded in float64 from tf-models-official 2.20 with the same hash-filled weights."""
    write_checkpoint(tmp_path / 'rs' / 'ckpt-1', garden_tensors(timm_state('resnetrs50')))
    command = ['--source=model_garden', str(tmp_path / 'rs'), f'--output={tmp_path / "out"}']
    main(command)
    for size, reference in json.loads(GOLDEN.read_text())['logits'].items():
        logits = our_logits(tmp_path / 'out', hash_images(int(size)))[0]
        # Float64, because the stride-1 pool of the first shortcut changes these by 3e-6 only.
        tolerance = 1e-9 * reference['std']
        assert np.abs(logits[:5] - reference['first5']).max() <= tolerance
        assert abs(logits.std() - reference['std']) <= tolerance
        assert logits.argmax() == reference['argmax']
