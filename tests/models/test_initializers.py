"""Draws of padded length against the initializers of flax."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from resnet_rs.models import create_model, init_variables, initializers

FLAX_FAN_IN = nn.initializers.variance_scaling(1.0, 'fan_in', 'truncated_normal')


@pytest.mark.parametrize('shape', [(3, 3, 16, 32), (1, 1, 64, 256), (7, 5), (1000, 33)])
def test_draws_are_those_of_flax(shape):
    key = jax.random.key(3)
    for ours, flax in (
        (initializers.fan_in_truncated_normal, FLAX_FAN_IN),
        (initializers.normal(0.01), nn.initializers.normal(0.01)),
        (initializers.xavier_uniform, nn.initializers.xavier_uniform()),
        (initializers.fan_out_normal, nn.initializers.variance_scaling(2, 'fan_out', 'normal')),
        (initializers.fan_in_uniform, nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')),
    ):
        for dtype in (np.float32, np.float64):
            with jax.enable_x64(dtype == np.float64):
                drawn = ours(key, shape, dtype)
                # Programs of two lengths may round the last digit otherwise.
                np.testing.assert_allclose(drawn, flax(key, shape, dtype), rtol=5e-7)
                assert drawn.dtype == dtype


def test_a_network_draws_few_different_lengths(monkeypatch):
    """RS-101 has 27 shapes of kernels at this width; each length drawn is one compiled program."""
    lengths, draw = [], jax.random.truncated_normal

    def recorded(key, low, high, shape, dtype):
        lengths.append(shape)
        return draw(key, low, high, shape, dtype)

    monkeypatch.setattr(jax.random, 'truncated_normal', recorded)
    model = create_model('resnet_rs_101', width_multiplier=0.25, dtype='float32')
    variables = jax.eval_shape(lambda: init_variables(model, 64))
    shapes = {x.shape for x in jax.tree.leaves(variables['params']) if x.ndim > 1}
    assert len(shapes) > 20
    assert len(set(lengths)) < 9


def test_the_setting_reaches_every_kernel():
    """Bag of Tricks' text: within +-sqrt(6 / (fan-in + fan-out)); and scales may start at one."""
    model = create_model(
        'resnet_14d', width_multiplier=0.25, initializer='xavier_uniform', zero_gamma=False
    )
    params = init_variables(model, 32)['params']
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        leaf, name = np.asarray(leaf), path[-1].key
        if name == 'kernel':
            positions = np.prod(leaf.shape[:-2])
            limit = np.sqrt(6 / (positions * sum(leaf.shape[-2:])))
            assert 0.97 * limit < np.abs(leaf).max() <= limit, path
            np.testing.assert_allclose(leaf.std(), limit / np.sqrt(3), rtol=0.1)
        else:
            assert (leaf == (name == 'scale')).all(), path
