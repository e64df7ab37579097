"""ResNeSt and EfficientNet learn the same on one device and with their state split over eight."""

import jax
import numpy as np
import pytest
from helpers.sharded_steps import held_shares, two_float64_steps

from configs import digits
from resnet_rs.models.efficientnet_table import EFFICIENTNETS
from resnet_rs.models.resnest_variants import RESNEST
from resnet_rs.training.sharding import create_mesh

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
    """Returns the state and the metrics of two steps on some of the devices."""
    config = digits.get_config('debug').unlock()
    config.model.name = name
    config.model.dropout_rate = config.model.stochastic_depth_rate = 0.2
    config.model.batch_norm_group_size = -1
    config.duration = '4 steps'
    config.optimizer.warmup = '0 steps'
    config.sharding.update(strategy=strategy, replicate_below=64)
    config.update_from_flattened_dict(SETTINGS[name])
    return two_float64_steps(config, create_mesh(jax.devices()[:devices]))


@pytest.mark.parametrize('name, strategy', (('resnest_14', 'zero1'), ('efficientnet_b0', 'fsdp')))
def test_eight_devices_are_one(name, strategy):
    with jax.enable_x64(True):
        expected, metrics = two_steps(name, 1, 'data_parallel')
        state, same_metrics = two_steps(name, 8, strategy)
    assert set(held_shares(expected).values()) == {1}
    held = held_shares(state)
    assert held['opt'] < 0.5 and (held['params'] < 0.5) == (strategy == 'fsdp')
    losses, same_losses = ([each['loss'] for each in found] for found in (metrics, same_metrics))
    np.testing.assert_allclose(same_losses, losses, rtol=1e-9)
    for a, b in zip(*map(jax.tree.leaves, jax.device_get((expected, state))), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-11)
