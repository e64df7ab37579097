"""Two forms of a depthwise convolution, layer by layer: XLA's and a sum of shifted products.

    python benchmarks/depthwise.py --topology=v3:2x2     # estimated cycles of an absent TPU
    python benchmarks/depthwise.py --cpu                 # milliseconds on this machine

The layers are those of EfficientNet-B0 at 224 pixels, one of each shape: 128 images in bfloat16
for a TPU, 8 in float32 for a CPU (the fastest of six calls). Docs: efficientnet.md.
"""

import argparse
import pathlib
import sys
import time
from functools import partial

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from resnet_rs.plan.topology import open_topology, prepare_environment  # noqa: E402

# Side of the input, channels, side of the kernel, stride.
LAYERS = (
    (112, 32, 3, 1),
    (112, 96, 3, 2),
    (56, 144, 3, 1),
    (56, 144, 5, 2),
    (28, 240, 5, 1),
    (14, 480, 3, 1),
    (14, 672, 5, 1),
    (7, 1152, 5, 1),
)
CALLS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--topology', help="as 'v3:2x2'; needs libtpu")
    where.add_argument('--cpu', action='store_true')
    options = parser.parse_args()
    prepare_environment()
    import jax
    import jax.numpy as jnp

    device = open_topology(options.topology, 1) if options.topology else None
    batch, dtype = (128, jnp.bfloat16) if device else (8, jnp.float32)
    print('million cycles' if device else 'ms', '| forward | gradient of images | of the kernel')
    for side, channels, kernel_size, stride in LAYERS:
        sizes = (side, side), (kernel_size,) * 2, (stride,) * 2
        padding = tuple(jax.lax.padtype_to_pads(*sizes, 'SAME'))
        images = jax.ShapeDtypeStruct((batch, side, side, channels), dtype)
        kernel = jax.ShapeDtypeStruct((kernel_size, kernel_size, 1, channels), dtype)
        for form in (grouped, shifted):
            form_name, form = form.__name__, partial(form, stride=stride, padding=padding)
            result = jax.eval_shape(form, images, kernel)
            costs = [
                estimate(function, arguments, device) if device else measure(function, arguments)
                for function, arguments in (
                    (form, (images, kernel)),
                    (partial(to_images, form), (images, kernel, result)),
                    (partial(to_kernel, form), (images, kernel, result)),
                )
            ]
            shown = ' | '.join(f'{cost:.2f}' for cost in costs)
            layer = f'{side}x{side}x{channels}, {kernel_size}x{kernel_size}, stride {stride}'
            print(f'{layer} | {form_name} | {shown}', flush=True)


def grouped(x, kernel, stride, padding):
    """Returns XLA's convolution with a group for each channel."""
    import jax

    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=x.shape[-1],
    )


def shifted(x, kernel, stride, padding):
    """Returns the same as a sum over the kernel of shifted images times a row of channels."""
    import jax.numpy as jnp

    side = kernel.shape[0]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = ((size - side) // stride + 1 for size in x.shape[1:3])
    total = 0
    for row in range(side):
        for column in range(side):
            last = row + (rows - 1) * stride, column + (columns - 1) * stride
            part = x[:, row : last[0] + 1 : stride, column : last[1] + 1 : stride]
            total += part.astype(jnp.float32) * kernel[row, column, 0].astype(jnp.float32)
    return total.astype(x.dtype)


def to_images(form, images, kernel, gradient):
    """Returns the gradient of the images."""
    import jax

    return jax.vjp(lambda images: form(images, kernel), images)[1](gradient)


def to_kernel(form, images, kernel, gradient):
    """Returns the gradient of the kernel."""
    import jax

    return jax.vjp(lambda kernel: form(images, kernel), kernel)[1](gradient)


def estimate(function, shapes, device) -> float:
    """Returns the estimated million cycles of a function on one device."""
    import jax

    from resnet_rs.plan.hlo import read_program
    from resnet_rs.training.sharding import create_mesh, replicated

    whole = replicated(create_mesh(list(device.devices)))
    step = jax.jit(function, in_shardings=(whole,) * len(shapes), out_shardings=whole)
    return read_program(step.lower(*shapes).compile().as_text()).cycles / 1e6


def measure(function, shapes) -> float:
    """Returns the fewest milliseconds of CALLS calls, after one that compiles."""
    import jax
    import jax.numpy as jnp

    arguments = [jnp.ones(shape.shape, shape.dtype) for shape in shapes]
    step = jax.jit(function)
    jax.block_until_ready(step(*arguments))
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        jax.block_until_ready(step(*arguments))
        seconds.append(time.perf_counter() - start)
    return min(seconds) * 1e3


if __name__ == '__main__':
    main()
