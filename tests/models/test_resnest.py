"""ResNeSt against timm's logits and features, the published tables, and plain loops."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hash_filled import hash_filled_variables, hash_images

from resnet_rs.models import create_model, init_variables, resnest
from resnet_rs.models.cost import count_cost
from resnet_rs.utils.errors import UserError

GOLDENS = json.loads((pathlib.Path(__file__).parent / 'timm_goldens.json').read_text())
TOLERANCE = 1e-8
NAMES = {
    'resnest14d': 'resnest_14',
    'resnest26d': 'resnest_26',
    'resnest50d': 'resnest_50',
    'resnest101e': 'resnest_101',
    'resnest50d_4s2x40d': 'resnest_50_fast_4s2x40d',
    'resnest50d_1s4x24d': 'resnest_50_fast_1s4x24d',
    'resnet18': 'resnet_18',
    'resnet26': 'resnet_26',
    'resnet26d': 'resnet_26d',
}
# Parameters, statistics and giga multiply-adds at a size, of the authors' networks (timm 1.0.31);
# None where they are not known.
COUNTS = {
    'resnest_14': (10_611_688, 22_336, 224, 2.749),
    'resnest_26': (17_069_448, 36_736, 224, 3.623),
    'resnest_50': (27_483_240, 64_576, 224, 5.371),
    'resnest_101': (48_275_016, 130_112, 224, 10.201),
    'resnest_200': (70_201_544, 218_432, 320, 35.52),
    'resnest_269': (110_929_480, 314_432, 416, 77.35),
    'resnest_50_fast_1s1x64d': (26_217_896, None, 224, None),
    'resnest_50_fast_2s1x64d': (27_483_240, 64_576, 224, None),
    'resnest_50_fast_4s1x64d': (31_912_712, None, 224, None),
    'resnest_50_fast_1s2x40d': (25_946_680, None, 224, None),
    'resnest_50_fast_2s2x40d': (26_943_792, None, 224, None),
    'resnest_50_fast_4s2x40d': (30_417_592, None, 224, 4.369),
    'resnest_50_fast_1s4x24d': (25_677_000, None, 224, 4.400),
}


@pytest.mark.parametrize('name', COUNTS)
def test_counts(name):
    parameters, statistics, size, giga = COUNTS[name]
    counted = count_cost(create_model(name, scan_blocks=True), size)  # traced once a stage
    assert counted.parameters == parameters
    assert statistics is None or counted.statistics == statistics
    assert giga is None or counted.multiply_adds / 1e9 == pytest.approx(giga, rel=1e-3)


def outputs(name, size, **settings):
    """The hash-filled network's output in float64, layer by layer: alike ones compile once."""
    name, _, blocks = name.partition(':')
    output = settings.pop('output', 'logits')
    if blocks:
        settings['stage_sizes'] = (int(blocks),) * 4
    with jax.enable_x64(True):
        model = create_model(NAMES[name], dtype='float64', param_dtype='float64', **settings)
        variables = hash_filled_variables(model, 'float64')
        images = jnp.asarray(hash_images(size))
        return model, jax.device_get(model.apply(variables, images, False, output))


@pytest.mark.parametrize('key', GOLDENS['logits'])
def test_logits_are_timms(key):
    name, size = key.split('@')
    _, logits = outputs(name, int(size))
    reference = GOLDENS['logits'][key]
    assert logits.dtype == np.float64
    assert np.abs(logits[0, :5] - reference['first5']).max() <= TOLERANCE
    assert abs(logits.mean() - reference['mean']) <= TOLERANCE
    assert abs(logits.std() - reference['std']) <= TOLERANCE
    assert logits.argmax() == reference['argmax']


