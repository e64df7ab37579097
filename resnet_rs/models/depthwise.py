"""Depthwise convolutions: every channel is convolved with a kernel of its own.

`grouped` is XLA's convolution with a group for each channel, the faster form on TPUs. `shifted` is
the same sum written out, a product of the shifted images with a row of channels for each place of
the kernel: on CPUs, where XLA has no fast grouped convolution, it takes a fiftieth of the time.
Which one a program has is decided where it is lowered (benchmarks/depthwise.py measures both).
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_rs.models.layers import Dtype, accumulation_dtype

Padding = tuple[tuple[int, int], tuple[int, int]]


class DepthwiseConvolution(nn.Module):
    """A depthwise convolution without bias; its variable is that of a grouped nn.Conv.

    padding: of rows and columns, before and after, or 'SAME', TensorFlow's rule.
    """

    kernel_size: int
    stride: int
    padding: str | Padding
    kernel_init: Callable
    dtype: Dtype = jnp.bfloat16
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the convolution of `x` [batch, height, width, channels], in `dtype`."""
        shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
        kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
        padding = self.padding
        if padding == 'SAME':
            padding = tuple(
                jax.lax.padtype_to_pads(x.shape[1:3], shape[:2], (self.stride,) * 2, padding)
            )
        return convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Returns the depthwise convolution of `x` [batch, height, width, channels].

    `kernel` is [side, side, 1, channels], of the same dtype as `x` and the result.
    """
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=partial(shifted, stride=stride, padding=padding),
        default=partial(grouped, stride=stride, padding=padding),
    )


def _forward(x, kernel, stride, padding):
    return convolve(x, kernel, stride, padding), (x, kernel)


def _backward(stride, padding, kept, gradient):
    # By hand, because the derivative of a choice would keep what either branch needs.
    def gradients(form, x, kernel, gradient):
        return jax.vjp(partial(form, stride=stride, padding=padding), x, kernel)[1](gradient)

    return jax.lax.platform_dependent(
        *kept, gradient, cpu=partial(gradients, shifted), default=partial(gradients, grouped)
    )


convolve.defvjp(_forward, _backward)


def grouped(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Returns what `convolve` does, as one convolution of XLA's."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=x.shape[-1],
    )


def shifted(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Returns what `convolve` does, as a sum of products."""
    side, sums = kernel.shape[0], accumulation_dtype(x.dtype)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = ((size - side) // stride + 1 for size in x.shape[1:3])
    total = 0
    for row in range(side):
        for column in range(side):
            part = x[
                :,
                row : row + (rows - 1) * stride + 1 : stride,
                column : column + (columns - 1) * stride + 1 : stride,
            ]
            total += part.astype(sums) * kernel[row, column, 0].astype(sums)
    return total.astype(x.dtype)
