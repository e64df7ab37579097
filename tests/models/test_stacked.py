"""Stages as loops: the same network as unrolled."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import resnet_rs
from resnet_rs.models import create_model, init_variables
from resnet_rs.models.cost import count_cost
from resnet_rs.models.stacked import stack_blocks_like, unstack_blocks
from resnet_rs.training.optimizer import weight_decay_mask
from resnet_rs.training.sharding import create_mesh
from resnet_rs.training.steps import create_program

SETTINGS = dict(
    stage_sizes=(3,),
    width_multiplier=1 / 16,
    num_classes=5,
    dropout_rate=0.3,
    stochastic_depth_rate=0.5,
    batch_norm_momentum=0.7,
    batch_norm_group_size=4,
    dtype='float64',
    param_dtype=jnp.float64,
)


def shapes_of(model):
    return jax.eval_shape(lambda: init_variables(model, 32))


def results(model, variables, images):
    """Logits, gradients of a sum of logits and new statistics, all in the unrolled layout."""

    def loss(params):
        logits, updated = model.apply(
            {'params': params, 'batch_stats': variables['batch_stats']},
            images,
            True,
            rngs={'dropout': jax.random.key(1), 'stochastic_depth': jax.random.key(2)},
            mutable=['batch_stats'],
        )
        return (logits * jnp.arange(logits.size).reshape(logits.shape)).sum(), (logits, updated)

    gradients, (logits, updated) = jax.jit(jax.grad(loss, has_aux=True))(variables['params'])
    predictions = model.apply(variables, images, False)
    return jax.device_get(
        unstack_blocks(
            {'gradients': gradients, 'logits': logits, 'predictions': predictions, **updated}
        )
    )


@pytest.fixture(scope='module')
def unrolled():
    """Images, variables far from their start, and the results of the plain network."""
    with jax.enable_x64(True):
        model = create_model('resnet_rs_50', **SETTINGS)
        random = np.random.default_rng(0)
        variables = jax.tree.map(
            lambda leaf: leaf + random.uniform(0, 0.3, leaf.shape), init_variables(model, 32)
        )
        images = random.normal(size=(8, 16, 16, 3))
        return images, variables, results(model, variables, images)


@pytest.mark.parametrize(
    'settings',
    (
        dict(scan_blocks=True),
        dict(scan_blocks=True, remat='conv_outputs'),
        dict(scan_blocks=True, remat='block'),
        dict(remat='conv_outputs'),
    ),
    ids=str,
)
def test_the_same_mathematics(unrolled, settings):
    """Logits, gradients and statistics, with stochastic depth and dropout, in float64."""
    images, variables, expected = unrolled
    with jax.enable_x64(True):
        model = create_model('resnet_rs_50', **SETTINGS, **settings)
        variables = stack_blocks_like(variables, shapes_of(model))
        got = results(model, variables, images)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), got, expected)


def test_stochastic_depth_drops_other_examples_in_each_block():
    """Blocks that are alike but for their draw; the rate is 0.5, that of the only stage."""
    with jax.enable_x64(True):
        settings = SETTINGS | dict(stage_sizes=(4,), stochastic_depth_rate=0.5)
        model = create_model('resnet_rs_50', **settings, scan_blocks=True)
        variables = init_variables(model, 32)
        images = np.random.default_rng(0).normal(size=(32, 8, 8, 3))
        bias = variables['params']['stage1']['blocks']['norm3'].pop('bias')

        @jax.jit
        def features(bias):
            params = jax.tree.map(lambda leaf: leaf, variables['params'])
            params['stage1']['blocks']['norm3']['bias'] = bias
            return model.apply(
                variables | {'params': params},
                images,
                True,
                'stages',
                rngs={'stochastic_depth': jax.random.key(2)},
                mutable=['batch_stats'],
            )[0][0]

        def alive(block):
            """Returns which examples see that block's branch: those that its bias moves."""
            return np.asarray(features(bias.at[block].add(1e-3)) != features(bias)).any((1, 2, 3))

        drawn = np.stack([alive(block) for block in range(3)])
    assert (drawn.mean(1) > 0.3).all() and (drawn.mean(1) < 0.8).all()
    assert len({row.tobytes() for row in drawn}) == 3


