"""ResNeSt against timm's logits and features, the published tables, and plain loops."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.hash_filled import (
    assert_features_are_timms,
    hash_filled_variables,
    hash_images,
)

from configs import digits
from resnet_rs.models import create_model, init_variables, resnest
from resnet_rs.models.cost import count_cost
from resnet_rs.models.drop_block import drop_block
from resnet_rs.models.stacked import stack_blocks_like, unstack_blocks
from resnet_rs.training.sharding import create_mesh, to_global
from resnet_rs.training.steps import create_program, model_of
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


def test_recorded_logits_are_those_of_the_facts():
    """Six digits that were computed with timm on another machine."""
    facts = {
        'resnest14d@64': ((0.001198, -0.615155, 0.374488), 0.269074, 106),
        'resnest50d@64': ((-0.302343, -1.166093, 0.658235), 0.540837, 227),
        'resnest50d_4s2x40d@64': ((-0.044807, -0.601885, 0.478351), 0.424518, 594),
    }
    for key, (first, deviation, largest) in facts.items():
        recorded = GOLDENS['logits'][key]
        assert recorded['first5'][:3] == pytest.approx(first, abs=1e-6)
        assert recorded['std'] == pytest.approx(deviation, abs=1e-6)
        assert recorded['argmax'] == largest


@pytest.mark.parametrize('key', [key for key in GOLDENS['features'] if key.startswith('resne')])
def test_features_are_timms(key):
    """Compares ResNets too: values, channels and strides of every stage, strided and dilated."""
    name, rest = key.split('@')
    size, output_stride = map(int, rest.split('/'))
    model, stages = outputs(name, size, output='stages', output_stride=output_stride)
    assert_features_are_timms(model, stages, GOLDENS['features'][key])


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


@pytest.mark.parametrize('size, block', ((9, 3), (3, 3), (1, 1)))
def test_drop_block(size, block):
    """Whole squares are dropped, of all examples alike, and the mean is kept."""
    rate, channels = 0.1, 4000
    x = jnp.ones((2, size, size, channels))
    y = np.asarray(drop_block(x, rate, jax.random.key(0)))
    np.testing.assert_array_equal(y[0], y[1])
    assert y.mean() == pytest.approx(1, rel=1e-5)
    dropped = y[0] == 0
    np.testing.assert_allclose(y[0][~dropped], 1 / (1 - dropped.mean()), rtol=1e-5)
    # The chance that no centre is within a square about a position that has a whole one.
    gamma = rate * size**2 / (block**2 * (size - block + 1) ** 2)
    inner = dropped[size // 2, size // 2].mean()
    expected = 1 - (1 - gamma) ** block**2
    assert abs(inner - expected) < 5 * np.sqrt(expected / channels)
    if block == 3:  # what is dropped is a union of squares: each value is in one that is dropped
        padded = np.pad(dropped, ((2, 2), (2, 2), (0, 0)), constant_values=True)
        squares = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1)).all((-1, -2))
        windows = np.lib.stride_tricks.sliding_window_view(squares, (3, 3), (0, 1)).any((-1, -2))
        assert windows[dropped].all()


def small(**settings):
    settings = dict(width_multiplier=1 / 16, num_classes=5, dtype='float32') | settings
    model = create_model('resnest_26', **settings)
    return model, jax.jit(lambda: init_variables(model, 32))()


def test_drop_block_follows_the_schedule_in_the_last_two_stages():
    sizes = (1, 1, 1)
    model, variables = small(drop_block_rate=0.5, stage_sizes=sizes)
    variables = jax.tree.map(lambda leaf: leaf + 0.2, variables)  # a new branch is zero
    images = random((2, 64, 64, 3)).astype(np.float32)

    def stages(model=model, **collections):
        rngs = {'dropout': jax.random.key(1), 'stochastic_depth': jax.random.key(2)}
        given, mutable = variables | collections, ['batch_stats']
        apply = functools.partial(model.apply, train=True, output='stages', mutable=mutable)
        return jax.device_get(jax.jit(apply)(given, images, rngs=rngs)[0])

    plain = stages(small(stage_sizes=sizes)[0])
    first, last = (stages(schedule={'progress': jnp.float32(done)}) for done in (0, 1))
    for number, (without, start, end) in enumerate(zip(plain, first, last, strict=True), start=1):
        np.testing.assert_allclose(start, without, rtol=1e-5, atol=1e-6)
        assert (start == end).all() == (number == 1)
    np.testing.assert_array_equal(stages()[-1], last[-1])  # without a schedule: the full rate


def test_a_loop_over_blocks_is_the_same_network():
    settings = dict(drop_block_rate=0.3, stochastic_depth_rate=0.5, dropout_rate=0.2)
    settings['stage_sizes'] = (1, 3)
    unrolled, variables = small(**settings)
    variables = jax.tree.map(lambda leaf: leaf + 0.2, variables)  # a new branch is zero
    looped, like = small(**settings, scan_blocks=True, remat='conv_outputs')
    images = random((4, 32, 32, 3)).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def train(model, variables):
        rngs = {'dropout': jax.random.key(1), 'stochastic_depth': jax.random.key(2)}
        variables = variables | {'schedule': {'progress': jnp.float32(0.7)}}
        logits, updated = model.apply(variables, images, True, rngs=rngs, mutable=['batch_stats'])
        return logits, unstack_blocks(updated)

    expected = train(unrolled, variables)
    found = train(looped, stack_blocks_like(variables, like))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-3, 1e-4), found, expected)


def test_the_training_step_tells_how_much_is_done(monkeypatch):
    """The rate of DropBlock is that of the share of all steps that is done."""
    rates = []

    def recorded(x, rate, key):
        jax.debug.callback(lambda rate: rates.append(float(rate)), rate)
        return x

    monkeypatch.setattr(resnest, 'drop_block', recorded)
    config = digits.get_config('debug').unlock()
    config.model.name, config.model.width_multiplier = 'resnest_14', 1 / 16
    config.model.drop_block_rate, config.duration = 0.2, '10 steps'
    config.model.stage_sizes = (1, 1)
    mesh = create_mesh(jax.devices()[:1])
    program = create_program(config, mesh, 1437)
    size, pixels = config.batch_size, config.data.image_size
    batch = {
        'image': np.zeros((size, pixels, pixels, 3), np.uint8),
        'label': np.zeros(size, np.int32),
        'mask': np.ones(size, np.float32),
        'index': np.arange(size, dtype=np.int32),
    }
    state = program.init()
    for done in (0, 1, 2):
        rates.clear()
        state, _ = program.train_step(state, to_global(batch, mesh), {})
        jax.effects_barrier()
        assert rates == pytest.approx([0.2 * done / 10] * 6)


def test_settings_of_the_family_alone():
    config = digits.get_config('debug').unlock()
    config.model.drop_block_rate = 0.1
    with pytest.raises(UserError, match="'resnet_rs_14' has no setting 'drop_block_rate'"):
        model_of(config)
    config.model.name, config.model.squeeze_excite_divisor = 'resnest_14', 8
    with pytest.raises(UserError, match="'resnest_14' has no setting 'squeeze_excite_divisor'"):
        model_of(config)
