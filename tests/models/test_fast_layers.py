"""The formulations that are fast on a TPU against the plain ones, values and gradients."""

import jax
import jax.numpy as jnp
import naive_resnet
import numpy as np
import pytest

from configs import digits
from resnet_rs.models import create_model
from resnet_rs.models.layers import BatchNorm
from resnet_rs.training.sharding import create_mesh
from resnet_rs.training.steps import create_program


def float64(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


def noisy(tree, seed=0):
    """Every leaf moved, so that no scale is zero and no branch silent."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.asarray(x) + 0.1 * random.normal(size=x.shape), tree)


def assert_close(a, b, tolerance):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b
    )


def test_the_network_is_the_naive_one():
    """Logits, batch statistics and gradients of all parameters in float64."""
    settings = dict(stage_sizes=(1, 2), num_classes=7)
    with jax.enable_x64():
        ours = create_model('resnet_rs_50', dtype='float64', width_multiplier=0.125, **settings)
        naive = naive_resnet.ResNet(
            dropout_rate=0.0, stochastic_depth_rate=0.0, dtype=jnp.float64, width=8, **settings
        )
        random = np.random.default_rng(1)
        images = random.normal(size=(4, 16, 27, 3))
        cotangent = random.normal(size=(4, 7))
        variables = float64(noisy(ours.init(jax.random.key(0), images[:1], False)))

        def run(model):
            def loss(params):
                logits, updated = model.apply(
                    variables | {'params': params}, images, True, mutable=['batch_stats']
                )
                return (logits * cotangent).sum(), (logits, updated['batch_stats'])

            return jax.jit(jax.grad(loss, has_aux=True))(variables['params'])

        gradients, (logits, statistics) = run(ours)
        naive_gradients, (naive_logits, naive_statistics) = run(naive)
        assert_close(logits, naive_logits, 1e-9)
        assert_close(gradients, naive_gradients, 1e-8)
        means = [
            [x for path, x in jax.tree.leaves_with_path(tree) if path[-1].key == 'mean']
            for tree in (statistics, naive_statistics)
        ]
        assert_close(*means, 1e-6)  # kept in float32


@pytest.mark.parametrize('group_size', (None, 4))
def test_batch_norm_gradients_in_groups(group_size):
    """Against the definition: each group minus its mean over its deviation, in float64."""
    random = np.random.default_rng(2)
    x, cotangent = random.normal(size=(2, 8, 5, 3, 4)) + 1
    parameters = {'scale': random.normal(size=4), 'bias': random.normal(size=4)}
    variables = {
        'params': parameters,
        'batch_stats': {'mean': np.zeros(4, np.float32), 'var': np.ones(4, np.float32)},
    }

    def layer(parameters, x):
        y, _ = BatchNorm(0.0, group_size).apply(
            variables | {'params': parameters}, x, True, mutable=['batch_stats']
        )
        return (y * cotangent).sum()

    def definition(parameters, x):
        groups = jnp.stack(jnp.split(x, 8 // (group_size or 8)))
        deviations = groups - groups.mean((1, 2, 3), keepdims=True)
        variance = (deviations**2).mean((1, 2, 3), keepdims=True)
        y = (deviations / jnp.sqrt(variance + 1e-5)).reshape(x.shape)
        return ((y * parameters['scale'] + parameters['bias']) * cotangent).sum()

    with jax.enable_x64():
        results, expected = (
            jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(parameters, x)
            for f in (layer, definition)
        )
        assert_close(results, expected, 1e-10)


def test_the_training_step_is_the_naive_one():
    """Parameters and their average after two steps in float32."""
    config = digits.get_config('debug').unlock()
    config.model.update(
        stage_sizes=(1,), dtype='float32', dropout_rate=0.0, stochastic_depth_rate=0.0
    )
    config.batch_size = config.eval.batch_size = 8
    config.duration, config.optimizer.warmup = '40 steps', '0 steps'
    program = create_program(config, create_mesh(jax.devices()[:1]), 1437)
    model = naive_resnet.ResNet((1,), config.model.num_classes, 0.0, 0.0, jnp.float32, 8)
    peak = config.optimizer.learning_rate * 8 / 256

    def cosine(step):
        return peak * (1 + jnp.cos(jnp.pi * step / 40)) / 2

    init, train_step = naive_resnet.create_step(config, model, cosine)
    state = program.init()
    naive_state = jax.tree.map(jnp.copy, init(state.variables))
    random = np.random.default_rng(3)
    for _ in range(2):
        batch = {
            'image': random.integers(0, 256, (8, 32, 32, 3)).astype(np.uint8),
            'label': random.integers(0, config.model.num_classes, 8).astype(np.int32),
        }
        naive_state, _ = jax.jit(train_step)(naive_state, batch)
        state, _ = program.train_step(state, batch | {'mask': np.ones(8, np.float32)}, {})
    assert_close(state.variables['params'], naive_state['variables']['params'], 2e-4)
    assert_close(state.ema['params'], naive_state['ema']['params'], 2e-4)
