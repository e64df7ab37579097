"""Two steps of training in float64, and the share of the state that a device holds."""

import jax
import jax.numpy as jnp
import numpy as np

from resnet_rs.training.sharding import to_global
from resnet_rs.training.steps import create_program


def two_float64_steps(config, mesh):
    """Returns the state and the metrics of two steps on random images of ten classes."""
    config.model.dtype = config.model.param_dtype = 'float64'
    program = create_program(config, mesh, 1437)
    state = program.init()
    state = state.replace(
        window={
            name: value.astype(float) if value.dtype == jnp.float32 else value
            for name, value in state.window.items()
        }
    )
    random, size, metrics = np.random.default_rng(0), config.batch_size, []
    for _ in range(2):
        batch = {
            'image': random.integers(0, 256, (size, 32, 32, 3)).astype(np.uint8),
            'label': random.integers(0, 10, size).astype(np.int32),
            'mask': np.ones(size, np.float32),
        }
        state, found = program.train_step(state, to_global(batch, mesh), {})
        metrics.append(jax.device_get(found))
    return state, metrics


def held_shares(state):
    """Returns, for each part of a state, the fraction of its elements that one device holds."""
    return {
        part: sum(leaf.addressable_shards[0].data.size for leaf in jax.tree.leaves(tree))
        / sum(leaf.size for leaf in jax.tree.leaves(tree))
        for part, tree in (
            ('params', state.variables['params']),
            ('ema', state.ema),
            ('opt', state.opt_state),
        )
    }
