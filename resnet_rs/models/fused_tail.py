"""The end of a residual branch in one pass over memory: what makes a block fast on a TPU.

`plain_tail` is its definition: convolution, norm, squeeze-excite, stochastic depth, each an array.
`fused_tail` is equal to it (tests/models/test_fused_tail.py). It keeps the three scalings as one
product of small arrays (`layers.Affine`) until the sum with the shortcut needs the value. And of
the 1x1 convolution y = x W that widens a branch it takes the moments from x: the mean is m W and
the variance diag(W' C W), where m is the mean and C the covariance of x, which has a quarter of the
channels. So both are known before y is: the compiler can compute norm, gate, shortcut and
activation where it computes y, and the gradient of W without reading y again
(docs/tpu_performance.md).
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_rs.models.convolution import DIMENSIONS, conv_general_dilated
from resnet_rs.models.initializers import KERNELS
from resnet_rs.models.layers import (
    Dtype,
    Moments,
    group_count,
    group_means,
    over_space,
    spatial_mean,
)


def plain_tail(
    block,
    x: jax.Array,
    features: int,
    kernel_size: int,
    number: str,
    train: bool,
    key: jax.Array | None,
) -> jax.Array:
    """Returns the end of a branch: convolution, norm, squeeze-excite, stochastic depth.

    Args:
      block: a residual.Block, inside of its compact method.
      x: [batch, spatial axes ..., channels], the input of the last convolution.
      features: channels of the last convolution; kernel_size: its side.
      number: the number in the names of the last convolution and norm, 'conv3' and 'norm3'.
      train, key: as of the block.
    """
    x = block.convolved(x, features, kernel_size, 1, f'conv{number}', block.dilation)
    x = block.norm(name=f'norm{number}', ends_block=True)(x, train)
    return block.stochastic_depth(block.squeeze_excite(x), train, key)


def fused_tail(
    block,
    x: jax.Array,
    features: int,
    kernel_size: int,
    number: str,
    train: bool,
    key: jax.Array | None,
) -> jax.Array:
    """Returns what `plain_tail` does, computed in one pass."""
    norm = block.norm(name=f'norm{number}', ends_block=True)
    moments = None
    if kernel_size == 1 and features > x.shape[-1]:
        architecture = block.architecture
        widening = WideningConvolution(
            features,
            architecture.batch_norm_group_size,
            architecture.initializer,
            dtype=architecture.dtype,
            param_dtype=architecture.param_dtype,
            name=f'conv{number}',
        )
        x, moments = widening(x, train)
    else:
        x = block.convolved(x, features, kernel_size, 1, f'conv{number}', block.dilation)
    branch = norm.affine(x, train, moments)
    return block.stochastic_depth(block.squeeze_excite(branch), train, key).value()


class WideningConvolution(nn.Module):
    """A 1x1 convolution of stride 1 without bias; its variable is that of nn.Conv."""

    features: int
    group_size: int | None = None
    initializer: str = 'truncated_normal'
    dtype: Dtype = jnp.bfloat16
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, Moments | None]:
        """Returns y [batch, spatial axes ..., features] in `dtype`, and its moments in training."""
        shape = (*(1,) * (x.ndim - 2), x.shape[-1], self.features)
        kernel = self.param('kernel', KERNELS[self.initializer], shape, self.param_dtype)
        kernel = kernel[(0,) * (x.ndim - 2)]
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if not train:
            return _convolve(x, kernel), None
        y, mean, variance = widen(x, kernel, group_count(x, self.group_size))
        return y, Moments(mean, variance)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def widen(x: jax.Array, kernel: jax.Array, groups: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns `x` [batch, ..., narrow] times `kernel` [narrow, wide], and its moments."""
    return _forward(x, kernel, groups)[0]


def _forward(x, kernel, groups):
    mean = spatial_mean(x)
    grouped = x.reshape(groups, -1, x.shape[-1])
    squares = jnp.einsum('gni,gnj->gij', grouped, grouped, preferred_element_type=mean.dtype)
    group_mean = group_means(mean, groups)
    covariance = squares / grouped.shape[1] - group_mean[:, :, None] * group_mean[:, None]
    weights = kernel.astype(mean.dtype)
    spread = _product(covariance, weights)
    y, variance = _convolve(x, kernel), (spread * weights).sum(1)
    return (y, _product(mean, weights), variance), (x, kernel, y, group_mean, mean, spread)


def _backward(groups, kept, gradients):
    x, kernel, y, group_mean, mean, spread = kept
    y_gradient, mean_gradient, variance_gradient = gradients
    examples, positions = x.shape[0] // groups, math.prod(x.shape[1:-1])

    # What reaches y through its moments: the mean's gradient over the positions of an example, and
    # of the variance 2 (y - mean of the group) / (values in a group).
    slope = variance_gradient * (2 / (examples * positions))
    offset = -slope * _product(group_mean, kernel.astype(mean.dtype))
    slope, offset = (jnp.repeat(v, examples, axis=0) for v in (slope, offset))
    offset += mean_gradient / positions
    through_moments = y.astype(mean.dtype) * over_space(slope, y) + over_space(offset, y)
    _, to_x = jax.vjp(lambda x: _convolve(x, kernel), x)
    (x_gradient,) = to_x((y_gradient + through_moments).astype(y.dtype))

    # All three of one dtype, so that devices exchange their sum and not each of them.
    sums = 'bhwi,bhwo->io' if x.ndim == 4 else 'bthwi,bthwo->io'
    kernel_gradient = jnp.einsum(sums, x, y_gradient, preferred_element_type=mean.dtype)
    kernel_gradient += _product(mean.T, mean_gradient)
    kernel_gradient += (spread * (2 * variance_gradient)[:, None]).sum(0)
    return x_gradient, kernel_gradient.astype(kernel.dtype)


widen.defvjp(_forward, _backward)


def _convolve(x, kernel):
    axes = x.ndim - 2
    kernel = kernel[(None,) * axes]
    return conv_general_dilated(x, kernel, (1,) * axes, 'VALID', dimension_numbers=DIMENSIONS[axes])


def _product(a, b):
    return jnp.matmul(a, b, precision='highest')
