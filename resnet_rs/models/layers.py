"""Parts that every network of the family is combined from.

Spatial arrays are NHWC. Convolutions compute in `dtype`; batch statistics are taken in float32
(float64 where the input is), whatever `dtype` is.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = Any
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {'relu': nn.relu, 'swish': nn.swish}

# The initialiser of the authors' TF1 code: tf.variance_scaling_initializer() with its defaults.
kernel_init = nn.initializers.variance_scaling(1.0, 'fan_in', 'truncated_normal')


def accumulation_dtype(dtype: Dtype) -> Dtype:
    """float32, or float64 where `dtype` is: what sums, logits and losses are kept in."""
    return jnp.promote_types(jnp.float32, dtype)


def explicit_padding(kernel_size: int, padding: str) -> str | tuple[tuple[int, int], ...]:
    """The padding argument of a square convolution or pool.

    'symmetric' pads (k-1)//2 before and the rest after, whatever the stride, as the authors'
    code and PyTorch do. 'same' is TensorFlow's rule, which on even sizes pads a strided 3x3
    only after; TF Model Garden's networks use it.
    """
    if padding == 'same':
        return 'SAME'
    before = (kernel_size - 1) // 2
    return ((before, kernel_size - 1 - before),) * 2


class BatchNorm(nn.Module):
    """Batch normalisation over groups of consecutive examples (epsilon 1e-5 in all networks).

    With `group_size` examples to a group each group is normalised by its own statistics, as the
    cores of the authors' TPU code do; None takes the whole batch, over all devices.
    The running statistics are `momentum * old + (1 - momentum) * new`, where new is the mean over
    groups of the group mean and of the group variance n/(n-1) (the unbiased form that TF's fused
    batch normalisation and PyTorch keep; normalisation itself divides by n).
    """

    momentum: float
    group_size: int | None = None
    epsilon: float = 1e-5
    scale_init: Callable = nn.initializers.ones
    dtype: Dtype = jnp.bfloat16
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param('scale', self.scale_init, (channels,), self.param_dtype)
        bias = self.param('bias', nn.initializers.zeros, (channels,), self.param_dtype)
        running_mean = self.variable(
            'batch_stats', 'mean', jnp.zeros, (channels,), self.param_dtype
        )
        running_var = self.variable('batch_stats', 'var', jnp.ones, (channels,), self.param_dtype)

        accumulate = accumulation_dtype(x.dtype)
        if not train:
            mean, var = running_mean.value, running_var.value
            return self._normalise(x, mean, var, scale, bias, accumulate)

        group_size = self.group_size or x.shape[0]
        grouped = x.reshape(x.shape[0] // group_size, group_size, *x.shape[1:])
        axes = tuple(range(1, grouped.ndim - 1))
        values = grouped.astype(accumulate)
        mean = values.mean(axes, keepdims=True)
        var = jnp.maximum(jnp.square(values).mean(axes, keepdims=True) - jnp.square(mean), 0)
        if not self.is_initializing():
            count = grouped.size // (grouped.shape[0] * channels)
            unbiased = var * (count / max(count - 1, 1))
            keep = self.momentum
            for running, new in ((running_mean, mean), (running_var, unbiased)):
                new = new.reshape(-1, channels).mean(0).astype(self.param_dtype)
                running.value = keep * running.value + (1 - keep) * new
        return self._normalise(grouped, mean, var, scale, bias, accumulate).reshape(x.shape)

    def _normalise(self, x, mean, var, scale, bias, accumulate):
        multiplier = scale * jax.lax.rsqrt(var + self.epsilon)
        return ((x.astype(accumulate) - mean) * multiplier + bias).astype(self.dtype)


def squeeze_excite_width(channels: int, ratio: float, divisor: int) -> int:
    """max(1, int(channels * ratio)), rounded to a multiple of `divisor`.

    timm rounds to 8 in the plain SE-ResNets; the paper's networks do not round (divisor 1).
    """
    width = max(1, int(channels * ratio))
    return max(int(width + divisor / 2) // divisor, 1) * divisor


class SqueezeExcite(nn.Module):
    """Channel gate: global mean -> dense -> activation -> dense -> sigmoid -> multiply.

    Both dense layers have a bias (zero at the start); `squeeze_excite_width` is between them. The
    inner activation is ReLU in all published networks, Model Garden's swish ones included.
    """

    ratio: float
    divisor: int = 1
    dtype: Dtype = jnp.bfloat16
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        hidden = squeeze_excite_width(channels, self.ratio, self.divisor)
        options = dict(kernel_init=kernel_init, dtype=self.dtype, param_dtype=self.param_dtype)
        gate = x.mean((1, 2), dtype=accumulation_dtype(x.dtype)).astype(self.dtype)
        gate = nn.relu(nn.Dense(hidden, name='reduce', **options)(gate))
        gate = nn.sigmoid(nn.Dense(channels, name='expand', **options)(gate))
        return x * gate[:, None, None, :]


class StochasticDepth(nn.Module):
    """Drops a residual branch per example with probability `rate` and divides the kept by 1 - rate.

    Draws from the RNG stream 'stochastic_depth'. The expectation of the branch is kept.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = jax.random.bernoulli(self.make_rng('stochastic_depth'), keep, shape)
        return x * (kept.astype(x.dtype) / jnp.asarray(keep, x.dtype))