def test_layouts_are_converted_without_loss():
    random = np.random.default_rng(0)

    def block():
        kernel = random.integers(0, 2**32, (2, 3), dtype=np.uint32).view(np.float32)
        return {'conv1': {'kernel': kernel}, 'count': random.integers(0, 9, ())}

    tree = (
        {
            'stage1': {'block1': block(), 'block2': block(), 'block3': block()},
            'stage2': {'block1': block()},
        },
        np.float32(3),
    )
    stacked = (
        {
            'stage1': {
                'block1': tree[0]['stage1']['block1'],
                'blocks': {
                    'conv1': {
                        'kernel': np.stack(
                            [
                                tree[0]['stage1'][name]['conv1']['kernel']
                                for name in ('block2', 'block3')
                            ]
                        )
                    },
                    'count': np.stack(
                        [tree[0]['stage1'][name]['count'] for name in ('block2', 'block3')]
                    ),
                },
            },
            'stage2': {'block1': tree[0]['stage2']['block1']},
        },
        np.float32(3),
    )

    def assert_same_bits(a, b):
        assert jax.tree.structure(a) == jax.tree.structure(b)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()

    with jax.enable_x64(True):
        assert_same_bits(unstack_blocks(stacked), tree)
        assert_same_bits(stack_blocks_like(tree, stacked), stacked)
        assert_same_bits(unstack_blocks(tree), tree)
        assert_same_bits(stack_blocks_like(tree, tree), tree)


@pytest.mark.parametrize('which', ('kernels', 'kernels_and_biases'))
def test_weight_decay_covers_the_same(which):
    plain, looped = (
        shapes_of(create_model('resnet_rs_26', stage_sizes=(1, 3), scan_blocks=scan))['params']
        for scan in (False, True)
    )
    covered = {}
    for name, params in (('plain', plain), ('looped', looped)):
        mask = weight_decay_mask(params, which)
        covered[name] = sum(
            math.prod(leaf.shape)
            for leaf, is_covered in zip(jax.tree.leaves(params), jax.tree.leaves(mask), strict=True)
            if is_covered
        )
    assert covered['plain'] == covered['looped'] > 0


def test_the_deepest_network_lowers():
    """ResNet-RS-420 at 320 pixels, with the parameters of timm's and the authors' (191,891,656)."""
    config = resnet_rs.get_config('420@320').unlock()
    config.batch_size = 8
    config.eval.batch_size = 8
    config.model.scan_blocks = True
    config.model.remat = 'conv_outputs'
    program = create_program(config, create_mesh(jax.devices()[:1]), 1_281_167)
    state = jax.eval_shape(program.init)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.variables['params'])) == (
        191_891_656
    )
    blocks = state.variables['params']['stage3']['blocks']
    assert blocks['conv2']['kernel'].shape == (86, 3, 3, 256, 256)
    batch = {
        'image': jax.ShapeDtypeStruct((8, 320, 320, 3), jnp.uint8),
        'label': jax.ShapeDtypeStruct((8,), jnp.int32),
        'mask': jax.ShapeDtypeStruct((8,), jnp.float32),
    }
    text = program.train_step.lower(state, batch, {}).as_text()
    assert text.count('stablehlo.while') >= 8  # forward and backward of four stages
    # A convolution of every layer of a stage's two kinds of block, not of 140 blocks.
    assert text.count('stablehlo.convolution') < 200


def test_the_deepest_network_costs_what_it_should():
    """The figures of tests/models/test_cost.py: no block is lost in a loop."""
    cost = count_cost(create_model('resnet_rs_420', scan_blocks=True, remat='block'), 320)
    assert (cost.parameters, cost.statistics) == (191_891_656, 370_560)
    assert cost.multiply_adds / 1e9 == pytest.approx(63.9423, rel=1e-3)
