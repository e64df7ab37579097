"""Initializers whose draws share a few compiled programs.

A network has dozens of shapes of kernels, and a program that draws costs far more time to compile
than to run. So a draw is made of a power of two of numbers, of which the first ones are kept:
with `jax_threefry_partitionable`, jax's default, the n-th number does not depend on how many there
are.
"""

import math

import jax
import jax.numpy as jnp

# A normal deviate cut off at 2 has this standard deviation; TensorFlow and flax divide by it too.
_STDDEV_OF_TRUNCATED_NORMAL = 0.87962566103423978
_FEWEST_DRAWN = 4096


def fan_in_truncated_normal(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
    """Draws a kernel of variance 1 / fan-in, cut off at two standard deviations.

    This is tf.variance_scaling_initializer() with its defaults, the initializer of the authors'
    TF1 code. The last axis of `shape` is that of the outputs.
    """
    stddev = math.sqrt(1 / math.prod(shape[:-1])) / _STDDEV_OF_TRUNCATED_NORMAL
    drawn = jax.random.truncated_normal(key, -2, 2, (_drawn(shape),), dtype)
    return _first(drawn * jnp.asarray(stddev, dtype), shape)


def normal(stddev: float):
    """Returns an initializer that draws from a normal distribution around 0."""

    def initializer(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
        drawn = jax.random.normal(key, (_drawn(shape),), dtype)
        return _first(drawn * jnp.asarray(stddev, dtype), shape)

    return initializer


def fan_out_normal(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
    """Draws a kernel of variance 2 / fan-out; `shape` ends in the inputs and the outputs."""
    fan_out = math.prod(shape[:-2]) * shape[-1]
    return normal(math.sqrt(2 / fan_out))(key, shape, dtype)


def uniform(limit: float):
    """Returns an initializer that draws uniformly from -limit to limit."""

    def initializer(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
        drawn = jax.random.uniform(key, (_drawn(shape),), dtype, -limit, limit)
        return _first(drawn, shape)

    return initializer


def _drawn(shape) -> int:
    return max(_FEWEST_DRAWN, 1 << (math.prod(shape) - 1).bit_length())


def _first(drawn: jax.Array, shape) -> jax.Array:
    return drawn[: math.prod(shape)].reshape(shape)
