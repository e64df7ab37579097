"""Parts that every network of the family is combined from.

Spatial arrays are NHWC. Convolutions compute in `dtype`; batch statistics are taken in float32
(float64 where the input is), whatever `dtype` is.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_rs.models.initializers import fan_in_truncated_normal

Dtype = Any
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {'relu': nn.relu, 'swish': nn.swish}



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


@dataclasses.dataclass(frozen=True)
class Affine:
    """x * multiplier + offset, not computed yet: `value` does it, in one pass over memory.

    A block scales its branch several times (batch norm, squeeze-excite gate, stochastic depth).
    All of these are products of small arrays until the sum with the shortcut needs the value.
    """

    x: jax.Array  # [batch, height, width, channels]
    multiplier: jax.Array  # [batch or 1, channels], of the accumulation dtype
    offset: jax.Array  # [batch or 1, channels], of the accumulation dtype
    mean: jax.Array | None = None  # of x over height and width, where it is known already

    def scaled(self, factor: jax.Array) -> 'Affine':
        """`factor` is [batch or 1, channels or 1]."""
        return Affine(self.x, self.multiplier * factor, self.offset * factor, self.mean)

    def spatial_mean(self) -> jax.Array:
        """[batch, channels], of the accumulation dtype."""
        mean = spatial_mean(self.x) if self.mean is None else self.mean
        return mean * self.multiplier + self.offset

    def value(self) -> jax.Array:
        """[batch, height, width, channels], of the accumulation dtype."""
        multiplier, offset = self.multiplier[:, None, None], self.offset[:, None, None]
        return self.x.astype(accumulation_dtype(self.x.dtype)) * multiplier + offset


def spatial_mean(x: jax.Array) -> jax.Array:
    """The mean over height and width, [batch, channels], of the accumulation dtype."""
    return x.mean((1, 2), dtype=accumulation_dtype(x.dtype))


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of an array [batch, height, width, channels], both of the accumulation dtype."""

    mean: jax.Array  # over height and width, [batch, channels]
    variance: jax.Array  # over n, of groups of consecutive examples, [groups, channels]


def moments(x: jax.Array, groups: int) -> Moments:
    """The moments of `x` in equal `groups`.

    Sums are taken per example first: the compiler puts those into the convolution that makes x,
    and squeeze-excite needs the same ones.
    """
    mean = spatial_mean(x)
    mean_square = spatial_mean(jnp.square(x.astype(mean.dtype)))
    square_mean = jnp.square(group_means(mean, groups))
    return Moments(mean, group_means(mean_square, groups) - square_mean)


def group_means(of_examples: jax.Array, groups: int) -> jax.Array:
    """[groups, channels] of [batch, channels], over equal groups of consecutive examples."""
    return of_examples.reshape(groups, -1, of_examples.shape[-1]).mean(1)


def group_count(x: jax.Array, group_size: int | None) -> int:
    """Groups of `group_size` examples in a batch; None: one group."""
    return x.shape[0] // (group_size or x.shape[0])


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
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, of_x: Moments | None = None) -> Affine:
        """`of_x`: the moments of x where they are known already."""
        channels = x.shape[-1]
        scale = self.param('scale', self.scale_init, (channels,), self.param_dtype)
        bias = self.param('bias', nn.initializers.zeros, (channels,), self.param_dtype)
        running_mean = self.variable(
            'batch_stats', 'mean', jnp.zeros, (channels,), self.param_dtype
        )
        running_var = self.variable('batch_stats', 'var', jnp.ones, (channels,), self.param_dtype)
        mean, var = running_mean.value[None], running_var.value[None]
        if train:
            groups = group_count(x, self.group_size)
            of_x = of_x or moments(x, groups)
            mean, var = group_means(of_x.mean, groups), jnp.maximum(of_x.variance, 0)
            if not self.is_initializing():
                count = x.size // (groups * channels)
                unbiased = var * (count / max(count - 1, 1))
                keep = self.momentum
                for running, new in ((running_mean, mean), (running_var, unbiased)):
                    new = new.mean(0).astype(self.param_dtype)
                    running.value = keep * running.value + (1 - keep) * new
            if groups > 1:
                mean, var = (jnp.repeat(v, x.shape[0] // groups, axis=0) for v in (mean, var))
        multiplier = scale * jax.lax.rsqrt(var + self.epsilon)
        return Affine(x, multiplier, bias - mean * multiplier, of_x and of_x.mean)


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
    def __call__(self, branch: Affine) -> Affine:
        channels = branch.x.shape[-1]
        hidden = squeeze_excite_width(channels, self.ratio, self.divisor)
        options = dict(
            kernel_init=fan_in_truncated_normal, dtype=self.dtype, param_dtype=self.param_dtype
        )
        gate = branch.spatial_mean().astype(self.dtype)
        gate = nn.relu(nn.Dense(hidden, name='reduce', **options)(gate))
        gate = nn.sigmoid(nn.Dense(channels, name='expand', **options)(gate))
        return branch.scaled(gate)


class StochasticDepth(nn.Module):
    """Drops a residual branch per example with probability `rate` and divides the kept by 1 - rate.

    Draws from the RNG stream 'stochastic_depth'. The expectation of the branch is kept.
    """

    rate: float

    @nn.compact
    def __call__(self, branch: Affine, train: bool) -> Affine:
        if not train or self.rate == 0.0:
            return branch
        keep, examples = 1.0 - self.rate, branch.x.shape[0]
        kept = jax.random.bernoulli(self.make_rng('stochastic_depth'), keep, (examples, 1))
        return branch.scaled(kept / jnp.asarray(keep, branch.multiplier.dtype))