@pytest.mark.parametrize('key', GOLDENS['features'])
def test_features_are_timms(key):
    """Of ResNets too: values, channels and strides of every stage, strided and dilated."""
    name, rest = key.split('@')
    size, output_stride = map(int, rest.split('/'))
    model, stages = outputs(name, size, output='stages', output_stride=output_stride)
    expected = GOLDENS['features'][key]
    assert model.architecture.stage_channels == tuple(stage['channels'] for stage in expected)
    assert model.architecture.stage_strides == tuple(stage['stride'] for stage in expected)
    for stage, reference in zip(stages, expected, strict=True):
        batch, height, width, channels = stage.shape
        assert [batch, channels, height, width] == reference['shape']
        tolerance = TOLERANCE * reference['std']
        assert abs(stage.mean() - reference['mean']) <= tolerance
        assert abs(stage.std() - reference['std']) <= tolerance
        assert np.abs(stage[0, -1, -1, :3] - reference['corner']).max() <= tolerance


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize('radix', (1, 2, 4))
@pytest.mark.parametrize('cardinality', (1, 2, 4))
def test_split_attention_is_a_loop_over_groups_and_splits(radix, cardinality):
    """Radix-major, as computed, against the paper's figure 2: each cardinal group by itself."""
    features, hidden, batch, side = 8 * cardinality, 4 * cardinality, 3, 4
    with jax.enable_x64(True):
        architecture = resnest.Architecture(
            (1,), radix=radix, cardinality=cardinality, dtype='float64', param_dtype='float64'
        )
        layer = resnest.SplitAttention(architecture, features, hidden, 1)
        x = random((batch, side, side, features))
        variables = layer.init(jax.random.key(0), x, False, lambda y, number: y)
        variables = jax.tree.map(lambda leaf: 1 + 0.3 * random(leaf.shape, leaf.size), variables)
        found = layer.apply(variables, x, False, lambda y, number: y)
    params, stats = variables['params'], variables['batch_stats']

    def norm(y, name, channels):
        mean, var = stats[name]['mean'][channels], stats[name]['var'][channels]
        scale, bias = params[name]['scale'][channels], params[name]['bias'][channels]
        return np.maximum((y - mean) / np.sqrt(var + 1e-5) * scale + bias, 0)

    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    width, narrow, inputs = features // cardinality, hidden // cardinality, features // cardinality
    inputs //= radix
    result = np.empty_like(x)
    for group in range(cardinality):
        splits = []
        for split in range(radix):
            number = split * cardinality + group
            outs = slice(number * width, (number + 1) * width)
            ins = slice(number * inputs, (number + 1) * inputs)
            kernel = params['conv']['kernel'][..., outs]
            y = sum(
                padded[:, row : row + side, column : column + side, ins] @ kernel[row, column]
                for row in range(3)
                for column in range(3)
            )
            splits.append(norm(y, 'conv_norm', outs))
        pooled = sum(splits).mean((1, 2))
        middle = slice(group * narrow, (group + 1) * narrow)
        reduce, expand = params['reduce'], params['expand']
        y = norm(
            pooled @ reduce['kernel'][:, middle] + reduce['bias'][middle], 'reduce_norm', middle
        )
        last = slice(group * radix * width, (group + 1) * radix * width)
        logits = (y @ expand['kernel'][:, last] + expand['bias'][last]).reshape(batch, radix, width)
        if radix == 1:
            attention = 1 / (1 + np.exp(-logits))
        else:
            attention = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        result[..., group * width : (group + 1) * width] = sum(
            attention[:, split, None, None] * splits[split] for split in range(radix)
        )
    np.testing.assert_allclose(found, result, rtol=1e-10, atol=1e-10)


def test_radix_softmax():
    """K = R = 2 by hand (logits are group-major); it sums to one, and one split has a sigmoid."""
    logits = jnp.arange(8.0)[None] / 10
    np.testing.assert_allclose(
        resnest.radix_softmax(logits, 2, 2).ravel(), [0.450166] * 4 + [0.549834] * 4, atol=1e-6
    )
    logits = jnp.asarray(random((3, 24), 1), jnp.float32)
    for radix, cardinality in ((2, 3), (4, 2), (3, 1)):
        attention = resnest.radix_softmax(logits, radix, cardinality)
        assert attention.shape == (3, radix, 24 // radix)
        np.testing.assert_allclose(attention.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        resnest.radix_softmax(logits, 1, 4)[:, 0], 1 / (1 + np.exp(-logits)), rtol=1e-6
    )


def test_widths_that_do_not_divide_are_refused():
    with pytest.raises(UserError, match='stage of width 64 has 64 channels in a split and 48 for'):
        create_model('resnest_50', radix=3)
    with pytest.raises(UserError, match="network 'resnest_50' has no setting 'stem'"):
        create_model('resnest_50', stem='deep')
    with pytest.raises(UserError, match='output_stride is 12; it takes 8, 16 or 32'):
        create_model('resnest_50', output_stride=12)


def test_attention_has_32_channels_at_least():
    shapes = jax.eval_shape(lambda: init_variables(create_model('resnest_14'), 64))['params']
    widths = [
        shapes[f'stage{stage}']['block1']['split_attention']['reduce']['bias'].shape[0]
        for stage in (1, 2, 3, 4)
    ]
    assert widths == [32, 64, 128, 256]
