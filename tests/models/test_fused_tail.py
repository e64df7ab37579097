"""The widening convolution: its output, moments and gradients against their definitions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_rs.models import create_model, fused_tail, resnet
from resnet_rs.models.fused_tail import WideningConvolution, widen

RANDOM = np.random.default_rng(0)
X, KERNEL = RANDOM.normal(size=(6, 5, 3, 4)) + 1, RANDOM.normal(size=(4, 10))
COTANGENTS = [RANDOM.normal(size=shape) for shape in ((6, 5, 3, 10), (6, 10), (2, 10))]


def definition(x, kernel, groups, numpy=np):
    y = numpy.einsum('bhwi,io->bhwo', x, kernel)
    grouped = y.reshape(groups, -1, y.shape[-1])
    return y, y.mean((1, 2)), grouped.var(1)


@pytest.mark.parametrize('groups', (1, 2, 3))
def test_values(groups):
    with jax.enable_x64():
        found = widen(jnp.asarray(X), jnp.asarray(KERNEL), groups)
    for value, expected in zip(found, definition(X, KERNEL, groups), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('which', (0, 1, 2))
def test_gradients(which):
    """Compares each output alone, in float64, where JAX differentiates the definition."""
    with jax.enable_x64():
        found, expected = (
            jax.grad(
                lambda x, kernel, function=function: (
                    function(x, kernel)[which] * COTANGENTS[which]
                ).sum(),
                (0, 1),
            )(jnp.asarray(X), jnp.asarray(KERNEL))
            for function in (
                lambda x, kernel: widen(x, kernel, 2),
                lambda x, kernel: definition(x, kernel, 2, jnp),
            )
        )
    for a, b in zip(found, expected, strict=True):
        assert np.abs(b).max() > 1e-3
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_variance_does_not_cancel_in_bfloat16():
    """Values of mean 16 and deviation 1, which bfloat16 keeps to 0.06, and float32 sums."""
    x = jnp.asarray(RANDOM.normal(size=(8, 16, 16, 4)) + 16, jnp.bfloat16)
    kernel = jnp.asarray(np.abs(KERNEL), jnp.bfloat16)
    _, mean, variance = widen(x, kernel, 1)
    _, expected_mean, expected_variance = definition(
        np.asarray(x, np.float64), np.asarray(kernel, np.float64), 1
    )
    assert mean.dtype == variance.dtype == jnp.float32
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-5)
    np.testing.assert_allclose(variance, expected_variance, rtol=1e-3)


def test_variable_and_values_are_those_of_a_plain_convolution():
    plain = nn.Conv(10, (1, 1), use_bias=False)
    layer = WideningConvolution(10, dtype=jnp.float32)
    variables = plain.init(jax.random.key(0), X)
    shapes = jax.tree.map(jnp.shape, variables)
    assert jax.tree.map(jnp.shape, layer.init(jax.random.key(0), X, False)) == shapes
    y, moments = layer.apply(variables, X, False)
    assert moments is None
    np.testing.assert_allclose(y, plain.apply(variables, X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', ('resnet_rs_14', 'se_resnet_18', 'resnet_14_v1'))
def test_the_fused_tail_equals_its_definition(name, monkeypatch):
    """Logits, statistics and gradients of a network, in training and in evaluation, in float64."""
    results = []
    with jax.enable_x64():
        model = create_model(
            name,
            num_classes=5,
            stage_sizes=(2, 1),
            width_multiplier=0.125,
            dtype='float64',
            param_dtype=jnp.float64,
            stochastic_depth_rate=0.4,
            batch_norm_group_size=4,
        )
        images = jnp.asarray(RANDOM.normal(size=(8, 40, 40, 3)))
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
        random = np.random.default_rng(1)
        variables = jax.tree.map(lambda leaf: random.uniform(0.2, 0.6, leaf.shape), shapes)
        rngs = {'stochastic_depth': jax.random.key(1)}

        def loss(params):
            logits, updated = model.apply(
                variables | {'params': params}, images, True, rngs=rngs, mutable=['batch_stats']
            )
            return (jax.nn.log_softmax(logits)[:, 0] ** 2).sum(), (logits, updated)

        for tail in (fused_tail.fused_tail, fused_tail.plain_tail):
            monkeypatch.setattr(resnet, 'fused_tail', tail)
            gradients, outputs = jax.jit(jax.grad(loss, has_aux=True))(variables['params'])
            results.append((gradients, outputs, model.apply(variables, images, False)))
            jax.clear_caches()
    for fused, plain in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-8, atol=1e-9 * np.abs(plain).max())
