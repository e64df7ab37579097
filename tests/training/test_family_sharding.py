"""ResNeSt and EfficientNet learn the same on one device and with their state split over eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from resnet_rs.models.efficientnet_table import EFFICIENTNETS
from resnet_rs.models.resnest_variants import RESNEST
from resnet_rs.training.sharding import create_mesh, to_global
from resnet_rs.training.steps import create_program

# What is special in the training of a family: its schedule of DropBlock, its optimizer.
SETTINGS = {
    'resnest_14': {'model.drop_block_rate': 0.1, 'optimizer.nesterov': True},
    'efficientnet_b0': {
        'model.padding': 'same',
        'model.batch_norm_epsilon': 1e-3,
        'optimizer.name': 'rmsprop',
        'optimizer.learning_rate': 0.016,
    },
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """ResNeSt with one stage and EfficientNet with two, which compile sooner."""
    monkeypatch.setitem(RESNEST['resnest_14'], 'stage_sizes', (1,))
    monkeypatch.setitem(EFFICIENTNETS['efficientnet_b0'], 'stage_sizes', (1, 2))


def two_steps(name, devices, strategy):
    """The state and the losses of two steps in float64, and the share of it that a device holds."""
    config = digits.get_config('debug').unlock()
    config.model.name = name
    config.model.dtype = 'float64'
    config.model.dropout_rate = config.model.stochastic_depth_rate = 0.2
    config.model.batch_norm_group_size = -1
    config.duration = '4 steps'
    config.optimizer.warmup = '0 steps'
    config.sharding.update(strategy=strategy, replicate_below=64)
    config.update_from_flattened_dict(SETTINGS[name])
    config.model.param_dtype = 'float64'
    mesh = create_mesh(jax.devices()[:devices])
    program = create_program(config, mesh, 1437)
    state = program.init()
    state = state.replace(
        window={
            key: value.astype(float) if value.dtype == jnp.float32 else value
            for key, value in state.window.items()
        }
    )
    random, losses = np.random.default_rng(0), []
    for _ in range(2):
        batch = {
            'image': random.integers(0, 256, (16, 32, 32, 3)).astype(np.uint8),
            'label': random.integers(0, 10, 16).astype(np.int32),
            'mask': np.ones(16, np.float32),
        }
        state, metrics = program.train_step(state, to_global(batch, mesh), {})
        losses.append(float(metrics['loss']))
    split = state.opt_state if strategy == 'zero1' else (state.opt_state, state.variables['params'])
    leaves = jax.tree.leaves(split)
    held = sum(leaf.addressable_shards[0].data.size for leaf in leaves)
    return jax.device_get(state), losses, held / sum(leaf.size for leaf in leaves)


@pytest.mark.parametrize('name, strategy', (('resnest_14', 'zero1'), ('efficientnet_b0', 'fsdp')))
def test_eight_devices_are_one(name, strategy):
    with jax.enable_x64(True):
        expected, losses, whole = two_steps(name, 1, 'data_parallel')
        state, same_losses, held = two_steps(name, 8, strategy)
    assert whole == 1 and held < 0.5
    np.testing.assert_allclose(same_losses, losses, rtol=1e-9)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-11)
