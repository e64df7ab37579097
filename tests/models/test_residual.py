"""Residual networks: their blocks against plain loops, their outputs and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_rs.models import create_model, init_variables
from resnet_rs.models.resnet import Architecture, BottleneckBlock
from resnet_rs.utils.errors import UserError


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('name', ('resnet_18', 'resnet_26d', 'resnet_rs_26'))
def test_a_new_network_is_its_shortcuts(name):
    """Compares blocks whose last scale is zero with activation(shortcut)."""
    model = create_model(name, width_multiplier=0.25, num_classes=None, dtype='float32')
    variables = init_variables(model, 64)
    images = random((2, 64, 64, 3))

    def branch_outputs(module, method):
        return module.name in ('norm2', 'norm3') and 'block' in module.path[-2]

    _, state = model.apply(variables, images, train=False, capture_intermediates=branch_outputs)
    last = 'norm2' if name == 'resnet_18' else 'norm3'
    for stage in ('stage1', 'stage2', 'stage3', 'stage4'):
        for block in state['intermediates'][stage].values():
            assert not np.any(block[last]['affine'][0].value())
    scales = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables['params'])
        if path[-2].key == last and path[-1].key == 'scale' and path[0].key != 'stem'
    ]
    assert len(scales) == 8 and not np.any(np.concatenate(scales))


def test_features_and_pooled_output():
    settings = dict(width_multiplier=0.25, dtype='bfloat16')
    images = random((2, 96, 64, 3))
    model = create_model('resnet_rs_14', **settings)
    variables = init_variables(model, 64)
    features = model.apply(variables, images, train=False, output='stages')
    assert [f.shape for f in features] == [
        (2, 24, 16, 64),
        (2, 12, 8, 128),
        (2, 6, 4, 256),
        (2, 3, 2, 512),
    ]
    assert {f.dtype for f in features} == {jnp.dtype('bfloat16')}
    pooled = model.apply(variables, images, train=False, output='pooled')
    assert pooled.shape == (2, 512) and pooled.dtype == jnp.float32
    mean = np.asarray(features[-1], np.float64).mean((1, 2))
    np.testing.assert_allclose(pooled, mean, 1e-5, 1e-6)
    head = variables['params']['head']
    np.testing.assert_allclose(
        model.apply(variables, images, False), pooled @ head['kernel'] + head['bias'], 1e-4, 1e-5
    )
    with pytest.raises(UserError, match="output is 'stage'; it takes logits, pooled, stages"):
        model.apply(variables, images, False, output='stage')
    model = create_model('resnet_rs_14', num_classes=None, **settings)
    variables = init_variables(model, 64)
    np.testing.assert_array_equal(
        model.apply(variables, images, False), model.apply(variables, images, False, 'pooled')
    )
    assert 'head' not in variables['params']


@pytest.mark.parametrize(
    'shape, dtype',
    [
        ((2, 32, 32, 3), 'uint8'),
        ((32, 32, 3), 'float32'),
        ((2, 32, 32, 1), 'float32'),
        ((2, 3, 32, 32), 'float32'),
        ((1, 2, 32, 32, 3), 'float32'),
    ],
)
def test_images_of_another_kind_are_refused_when_the_call_is_traced(shape, dtype):
    model = create_model('resnet_rs_14', width_multiplier=0.25)
    variables = jax.eval_shape(lambda: init_variables(model, 32))
    with pytest.raises(UserError) as error:
        jax.eval_shape(
            lambda v, x: model.apply(v, x, train=False),
            variables,
            jax.ShapeDtypeStruct(shape, dtype),
        )
    assert str(error.value) == (
        f'the images are {dtype}{list(shape)}; the network takes normalised images of a float '
        'dtype, [batch, height, width, 3]: (pixels - mean) / deviation'
    )


def test_logits_are_float32_for_bfloat16_activations():
    model = create_model('resnet_rs_14', stage_sizes=(1,), width_multiplier=0.25)
    logits = model.apply(init_variables(model, 32), random((1, 32, 32, 3)), train=False)
    assert logits.dtype == jnp.float32
    rounded = logits.astype(jnp.bfloat16).astype(jnp.float32)
    assert np.any(np.asarray(logits) != np.asarray(rounded))


@pytest.mark.parametrize('size', [(7, 5), (6, 8), (1, 1)])
@pytest.mark.parametrize(
    ('settings', 'stride', 'pool'),
    [
        (dict(shortcut='average_pool'), 2, 2),
        (dict(shortcut='average_pool'), 1, 1),
        (dict(shortcut='average_pool', pool_unstrided_shortcut=True), 1, 2),
        (dict(shortcut='projection'), 2, 1),
    ],
)
def test_shortcut_of_a_block_in_loops(settings, stride, pool, size):
    """A new block is the activation of its shortcut: pool, 1x1 convolution, norm.

    The pool is the mean of the pixels of a 2x2 window that lie within the image: at odd sizes the
    last windows hold fewer than four.
    """
    x = random((2, *size, 3))
    block = BottleneckBlock(Architecture((1,), dtype=jnp.float32, **settings), 2, stride, 0.0)
    variables = block.init(jax.random.key(0), x, train=False)
    params = variables['params'] | {'shortcut_conv': {'kernel': random((1, 1, 3, 8), 1)}}
    params['shortcut_norm'] = {'scale': random(8, 2), 'bias': random(8, 3)}
    statistics = {'mean': random(8, 4), 'var': 1 + random(8, 5) ** 2}
    y = block.apply(
        {
            'params': params,
            'batch_stats': variables['batch_stats'] | {'shortcut_norm': statistics},
        },
        x,
        train=False,
    )

    kernel, norm = params['shortcut_conv']['kernel'][0, 0], params['shortcut_norm']
    height, width = (-(-pixels // stride) for pixels in size)
    expected = np.empty((2, height, width, 8))
    for example in range(2):
        for row in range(height):
            for column in range(width):
                window = [
                    x[example, down, right]
                    for down in range(row * stride, min(row * stride + pool, size[0]))
                    for right in range(column * stride, min(column * stride + pool, size[1]))
                ]
                projected = np.mean(window, axis=0, dtype=np.float64) @ kernel
                normal = (projected - statistics['mean']) / np.sqrt(statistics['var'] + 1e-5)
                expected[example, row, column] = np.maximum(
                    normal * norm['scale'] + norm['bias'], 0
                )
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_training_uses_both_random_streams():
    model = create_model(
        'resnet_rs_14',
        stage_sizes=(1,),
        width_multiplier=0.25,
        dropout_rate=0.5,
        stochastic_depth_rate=0.5,
    )
    variables = init_variables(model, 32)
    # A new network's residual branches are zero: give them weight so that dropping one shows.
    params = jax.tree.map(lambda p: p + 0.1, variables['params'])
    images = random((4, 32, 32, 3))

    @jax.jit
    def logits(dropout, stochastic_depth):
        rngs = {
            'dropout': jax.random.key(dropout),
            'stochastic_depth': jax.random.key(stochastic_depth),
        }
        y, _ = model.apply(
            {**variables, 'params': params}, images, train=True, rngs=rngs, mutable=['batch_stats']
        )
        return y

    base = logits(0, 0)
    np.testing.assert_array_equal(base, logits(0, 0))
    assert np.any(base != logits(1, 0))
    assert np.any(base != logits(0, 1))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(stem='shallow'), "stem is 'shallow'; it takes 'deep_strided', 'deep' or 'conv7'"),
        (dict(block='wide'), "block is 'wide'; it takes 'bottleneck' or 'basic'"),
        (dict(shortcut='pool'), "shortcut is 'pool'; it takes 'average_pool' or 'projection'"),
        (dict(stride_in='conv3'), "stride_in is 'conv3'; it takes 'conv2' or 'conv1'"),
        (dict(num_classes=-1), 'num_classes is -1; it takes a whole number, 1 or more'),
        (dict(num_classes='10'), "num_classes is '10'; it takes a whole number, 1 or more"),
        (dict(num_classes=0), 'num_classes is 0; it takes a whole number, 1 or more'),
    ],
)
def test_arguments_that_no_network_has_are_one_line(arguments, message):
    with pytest.raises(UserError) as error:
        create_model('resnet_rs_50', **arguments)
    assert str(error.value).startswith(message)
