"""Initializers that share a few compiled programs.

A network has kernels of dozens of shapes, and compiling a random draw takes far longer than
running it. So an initializer draws a power of two of numbers and keeps the first ones: with
`jax_threefry_partitionable`, JAX's default, the n-th number does not depend on the total.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

# A normal deviate cut off at 2 has this standard deviation; TensorFlow and flax divide by it too.
_STDDEV_OF_TRUNCATED_NORMAL = 0.87962566103423978
_FEWEST_DRAWN = 4096


def fan_in_truncated_normal(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
    """Draws a kernel of variance 1 / fan-in, truncated at two standard deviations.

    This is tf.variance_scaling_initializer() with its defaults, the initializer of the authors'
    TF1 code. The last axis of `shape` is that of the outputs.
    """
    stddev = math.sqrt(1 / math.prod(shape[:-1])) / _STDDEV_OF_TRUNCATED_NORMAL
    drawn = jax.random.truncated_normal(key, -2, 2, (_drawn(shape),), dtype)
    return _scaled(drawn, stddev, shape)


def truncated_normal(stddev: float):
    """Returns an initializer that draws around 0, truncated at twice `stddev` (TensorFlow's)."""

    def initializer(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
        drawn = jax.random.truncated_normal(key, -2, 2, (_drawn(shape),), dtype)
        return _scaled(drawn, stddev, shape)

    return initializer


def normal(stddev: float):
    """Returns an initializer that draws from a normal distribution around 0."""

    def initializer(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
        drawn = jax.random.normal(key, (_drawn(shape),), dtype)
        return _scaled(drawn, stddev, shape)

    return initializer


def uniform(limit: float):
    """Returns an initializer that draws uniformly from -limit to limit."""

    def initializer(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
        drawn = jax.random.uniform(key, (_drawn(shape),), dtype, -1, 1)
        return _scaled(drawn, limit, shape)

    return initializer


def fan_out_normal(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
    """Draws a kernel of variance 2 / fan-out (He et al. 2015, as torchvision and ResNeSt).

    `shape` ends in the inputs and the outputs.
    """
    stddev = math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1]))
    return normal(stddev)(key, shape, dtype)


def xavier_uniform(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
    """Draws a kernel within +-sqrt(6 / (fan-in + fan-out)) (Glorot and Bengio 2010)."""
    positions = math.prod(shape[:-2])
    return uniform(math.sqrt(6 / (positions * (shape[-2] + shape[-1]))))(key, shape, dtype)


def fan_in_uniform(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
    """Draws a kernel within +-1 / sqrt(fan-in), as PyTorch does for a dense layer."""
    return uniform(math.sqrt(1 / math.prod(shape[:-1])))(key, shape, dtype)


def zeros(key: jax.Array, shape, dtype=jnp.float32) -> np.ndarray:
    """Returns zeros; an initializer that compiles nothing."""
    return np.zeros(shape, dtype)


def ones(key: jax.Array, shape, dtype=jnp.float32) -> np.ndarray:
    """Returns ones; an initializer that compiles nothing."""
    return np.ones(shape, dtype)


def _drawn(shape) -> int:
    return max(_FEWEST_DRAWN, 1 << (math.prod(shape) - 1).bit_length())


def _scaled(drawn: jax.Array, factor: float, shape) -> jax.Array:
    """Returns the first numbers of `drawn` times `factor`, as an array of `shape`.

    Outside of a program NumPy does it, which has nothing to compile for each shape.
    """
    if not isinstance(drawn, jax.core.Tracer):
        drawn = np.asarray(drawn)
    return (drawn * np.asarray(factor, drawn.dtype))[: math.prod(shape)].reshape(shape)


# By the setting `initializer`: of the kernels of a network, and of its head.
KERNELS = {
    'truncated_normal': fan_in_truncated_normal,
    'he_normal': fan_out_normal,
    'xavier_uniform': xavier_uniform,
}
HEADS = {
    'truncated_normal': normal(0.01),
    'he_normal': fan_in_uniform,
    'xavier_uniform': xavier_uniform,
}
