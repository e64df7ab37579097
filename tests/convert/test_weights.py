"""Depth, variant and width are recognised from the tensors."""

import flax.traverse_util
import jax
import numpy as np
import pytest
from helpers.foreign_weights import (
    layers,
    tensorflow_variables,
    timm_shapes,
    timm_state,
)

from resnet_rs.convert import timm
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


def timm_shapes_of(name, **settings) -> dict:
    """Zeros of our shapes under timm's names."""
    model = create_model(name, dtype='float32', **settings)
    shapes = jax.eval_shape(lambda: init_variables(model, 64))
    state = {}
    for path, leaf in flax.traverse_util.flatten_dict(dict(shapes), sep='/').items():
        path = path.split('/', 1)[1]
        array = np.broadcast_to(np.float32(0), leaf.shape)
        state[timm.state_key(path, model.architecture)] = timm.to_timm_layout(path, array)
    return state


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
        ('resnest_14', {}),
        ('resnest_26', {'width_multiplier': 0.5}),
        ('resnest_50_fast_1s1x64d', {}),
        ('resnest_50_fast_4s1x64d', {}),
        ('resnest_50_fast_1s2x40d', {}),
        ('resnest_50_fast_2s2x40d', {}),
        ('resnest_50_fast_4s2x40d', {}),
        ('resnest_50_fast_1s4x24d', {}),
    ],
    ids=str,
)
def test_variants(name, settings):
    """Our shapes through timm's names and back; 0.3 gives widths that are cut to integers."""
    state = timm_shapes_of(name, **settings)
    source = timm.from_state_dict(state, 'state')
    network = recognise(source, 'v1.5', None)
    assert network.name == name
    if 'width_multiplier' in settings:
        assert abs(network.settings['width_multiplier'] - settings['width_multiplier']) < 1 / 512
    else:
        assert network.settings == settings
    weights, notes = assemble(source, network)
    assert sum(map(np.size, state.values())) == count_parameters(weights['raw']) and not notes


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


def test_fast_is_a_choice_of_resnest():
    """ResNeSt-50 and its fast form have the same tensors."""
    state = timm_shapes_of('resnest_50')
    for variant, name in (('v1.5', 'resnest_50'), ('fast', 'resnest_50_fast_2s1x64d')):
        assert recognise(timm.from_state_dict(state, 'state'), variant, None).name == name
    for name, variant, message in (
        ('resnest_50', 'v1', '--variant=v1 is of ResNet, and these tensors are of ResNeSt'),
        ('resnest_14', 'fast', 'resnest_14 has no fast form'),
        ('resnet_18', 'fast', '--variant=fast is of ResNeSt, and'),
        ('efficientnet_b0', 'fast', '--variant=fast is of ResNeSt, and .* of EfficientNet'),
        ('resnet_18', 'tf', '--variant=tf is of EfficientNet, and'),
    ):
        with pytest.raises(UserError, match=message):
            recognise(timm.from_state_dict(timm_shapes_of(name), 'state'), variant, None)


@pytest.mark.parametrize(
    'name, variant', (('resnet_18', 'v1.5'), ('resnest_14', 'v1.5'), ('efficientnet_b0', 'tf'))
)
def test_a_head_of_another_size(name, variant):
    source = timm.from_state_dict(timm_shapes_of(name, num_classes=37), 'state')
    with pytest.raises(UserError, match='37 classes.*give --num_classes=37'):
        recognise(source, variant, None)
    assert recognise(source, variant, 37).num_classes == 37


def test_resnest_that_is_none_of_the_table():
    state = timm_shapes_of('resnest_14', radix=4)
    with pytest.raises(UserError, match=r'no ResNeSt .* \(1, 1, 1, 1\), radix 4, cardinality 1,'):
        recognise(timm.from_state_dict(state, 'state'), 'v1.5', None)
