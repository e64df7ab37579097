"""EfficientNet against the published tables and against timm's logits."""

import functools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.hash_filled import (
    assert_features_are_timms,
    hash_filled_variables,
    hash_images,
)

from resnet_rs.models import create_model, init_variables
from resnet_rs.models.cost import count_cost
from resnet_rs.models.efficientnet_table import EFFICIENTNETS
from resnet_rs.models.stacked import stack_blocks_like, unstack_blocks
from resnet_rs.utils.errors import UserError

# Stem, widths and sizes of the stages, head: Tan and Le's released networks.
SCALED = {
    'b0': (32, (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1), 1280),
    'b1': (32, (16, 24, 40, 80, 112, 192, 320), (2, 3, 3, 4, 4, 5, 2), 1280),
    'b2': (32, (16, 24, 48, 88, 120, 208, 352), (2, 3, 3, 4, 4, 5, 2), 1408),
    'b3': (40, (24, 32, 48, 96, 136, 232, 384), (2, 3, 3, 5, 5, 6, 2), 1536),
    'b4': (48, (24, 32, 56, 112, 160, 272, 448), (2, 4, 4, 6, 6, 8, 2), 1792),
    'b5': (48, (24, 40, 64, 128, 176, 304, 512), (3, 5, 5, 7, 7, 9, 3), 2048),
    'b6': (56, (32, 40, 72, 144, 200, 344, 576), (3, 6, 6, 8, 8, 11, 3), 2304),
    'b7': (64, (32, 48, 80, 160, 224, 384, 640), (4, 7, 7, 10, 10, 13, 4), 2560),
}
# Pixels, trainable scalars, scalars of statistics, billions of multiply-adds: timm 1.0.31. None
# where they are not known.
COSTS = {
    'b0': (224, 5_288_548, 42_016, 0.3858),
    'b1': (240, 7_794_184, 62_048, 0.6868),
    'b2': (260, 9_109_994, 67_568, 0.9936),
    'b3': (300, 12_233_232, 87_296, 1.8271),
    'b4': (380, 19_341_616, 125_200, 4.3938),
    'b5': (456, 30_389_784, 172_736, 10.266),
    'b6': (528, 43_040_704, 224_432, 19.068),
    'b7': (600, 66_347_960, 310_720, 37.746),
    'b8': (672, 87_413_142, None, None),
    'l2': (800, 480_309_308, None, 475.7),
}
GOLDEN = json.loads(pathlib.Path(__file__).with_name('efficientnet_logits.json').read_text())
FEATURES = json.loads(pathlib.Path(__file__).with_name('timm_goldens.json').read_text())['features']
FORMS = {
    'tf_efficientnet': dict(padding='same', batch_norm_epsilon=1e-3),
    'efficientnet': dict(padding='symmetric', batch_norm_epsilon=1e-5),
}
# B2 is the smallest one whose widths are rounded; the deeper ones are more of the same blocks.
TESTED = [
    f'{form}_{network}@{size}'
    for form in FORMS
    for network, sizes in (('b0', (64, 75)), ('b2', (75,)))
    for size in sizes
]
SMALL = dict(num_classes=10, width_multiplier=0.25, dtype='float32')


@pytest.mark.parametrize('name', SCALED)
def test_rounding_rules_make_the_published_table(name):
    network = EFFICIENTNETS[f'efficientnet_{name}']
    parts = ('stem_width', 'stage_widths', 'stage_sizes', 'head_width')
    assert tuple(network[part] for part in parts) == SCALED[name]


@pytest.mark.parametrize('name', COSTS)
def test_costs(name):
    size, parameters, statistics, giga = COSTS[name]
    model = create_model(f'efficientnet_{name}', scan_blocks=True)  # traced once a stage
    cost = count_cost(model, size)
    assert cost.parameters == parameters
    assert statistics is None or cost.statistics == statistics
    assert giga is None or cost.multiply_adds / 1e9 == pytest.approx(giga, rel=1e-3)


def test_hidden_widths_of_squeeze_excite():
    """A quarter of the channels before the expansion, of B0 block by block."""
    params = shapes_of(create_model('efficientnet_b0'))['params']
    widths = [
        block['squeeze_excite']['reduce']['kernel'].shape[1]
        for stage in range(1, 8)
        for _, block in sorted(params[f'stage{stage}'].items())
    ]
    assert widths == [8, 4, 6, 6, 10, 10, 20, 20, 20, 28, 28, 28, 48, 48, 48, 48]


def test_the_last_block_drops_most_and_the_first_never():
    architecture = create_model('efficientnet_b0', stochastic_depth_rate=0.2).architecture
    rates = [rate for stage in range(1, 8) for rate in architecture.drop_rates(stage)]
    assert rates == pytest.approx([0.2 * block / 16 for block in range(16)])


def test_initial_weights():
    """Deviations of the authors' code: of a kernel by its fan out, of the head by the classes."""
    params = init_variables(create_model('efficientnet_b0', num_classes=100), 32)['params']
    block, head = params['stage6']['block2'], np.asarray(params['head']['kernel'])
    for name, fan_out in (('expand_conv', 1152), ('depthwise_conv', 25), ('project_conv', 192)):
        kernel = np.asarray(block[name]['kernel'])
        assert kernel.std() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
        assert abs(kernel.mean()) < 0.02 * kernel.std() + 4 * kernel.std() / kernel.size**0.5
    assert 0.0999 < np.abs(head).max() <= 0.1
    assert head.std() == pytest.approx(0.1 / 3**0.5, rel=0.01)
    for bias in (params['head']['bias'], block['squeeze_excite']['reduce']['bias']):
        assert not np.asarray(bias).any()


