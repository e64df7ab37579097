"""DropBlock (Ghiasi et al. 2018, arXiv 1810.12890): whole squares of a feature map are dropped."""

import jax
import jax.numpy as jnp
from flax import linen as nn

BLOCK_SIZE = 3


def drop_block(x: jax.Array, rate: jax.Array | float, key: jax.Array) -> jax.Array:
    """Returns `x` [batch, height, width, channels] with squares set to zero, the rest scaled up.

    About the share `rate` of the values is dropped. As in GluonCV, which trained ResNeSt: one mask
    [height, width, channels] for the whole batch; every position is the centre of a dropped 3x3
    square with probability rate * H W / (9 (H - 2) (W - 2)); the rest is divided by the share that
    was kept. A square is no larger than the feature map.
    """
    _, height, width, channels = x.shape
    size = min(BLOCK_SIZE, height, width)
    positions = (height - size + 1) * (width - size + 1)
    gamma = rate * (height * width / (size**2 * positions))
    centres = jax.random.bernoulli(key, gamma, (1, height, width, channels))
    dropped = nn.max_pool(centres.astype(x.dtype), (size, size), padding='SAME')
    kept = 1 - dropped
    share = kept.mean(dtype=jnp.promote_types(jnp.float32, x.dtype))
    return x * (kept / jnp.maximum(share, 1 / kept.size)).astype(x.dtype)
