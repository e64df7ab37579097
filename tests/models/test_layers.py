"""Layers against TensorFlow's operations and against their definitions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from resnet_rs.models import create_model
from resnet_rs.models.layers import (
    Affine,
    BatchNorm,
    SqueezeExcite,
    StochasticDepth,
    average_pool,
    group_count,
)
from resnet_rs.utils.errors import UserError


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def identity(x):
    ones = jnp.ones((1, x.shape[-1]), x.dtype)
    return Affine(x, ones, 0 * ones)


def apply_batch_norm(x, train=True, **settings):
    layer = BatchNorm(**settings)
    variables = layer.init(jax.random.key(0), x, train=False)
    y, updated = layer.apply(variables, x, train=train, mutable=['batch_stats'])
    return np.asarray(y), jax.tree.map(np.asarray, updated['batch_stats'])


@pytest.mark.parametrize('momentum', (0.0, 0.9))
def test_batch_norm_is_tensorflows_fused_one(momentum):
    x = random((8, 5, 4, 3)) * 3 + 1
    expected, mean, var, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=tf.ones(3), offset=tf.zeros(3), mean=[], variance=[], epsilon=1e-5
    )
    y, stats = apply_batch_norm(x, momentum=momentum)
    np.testing.assert_allclose(y, expected, atol=2e-6)
    np.testing.assert_allclose(stats['mean'], (1 - momentum) * mean, rtol=1e-5)
    np.testing.assert_allclose(stats['var'], momentum + (1 - momentum) * var, rtol=1e-5)


def test_batch_norm_groups_are_separate_batches():
    x = random((12, 3, 3, 2)) + np.arange(12, dtype=np.float32)[:, None, None, None]
    y, stats = apply_batch_norm(x, momentum=0.0, group_size=4)
    parts = [apply_batch_norm(x[i : i + 4], momentum=0.0) for i in (0, 4, 8)]
    np.testing.assert_allclose(y, np.concatenate([part for part, _ in parts]), atol=1e-6)
    for name in ('mean', 'var'):
        expected = np.mean([part_stats[name] for _, part_stats in parts], axis=0)
        np.testing.assert_allclose(stats[name], expected, rtol=1e-5)


@pytest.mark.parametrize('group_size, groups', [(None, 1), (0, 1), (5, 2), (10, 1)])
def test_groups_divide_the_batch(group_size, groups):
    assert group_count(random((10, 2, 2, 3)), group_size) == groups


@pytest.mark.parametrize('group_size', [4, 20, -1])
def test_groups_that_do_not_divide_the_batch_are_refused(group_size):
    with pytest.raises(UserError, match=f'batch_norm_group_size is {group_size}, but the batch'):
        apply_batch_norm(random((10, 2, 2, 3)), momentum=0.0, group_size=group_size)


def test_batch_norm_statistics_are_float32_for_bfloat16():
    x = jnp.asarray(random((64, 4, 4, 2)) + 8, jnp.bfloat16)
    layer = BatchNorm(momentum=0.0)
    variables = layer.init(jax.random.key(0), x, train=False)
    y, updated = layer.apply(variables, x, train=True, mutable=['batch_stats'])
    assert y.dtype == jnp.float32
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(updated['batch_stats']['mean'], exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(
        updated['batch_stats']['var'], exact.var((0, 1, 2), ddof=1), rtol=1e-3
    )


def test_squeeze_excite_in_numpy():
    x = random((2, 3, 5, 8))
    layer = SqueezeExcite(0.25, dtype=jnp.float32)
    variables = layer.init(jax.random.key(1), identity(x))
    params = jax.tree.map(lambda p: np.asarray(p) + 0.1, variables['params'])
    hidden = np.maximum(x.mean((1, 2)) @ params['reduce']['kernel'] + params['reduce']['bias'], 0)
    gate = 1 / (1 + np.exp(-(hidden @ params['expand']['kernel'] + params['expand']['bias'])))
    assert hidden.shape == (2, 2)
    y = layer.apply({'params': params}, identity(x))
    np.testing.assert_allclose(y.value(), x * gate[:, None, None, :], atol=1e-5)


def test_stochastic_depth_drops_examples_and_keeps_the_expectation():
    x = np.ones((20_000, 1, 1, 2), np.float32)
    rngs = {'stochastic_depth': jax.random.key(0)}
    y = np.asarray(StochasticDepth(0.3).apply({}, identity(x), True, rngs=rngs).value())
    assert set(np.unique(y).round(5)) == {0.0, np.float32(1 / 0.7).round(5)}
    assert (y[:, 0, 0, 0] == y[:, 0, 0, 1]).all()
    # Five standard deviations of the mean of 20,000 such draws.
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / 20_000)
    np.testing.assert_array_equal(StochasticDepth(0.3).apply({}, identity(x), False).value(), x)


def test_stochastic_depth_rates_per_stage():
    architecture = create_model('resnet_rs_50', stochastic_depth_rate=0.1).architecture
    rates = [architecture.stage_drop_rate(stage) for stage in (1, 2, 3, 4)]
    np.testing.assert_allclose(rates, (0.04, 0.06, 0.08, 0.10))


def test_parts_take_any_number_of_spatial_axes():
    """Norm, gate and stochastic depth see the axes between batch and channels as one."""
    image = random((4, 6, 5, 8))

    class Parts(nn.Module):
        @nn.compact
        def __call__(self, x):
            branch = BatchNorm(0.0, 2, name='norm')(x, True)
            branch = SqueezeExcite(0.25, dtype=jnp.float32, name='gate')(branch)
            return StochasticDepth(0.5)(branch, True)

    variables = Parts().init(
        {'params': jax.random.key(0), 'stochastic_depth': jax.random.key(1)}, image
    )
    rngs = {'stochastic_depth': jax.random.key(2)}
    of_image, stats = Parts().apply(variables, image, rngs=rngs, mutable=['batch_stats'])
    for shape in ((4, 30, 8), (4, 3, 2, 5, 8)):
        found, found_stats = Parts().apply(
            variables, image.reshape(shape), rngs=rngs, mutable=['batch_stats']
        )
        np.testing.assert_allclose(found, of_image.reshape(shape), 1e-5, 1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), found_stats, stats)


@pytest.mark.parametrize('height, width', ((1, 1), (1, 3), (2, 2), (3, 5)))
def test_average_pool_of_small_images_in_large_batches(height, width):
    """Against NumPy, with a window's pixels outside of the image left out."""
    x = np.random.default_rng(0).normal(size=(360, height, width, 16)).astype(np.float32)
    expected = [
        [x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in range(0, width, 2)]
        for i in range(0, height, 2)
    ]
    pooled = jax.jit(average_pool, static_argnums=1)(x, 2)
    np.testing.assert_allclose(pooled, np.moveaxis(expected, 2, 0), rtol=1e-5, atol=1e-6)