@pytest.mark.parametrize('key', TESTED)
def test_logits_are_timms(key):
    name, size = key.split('@')
    form, _, network = name.rpartition('_')
    reference = GOLDEN['logits'][key]
    with jax.enable_x64(True):
        settings = dict(dtype='float64', param_dtype='float64') | FORMS[form]
        model = create_model(f'efficientnet_{network}', **settings)
        variables = hash_filled_variables(model, 'float64')
        images = hash_images(int(size))
        logits = np.asarray(jax.jit(model.apply, static_argnums=2)(variables, images, False))[0]
    assert np.abs(logits[:5] - reference['first5']).max() <= 1e-8 * reference['std']
    assert abs(logits.mean() - reference['mean']) <= 1e-8 * reference['std']
    assert abs(logits.std() - reference['std']) <= 1e-8 * reference['std']
    assert logits.argmax() == reference['argmax']


@pytest.mark.parametrize('key', [key for key in FEATURES if 'efficientnet' in key])
def test_features_are_timms(key):
    """Compares features of every resolution, with later stages dilated."""
    name, size, output_stride = re.split('[@/]', key)
    form, _, network = name.rpartition('_')
    with jax.enable_x64(True):
        settings = dict(dtype='float64', param_dtype='float64') | FORMS[form]
        model = create_model(
            f'efficientnet_{network}', output_stride=int(output_stride), **settings
        )
        variables = hash_filled_variables(model, 'float64')
        apply = jax.jit(model.apply, static_argnums=(2, 3))
        stages = apply(variables, hash_images(int(size)), False, 'stages')
    assert_features_are_timms(model, jax.device_get(stages), FEATURES[key])


def test_recorded_logits_are_those_of_the_facts():
    """Six digits that were computed with timm on another machine."""
    facts = {
        'tf_efficientnet_b0@64': ((0.063549, -0.014724, -0.019817), 0.092431),
        'efficientnet_b0@64': ((0.063329, -0.014637, -0.020298), 0.092446),
    }
    for key, (first, deviation) in facts.items():
        recorded = GOLDEN['logits'][key]
        assert recorded['first5'][:3] == pytest.approx(first, abs=1e-6)
        assert recorded['std'] == pytest.approx(deviation, abs=1e-6)
        assert recorded['argmax'] == 375


def norm(tree):
    return np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(tree)))


def test_a_loop_over_blocks_computes_the_same():
    """Values, gradients and draws of stochastic depth; with rematerialisation too.

    Batch norm over four values magnifies rounding: a change of the weights by their last bit moves
    tensors by a hundredth, as the loop does. Another draw would move a stage by about its norm.
    """
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16, 16, 3)), jnp.float32)
    settings = SMALL | dict(stochastic_depth_rate=0.5, stage_sizes=(1, 1, 3, 1, 3, 1, 1))
    unrolled = create_model('efficientnet_b0', **settings)
    looped = create_model('efficientnet_b0', **settings, scan_blocks=True, remat='block')
    variables = init_variables(unrolled, 16)
    stacked = stack_blocks_like(variables, shapes_of(looped, 16))

    def loss(model, params, rest):
        logits, changed = model.apply(
            {'params': params, **rest},
            images,
            True,
            rngs={'stochastic_depth': jax.random.key(1), 'dropout': jax.random.key(2)},
            mutable=['batch_stats'],
        )
        return (logits**2).sum(), changed

    results = []
    for model, values in ((unrolled, variables), (looped, stacked)):
        rest = {'batch_stats': values['batch_stats']}
        gradient = jax.jit(jax.value_and_grad(loss, argnums=1, has_aux=True), static_argnums=0)
        (value, changed), gradients = gradient(model, values['params'], rest)
        results.append(
            (value, unstack_blocks(dict(changed))['batch_stats'], unstack_blocks(gradients))
        )
    (expected, *expected_trees), (found, *found_trees) = results
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    for ours, reference in zip(found_trees, expected_trees, strict=True):
        assert jax.tree.structure(ours) == jax.tree.structure(reference)
        for part in reference:
            difference = jax.tree.map(np.subtract, *jax.device_get((ours[part], reference[part])))
            assert norm(difference) < 0.1 * norm(reference[part]), part


def test_outputs():
    model = create_model('efficientnet_b0', **SMALL)

    def shapes(output):
        apply = functools.partial(model.apply, train=False, output=output)
        return jax.eval_shape(apply, shapes_of(model, 33), jnp.zeros((2, 33, 33, 3)))

    assert shapes('logits').shape == (2, 10)
    assert shapes('pooled').shape == (2, 320)
    stages = shapes('stages')
    # timm's features_only has the reductions 2, 4, 8, 16, 32 too.
    assert [stage.shape[1] for stage in stages] == [17, 9, 5, 3, 2]
    assert [stage.shape[3] for stage in stages] == [8, 8, 16, 32, 80]


def test_settings_of_another_family_are_refused():
    with pytest.raises(UserError, match="network 'efficientnet_b0' has no setting 'activation'"):
        create_model('efficientnet_b0', activation='swish')
    with pytest.raises(UserError, match="network 'resnet_50' has no setting 'batch_norm_epsilon'"):
        create_model('resnet_50', batch_norm_epsilon=1e-3)
    with pytest.raises(UserError, match='the 7 stages'):
        create_model('efficientnet_b0', remat='block,block')


def shapes_of(model, size=64):
    return jax.eval_shape(lambda: init_variables(model, size))
