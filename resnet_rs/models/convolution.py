"""Convolutions in the form that each platform computes fastest.

On TPUs and GPUs that is XLA's convolution. On a CPU XLA's convolution is fast for kernels of 3x3 or
more on large images, and for the gradient with respect to such images. Elsewhere products and sums
of shifted images are two to a hundred times as fast (benchmarks/cpu_step.py):

- 1x1 kernels, and images that are smaller than the kernel: one product with the patch around each
  position;
- gradients of images while the patches need little memory (MOST_PATCH_BYTES): the same product;
- gradients of kernels: one product of shifted images and shifted gradients;
- groups: each group by itself, and a group of one channel as a sum of shifted images;
- clips: a convolution of images whose channels are those of all frames under the kernel.

The platform is chosen when a program is lowered: a program that is compiled for a TPU on a CPU
contains the TPU's form alone.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

# By the number of spatial axes.
DIMENSIONS = {2: ('NHWC', 'HWIO', 'NHWC'), 3: ('NDHWC', 'DHWIO', 'NDHWC')}
MOST_PATCH_BYTES = 16 * 2**20  # larger patches leave the caches of a core


def conv_general_dilated(x, kernel, strides, padding, **options) -> jax.Array:
    """Returns jax.lax.conv_general_dilated(...), whose arguments it takes.

    Images are [batch, height, width, channels], kernels [height, width, channels of a group,
    features]; clips and their kernels have frames before the height. XLA's convolution stays for
    other dimensions, for dilation, for groups of clips, for images of a symbolic size (jax.export)
    and for other dtypes than float32 and float64.
    """
    groups = options.get('feature_group_count', 1)
    dilations = {*(options.get('lhs_dilation') or ()), *(options.get('rhs_dilation') or ())}
    is_usual = (
        (x.ndim == 4 or x.ndim == 5 and groups == 1)
        and all(isinstance(size, int) for size in x.shape[1:-1])
        and x.dtype == kernel.dtype
        and x.dtype in (jnp.float32, jnp.float64)
    )
    if not is_usual or dilations - {1}:
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    strides = tuple(strides)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:-1], kernel.shape[:-2], strides, padding)
    pads = tuple((int(before), int(after)) for before, after in padding)
    return convolve(x, kernel, (strides, pads), groups)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, window, groups: int) -> jax.Array:
    """Returns the convolution of images [batch, height, width, channels] with a kernel.

    Args:
      x: the images, or clips [batch, frames, height, width, channels].
      kernel: [height, width, channels / groups, features], or [frames, height, ...].
      window: (strides, pads), the strides of all spatial axes and the zeros before and after.
      groups: the number of groups of channels.
    """
    xla = partial(_xla, window=window, groups=groups)
    on_cpu = partial(_form_on_cpu(x.shape, kernel.shape, groups), window=window, groups=groups)
    if on_cpu.func is _xla:
        return xla(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=xla)


def _forward(x, kernel, window, groups):
    return convolve(x, kernel, window, groups), (x, kernel)


def _backward(window, groups, inputs, gradient):
    def by_xla(x, kernel, gradient):
        return jax.vjp(partial(_xla, window=window, groups=groups), x, kernel)[1](gradient)

    def on_cpu(x, kernel, gradient):
        return _gradients_on_cpu(x, kernel, gradient, window, groups)

    return jax.lax.platform_dependent(*inputs, gradient, cpu=on_cpu, default=by_xla)


convolve.defvjp(_forward, _backward)


def _form_on_cpu(image_shape, kernel_shape, groups):
    """Returns the function that computes a convolution of these shapes fastest on a CPU."""
    if len(image_shape) == 5:
        return _over_frames
    if groups > 1:
        return _shifted_sum if kernel_shape[2] == 1 and groups == kernel_shape[3] else _by_groups
    pointwise = kernel_shape[:2] == (1, 1)
    smaller = any(image_shape[axis + 1] < kernel_shape[axis] for axis in range(2))
    return _patch_product if pointwise or smaller else _xla


def _gradients_on_cpu(x, kernel, gradient, window, groups):
    """Returns the gradients of the images and of the kernel, given that of their convolution."""
    if x.ndim == 5:
        return jax.vjp(partial(_over_frames, window=window, groups=1), x, kernel)[1](gradient)
    if groups > 1 and _form_on_cpu(x.shape, kernel.shape, groups) is _shifted_sum:
        return jax.vjp(partial(_shifted_sum, window=window, groups=groups), x, kernel)[1](gradient)
    if groups > 1:
        parts = zip(*(jnp.split(array, groups, -1) for array in (x, kernel, gradient)), strict=True)
        both = zip(*(_gradients_on_cpu(*part, window, 1) for part in parts), strict=True)
        return tuple(jnp.concatenate(gradients, -1) for gradients in both)
    patch_bytes = math.prod(gradient.shape[:3]) * math.prod(kernel.shape[:3]) * x.dtype.itemsize
    little = kernel.shape[:2] == (1, 1) or patch_bytes <= MOST_PATCH_BYTES
    form = partial(_patch_product if little else _xla, window=window, groups=1)
    (to_x,) = jax.vjp(lambda x: form(x, kernel), x)[1](gradient)
    return to_x, _kernel_gradient(x, kernel.shape, gradient, window)


def _xla(x, kernel, window, groups):
    strides, pads = window
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        dimension_numbers=DIMENSIONS[x.ndim - 2],
        feature_group_count=groups,
    )


def _over_frames(x, kernel, window, groups):
    """Returns the convolution of clips as one of images.

    The images are those of all clips and frames of the output; their channels are those of the
    frames that the kernel covers there.
    """
    (strides, pads), (length, height, width, channels, features) = window, kernel.shape
    batch, frames = x.shape[:2]
    count = (frames + sum(pads[0]) - length) // strides[0] + 1
    covered = [_shifted(x, 1, i - pads[0][0], count, strides[0]) for i in range(length)]
    images = jnp.concatenate(covered, -1) if length > 1 else covered[0]
    images = images.reshape(batch * count, *x.shape[2:4], length * channels)
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(height, width, length * channels, features)
    y = convolve(images, kernel, (strides[1:], pads[1:]), groups)
    return y.reshape(batch, count, *y.shape[1:])


def _by_groups(x, kernel, window, groups):
    """Returns a convolution in groups, each computed by itself."""
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate(
        [
            _form_on_cpu(images.shape, part.shape, 1)(images, part, window, 1)
            for images, part in parts
        ],
        -1,
    )


def _shifted_sum(x, kernel, window, groups):
    """Returns the depthwise convolution: a sum over the kernel of shifted images times a weight."""
    (strides, pads), (height, width, _, _) = window, kernel.shape
    rows, columns = _output_sizes(x.shape, kernel.shape, window)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    total = 0
    for i in range(height):
        row = jax.lax.slice_in_dim(x, i, i + (rows - 1) * strides[0] + 1, strides[0], 1)
        for j in range(width):
            end = j + (columns - 1) * strides[1] + 1
            total += jax.lax.slice_in_dim(row, j, end, strides[1], 2) * kernel[i, j, 0]
    return total


def _patch_product(x, kernel, window, groups):
    """Returns the convolution as one product: of the patch around each position with the kernel."""
    (strides, pads), (height, width, channels, features) = window, kernel.shape
    rows, columns = _output_sizes(x.shape, kernel.shape, window)
    patches = []
    for i in range(height):
        row = _shifted(x, 1, i - pads[0][0], rows, strides[0])
        for j in range(width):
            patches.append(_shifted(row, 2, j - pads[1][0], columns, strides[1]))
    patches = jnp.concatenate(patches, -1) if len(patches) > 1 else patches[0]
    return jnp.matmul(patches, kernel.reshape(height * width * channels, features))


def _kernel_gradient(x, shape, gradient, window):
    """Returns the gradient of a kernel of `shape`, given that of the convolution's output.

    Element [i, j] of it is the product of the image, shifted by i rows and j columns, with the
    gradient of the output. Without strides one product computes all of them: of the image in its
    shifts along the columns with the gradient in its shifts along the rows.
    """
    (height, width, channels, features), (strides, pads) = shape, window
    rows, columns = gradient.shape[1:3]
    images = [_shifted(x, 2, j - pads[1][0], columns, strides[1]) for j in range(width)]
    images = jnp.concatenate(images, -1)
    if strides[0] == 1:
        gradients = [_shifted(gradient, 1, pads[0][0] - i, x.shape[1]) for i in range(height)]
        product = _product_over_positions(images, jnp.concatenate(gradients, -1))
        return product.reshape(width, channels, height, features).transpose(2, 0, 1, 3)
    products = [
        _product_over_positions(_shifted(images, 1, i - pads[0][0], rows, strides[0]), gradient)
        for i in range(height)
    ]
    return jnp.stack(products).reshape(shape)


def _product_over_positions(a, b):
    """Returns [channels of a, channels of b], the sum over the positions of all images."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


def _output_sizes(image_shape, kernel_shape, window):
    return (
        (image_shape[axis + 1] + sum(pads) - kernel_shape[axis]) // stride + 1
        for axis, (stride, pads) in enumerate(zip(*window, strict=True))
    )


def _shifted(x, axis, offset, size, stride=1):
    """Returns y[t] = x[offset + stride * t] along `axis` for t < size, with zeros outside of x."""
    span = (size - 1) * stride + 1
    before, after = -offset, span + offset - x.shape[axis]
    if before or after:
        padding = [(0, 0, 0)] * x.ndim
        padding[axis] = (before, after, 0)
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), padding)
    return jax.lax.slice_in_dim(x, 0, span, stride, axis) if stride > 1 else x
