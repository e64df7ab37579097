"""The parts that all networks share, for any number of spatial axes.

Arrays are [batch, spatial axes ..., channels]. Convolutions compute in `dtype`; batch statistics
are taken in float32 (float64 where the input is), whatever `dtype` is. Norm, gate and stochastic
depth take an array and return one; the fused tail of a block (fused_tail.py) gives them an
`Affine`.
"""

import dataclasses
import fractions
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resnet_rs.models.initializers import fan_in_truncated_normal, ones, zeros
from resnet_rs.utils.errors import UserError

Dtype = Any
OUTPUTS = ('logits', 'pooled', 'stages')
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {'relu': nn.relu, 'swish': nn.swish}


def accumulation_dtype(dtype: Dtype) -> Dtype:
    """Returns the dtype of sums, logits and losses: float32, or float64 if `dtype` is."""
    return jnp.promote_types(jnp.float32, dtype)


def explicit_padding(
    kernel_size: int | Sequence[int], padding: str
) -> str | tuple[tuple[int, int], ...]:
    """Returns the padding argument of a convolution or pool, square if `kernel_size` is a number.

    'symmetric' pads (k-1)//2 before and the rest after, whatever the stride, as the authors'
    code and PyTorch do. 'same' is TensorFlow's rule, which on even sizes pads a strided 3x3
    only after; TF Model Garden's networks use it.
    """
    if padding == 'same':
        return 'SAME'
    sizes = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    return tuple(((size - 1) // 2, size - 1 - (size - 1) // 2) for size in sizes)


def check_call(images: jax.Array, output: str, axes: int = 2) -> None:
    """Raises UserError for images other than float [batch, height, width, 3], or another output.

    `output` is one of OUTPUTS, which every network takes. With three spatial `axes` the images are
    clips, [batch, frames, height, width, 3].
    """
    if output not in OUTPUTS:
        raise UserError(f'output is {output!r}; it takes {", ".join(OUTPUTS)}')
    if not jnp.issubdtype(images.dtype, jnp.floating) or images.shape[axes + 1 :] != (3,):
        kind, shape = 'images', '[batch, height, width, 3]'
        if axes == 3:
            kind, shape = 'clips', '[batch, frames, height, width, 3]'
        raise UserError(
            f'the {kind} are {images.dtype}{list(images.shape)}; the network takes normalised '
            f'{kind} of a float dtype, {shape}: (pixels - mean) / deviation'
        )


def average_pool(x: jax.Array, stride: int) -> jax.Array:
    """Returns means over windows of 2 with TensorFlow's SAME padding, which the means leave out.

    The windows are of height and width, the last two spatial axes. An axis of one pixel gets a
    window of one: XLA averages it wrongly on CPUs in large batches.
    """
    sizes = (*(1,) * (x.ndim - 4), *x.shape[-3:-1])
    window = tuple(1 if size == 1 else 2 for size in sizes)
    strides = tuple(1 if size == 1 else stride for size in sizes)
    return nn.avg_pool(x, window, strides, padding='SAME', count_include_pad=False)


@dataclasses.dataclass(frozen=True)
class Affine:
    """x * multiplier + offset, not computed yet: `value` does it, in one pass over memory.

    A block scales its branch several times (batch norm, squeeze-excite gate, stochastic depth).
    All of these are products of small arrays until the sum with the shortcut needs the value.
    """

    x: jax.Array  # [batch, spatial axes ..., channels]
    multiplier: jax.Array  # [batch or 1, channels], of the accumulation dtype
    offset: jax.Array  # [batch or 1, channels], of the accumulation dtype
    mean: jax.Array | None = None  # of x over the spatial axes, where it is known already

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def dtype(self) -> Dtype:
        return self.multiplier.dtype

    def value(self) -> jax.Array:
        """Returns an array like `x`, of the accumulation dtype."""
        multiplier, offset = (over_space(v, self.x) for v in (self.multiplier, self.offset))
        return self.x.astype(accumulation_dtype(self.x.dtype)) * multiplier + offset


def scaled(x: jax.Array | Affine, factor: jax.Array) -> jax.Array | Affine:
    """Returns `x` times `factor` [batch or 1, channels or 1]."""
    if isinstance(x, Affine):
        return Affine(x.x, x.multiplier * factor, x.offset * factor, x.mean)
    return x * over_space(factor, x)


def spatial_mean(x: jax.Array | Affine) -> jax.Array:
    """Returns the mean over the spatial axes, [batch, channels], of the accumulation dtype."""
    if isinstance(x, Affine):
        mean = spatial_mean(x.x) if x.mean is None else x.mean
        return mean * x.multiplier + x.offset
    return x.mean(tuple(range(1, x.ndim - 1)), dtype=accumulation_dtype(x.dtype))


def over_space(of_channels: jax.Array, x: jax.Array) -> jax.Array:
    """Returns [batch or 1, channels] with an axis of length 1 for each spatial axis of `x`."""
    return jnp.expand_dims(of_channels, tuple(range(1, x.ndim - 1)))


@dataclasses.dataclass(frozen=True)
class Moments:
    """The mean and the variance of an array, both of the accumulation dtype."""

    mean: jax.Array  # over the spatial axes, [batch, channels]
    variance: jax.Array  # over n, of groups of consecutive examples, [groups, channels]


def moments(x: jax.Array, groups: int) -> Moments:
    """Returns the moments of `x` in equal `groups`.

    It sums per example first: the compiler fuses these sums into the convolution that makes x,
    and squeeze-excite needs the same sums.
    """
    mean = spatial_mean(x)
    mean_square = spatial_mean(jnp.square(x.astype(mean.dtype)))
    square_mean = jnp.square(group_means(mean, groups))
    return Moments(mean, group_means(mean_square, groups) - square_mean)


def group_means(of_examples: jax.Array, groups: int) -> jax.Array:
    """Averages [batch, channels] over equal groups of consecutive examples: [groups, channels]."""
    return of_examples.reshape(groups, -1, of_examples.shape[-1]).mean(1)


def group_count(x: jax.Array, group_size: int | None) -> int:
    """Returns the number of groups of `group_size` examples in a batch; None or 0: one group.

    Raises UserError, when the call is traced, unless the groups divide the batch.
    """
    examples = x.shape[0]
    if not group_size:
        return 1
    if group_size < 0 or examples % group_size:
        raise UserError(
            f'batch_norm_group_size is {group_size}, but the batch has {examples} examples; use a '
            'divisor of it, or None for one group of all'
        )
    return examples // group_size


class BatchNorm(nn.Module):
    """Batch normalisation over groups of consecutive examples.

    Epsilon is 1e-5; EfficientNet has a setting for it.
    With `group_size` examples to a group each group is normalised by its own statistics, as the
    cores of the authors' TPU code do; None takes the whole batch, over all devices.
    The running statistics are `momentum * old + (1 - momentum) * new`, where new is the mean over
    groups of the group mean and of the group variance n/(n-1) (the unbiased form that TF's fused
    batch normalisation and PyTorch keep; normalisation itself divides by n).
    """

    momentum: float
    group_size: int | None = None
    epsilon: float = 1e-5
    scale_init: Callable = ones
    param_dtype: Dtype = jnp.float32

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns `x` normalised, of the accumulation dtype."""
        return self.affine(x, train).value()

    @nn.compact
    def affine(self, x: jax.Array, train: bool, of_x: Moments | None = None) -> Affine:
        """Returns the normalised `x`, not computed yet; `of_x` are its moments where known."""
        channels = x.shape[-1]
        scale = self.param('scale', self.scale_init, (channels,), self.param_dtype)
        bias = self.param('bias', zeros, (channels,), self.param_dtype)
        running_mean = self.variable('batch_stats', 'mean', np.zeros, (channels,), self.param_dtype)
        running_var = self.variable('batch_stats', 'var', np.ones, (channels,), self.param_dtype)
        if self.is_initializing():  # the result is not used, and each shape would be compiled
            mean = spatial_mean(x)
            return Affine(x, mean, mean)
        mean, var = running_mean.value[None], running_var.value[None]
        if train:
            groups = group_count(x, self.group_size)
            of_x = of_x or moments(x, groups)
            mean, var = group_means(of_x.mean, groups), jnp.maximum(of_x.variance, 0)
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


def squeeze_excite_width(channels: int, ratio: float | fractions.Fraction, divisor: int) -> int:
    """Returns max(1, int(channels * ratio)), rounded to a multiple of `divisor`.

    timm rounds to 8 in the plain SE-ResNets; the paper's networks do not round (divisor 1).
    """
    width = max(1, int(channels * ratio))
    return max(int(width + divisor / 2) // divisor, 1) * divisor


class SqueezeExcite(nn.Module):
    """Channel gate: global mean -> dense -> activation -> dense -> sigmoid -> multiply.

    Both dense layers have a bias (zero at the start); `squeeze_excite_width` is between them. The
    inner activation is ReLU in all published ResNets, Model Garden's swish ones included, and
    swish in EfficientNet.
    """

    ratio: float | fractions.Fraction
    divisor: int = 1
    activation: str = 'relu'
    kernel_init: Callable = fan_in_truncated_normal
    dtype: Dtype = jnp.bfloat16
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, branch: jax.Array | Affine) -> jax.Array | Affine:
        channels = branch.shape[-1]
        hidden = squeeze_excite_width(channels, self.ratio, self.divisor)
        options = dict(
            kernel_init=self.kernel_init,
            bias_init=zeros,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        gate = spatial_mean(branch).astype(self.dtype)
        gate = ACTIVATIONS[self.activation](nn.Dense(hidden, name='reduce', **options)(gate))
        gate = nn.sigmoid(nn.Dense(channels, name='expand', **options)(gate))
        return scaled(branch, gate)


class SelfGate(nn.Module):
    """Channel gate of S3D-G (Xie et al. 2018): global mean -> dense -> sigmoid -> multiply."""

    kernel_init: Callable
    dtype: Dtype = jnp.bfloat16
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, branch: jax.Array | Affine) -> jax.Array | Affine:
        gate = nn.Dense(
            branch.shape[-1],
            kernel_init=self.kernel_init,
            bias_init=zeros,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name='gate',
        )(spatial_mean(branch).astype(self.dtype))
        return scaled(branch, nn.sigmoid(gate))


class StochasticDepth(nn.Module):
    """Stochastic depth: drops an example's residual branch with probability `rate`.

    Draws from the RNG stream 'stochastic_depth'. The branches that are kept are divided by
    1 - rate, so that the expectation is that of the branch.
    """

    rate: float

    @nn.compact
    def __call__(self, branch: jax.Array | Affine, train: bool) -> jax.Array | Affine:
        if not train or self.rate == 0.0:
            return branch
        return stochastic_depth(branch, self.rate, self.make_rng('stochastic_depth'))


def stochastic_depth(
    branch: jax.Array | Affine, rate: jax.Array | float, key: jax.Array
) -> jax.Array | Affine:
    """Drops each example of `branch` with probability `rate`, else divides it by 1 - `rate`."""
    keep = 1.0 - rate
    kept = jax.random.bernoulli(key, keep, (branch.shape[0], 1))
    return scaled(branch, kept / jnp.asarray(keep, branch.dtype))
