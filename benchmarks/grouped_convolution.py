"""Cycles of a training pass through one ResNeSt block with its grouped convolution in four forms.

    python benchmarks/grouped_convolution.py [--topologies=v3:2x2,v5e:2x2] [--batch_size=128]

compiles forward and backward pass of a stride-1 block for one device of each topology and prints a
table in Markdown (docs/tpu_performance.md). Cycles are those of the TPU compiler's estimates; no
TPU is needed (pip install libtpu==0.0.42.1). Each compilation takes about a quarter of a minute.
"""

import argparse
import pathlib
import sys
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from resnet_rs.plan.topology import open_topology, prepare_environment  # noqa: E402

# Radix, cardinality, bottleneck width; width of the stage; side of its feature maps at 224 pixels.
CASES = (
    ((2, 1, 64), 64, 56),
    ((2, 1, 64), 256, 14),
    ((4, 2, 40), 256, 14),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--topologies', default='v3:2x2,v5e:2x2')
    parser.add_argument('--batch_size', type=int, default=128)
    flags = parser.parse_args()
    prepare_environment()

    from resnet_rs.plan.hlo import read_program

    print('| TPU | block | stage, pixels |', ' | '.join(FORMS), '|')
    print('|---|---|---|' + '---|' * len(FORMS))
    for name in flags.topologies.split(','):
        topology = open_topology(name, 1)
        for form, features, side in CASES:
            radix, cardinality, width = form
            print(f'| {name} | {radix}s{cardinality}x{width}d | {features}, {side} ', end='')
            for convolve in FORMS.values():
                lowered = lower_block(topology, convolve, form, features, side, flags.batch_size)
                cycles = read_program(lowered.compile().as_text()).cycles
                print(f'| {cycles / 1e6:.3f}M ', end='', flush=True)
            print('|', flush=True)


def lower_block(topology, convolve, form, features, side, batch_size):
    import jax
    import jax.numpy as jnp

    from resnet_rs.models import resnest
    from resnet_rs.training.sharding import create_mesh, replicated

    radix, cardinality, width = form
    architecture = resnest.Architecture(
        (3,), radix=radix, cardinality=cardinality, bottleneck_width=width
    )
    block = resnest.SplitAttentionBlock(architecture, features, 1, 0.0)
    x = jax.ShapeDtypeStruct((batch_size, side, side, 4 * features), jnp.bfloat16)

    def loss(params, x, stats, weights):
        y, updated = block.apply(
            {'params': params, 'batch_stats': stats}, x, True, mutable=['batch_stats']
        )
        return (y * weights).sum(dtype=jnp.float32), updated

    with mock.patch.object(resnest, 'grouped_convolution', convolve):
        variables = jax.eval_shape(lambda x: block.init(jax.random.key(0), x, False), x)
        whole = replicated(create_mesh(list(topology.devices)))
        step = jax.jit(
            jax.grad(loss, (0, 1), has_aux=True), in_shardings=whole, out_shardings=whole
        )
        return step.lower(variables['params'], x, variables['batch_stats'], x)


def grouped(x, kernel, radix, cardinality, padding, dilation):
    """Computes it by XLA's own grouped convolution."""
    import jax

    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=radix * cardinality,
    )


def one_einsum(x, kernel, radix, cardinality, padding, dilation):
    """Multiplies the nine neighbours of every position with the kernel of each group."""
    import jax.numpy as jnp

    batch, height, width, _ = x.shape
    groups = radix * cardinality
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    patches = jnp.stack(
        [
            padded[:, row : row + height, column : column + width]
            for row in range(0, 3 * dilation, dilation)
            for column in range(0, 3 * dilation, dilation)
        ],
        axis=3,
    )
    patches = patches.reshape(batch, height, width, 9, groups, -1)
    kernel = kernel.reshape(9, kernel.shape[2], groups, -1)
    y = jnp.einsum('nhwtgi,tigo->nhwgo', patches, kernel)
    return y.reshape(batch, height, width, -1)


def dense_with_zeros(x, kernel, radix, cardinality, padding, dilation):
    """Computes it by a plain convolution whose kernel is zero between groups."""
    import jax.numpy as jnp

    groups = radix * cardinality
    rows, columns, inputs, outputs = kernel.shape
    kernel = kernel.reshape(rows, columns, inputs, groups, -1)
    kernel = jnp.einsum('hwigo,gq->hwqigo', kernel, jnp.eye(groups, dtype=kernel.dtype))
    kernel = kernel.reshape(rows, columns, groups * inputs, outputs)
    return grouped(x, kernel, 1, 1, padding, dilation)


def one_per_split(x, kernel, radix, cardinality, padding, dilation):
    """Computes each split by itself, in as many groups as there are cardinal ones."""
    import jax.numpy as jnp

    inputs, kernels = jnp.split(x, radix, -1), jnp.split(kernel, radix, -1)
    convolved = [
        grouped(part, part_kernel, 1, cardinality, padding, dilation)
        for part, part_kernel in zip(inputs, kernels, strict=True)
    ]
    return jnp.concatenate(convolved, -1)


FORMS = {
    'grouped': grouped,
    'one einsum': one_einsum,
    'dense with zeros': dense_with_zeros,
    'one per split': one_per_split,
}

if __name__ == '__main__':
    main()
