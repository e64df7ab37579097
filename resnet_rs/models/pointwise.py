"""The 1x1 convolution that widens a block's branch, with the statistics of its output.

Of y = x W, with x narrow and y wide, the mean is m W and the variance diag(W' C W), where m and C
are the mean and the covariance of x. So both are known before y is: batch norm, squeeze-excite,
shortcut and activation can be computed where y is, and the gradient of W needs no y.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_rs.models.layers import Dtype, accumulation_dtype, kernel_init, spatial_mean


class PointwiseConvolution(nn.Module):
    """A 1x1 convolution of stride 1 without bias; its variable is that of nn.Conv."""

    features: int
    dtype: Dtype = jnp.bfloat16
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, groups: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`convolve` of x [batch, height, width, channels]."""
        shape = (1, 1, x.shape[-1], self.features)
        kernel = self.param('kernel', kernel_init, shape, self.param_dtype)
        return convolve(x.astype(self.dtype), kernel[0, 0].astype(self.dtype), groups)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(
    x: jax.Array, kernel: jax.Array, groups: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(y, mean, variance) of `x` [batch, height, width, narrow] and `kernel` [narrow, wide].

    y: [batch, height, width, wide], of the dtype of x.
    mean: of y over height and width, [batch, wide], of the accumulation dtype.
    variance: of y (over n) in equal groups of consecutive examples, [groups, wide], likewise.
    """
    return _forward(x, kernel, groups)[0]


def _forward(x, kernel, groups):
    dtype = accumulation_dtype(x.dtype)
    y = _apply(x, kernel)
    mean = spatial_mean(x)
    split = x.reshape(groups, -1, *x.shape[1:])
    square = jnp.einsum('gbhwi,gbhwj->gij', split, split, preferred_element_type=dtype)
    group_mean = mean.reshape(groups, -1, x.shape[-1]).mean(1)
    covariance = square * (x.shape[-1] / split[0].size)
    covariance -= group_mean[:, :, None] * group_mean[:, None]
    weights = kernel.astype(dtype)
    spread = _product(covariance, weights)
    variance = (spread * weights).sum(1)
    return (y, _product(mean, weights), variance), (x, kernel, y, mean, group_mean, spread)


def _backward(groups, kept, gradients):
    x, kernel, y, mean, group_mean, spread = kept
    of_y, of_mean, of_variance = gradients
    weights = kernel.astype(mean.dtype)
    positions = x.shape[1] * x.shape[2]
    examples = x.shape[0] // groups

    # The variance's gradient in y is 2 (y - group mean) / n.
    slope = of_variance * (2 / (examples * positions))
    level = jnp.repeat(slope * _product(group_mean, weights), examples, axis=0)
    offset = of_mean / positions - level
    slope = jnp.repeat(slope, examples, axis=0)
    whole = of_y + y.astype(mean.dtype) * slope[:, None, None] + offset[:, None, None]
    _, to_x = jax.vjp(lambda x: _apply(x, kernel), x)
    _, to_kernel = jax.vjp(lambda kernel: _apply(x, kernel), kernel)
    of_kernel = to_kernel(of_y)[0].astype(mean.dtype) + _product(mean.T, of_mean)
    of_kernel += 2 * (spread * of_variance[:, None]).sum(0)
    return to_x(whole.astype(y.dtype))[0], of_kernel.astype(kernel.dtype)


convolve.defvjp(_forward, _backward)


def _apply(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel[None, None], (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def _product(a, b):
    return jnp.matmul(a, b, precision='highest')
