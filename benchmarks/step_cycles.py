"""Compares the TPU compiler's estimated cycles of the training step with those of a naive one.

    python benchmarks/step_cycles.py [--row=50@160] [--topology=v3:2x2] [--batch_size=128]

No TPU is needed (pip install libtpu==0.0.42.1). Both programs are compiled for one device of the
topology, which takes minutes; the estimates are the same in every run. Docs: tpu_performance.md.
"""

import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from resnet_rs.plan.topology import open_topology, prepare_environment  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--row', default='50@160')
    parser.add_argument('--topology', default='v3:2x2')
    parser.add_argument('--batch_size', type=int, default=128)
    parser.add_argument('--stages', help="blocks per stage instead of the row's: '1' for a part")
    parser.add_argument('--hlo_dir', type=pathlib.Path, help='where to write the compiled text')
    flags = parser.parse_args()
    prepare_environment()

    from configs import resnet_rs
    from resnet_rs.plan.hlo import read_program

    config = resnet_rs.get_config(flags.row).unlock()
    config.batch_size = config.eval.batch_size = flags.batch_size
    if flags.stages:
        config.model.stage_sizes = tuple(int(blocks) for blocks in flags.stages.split(','))
    topology = open_topology(flags.topology, 1)
    cycles = {}
    for name, lower in (('naive', lower_naive), ('ours', lower_ours)):
        compiled = lower(config, topology).compile()
        text = compiled.as_text()
        if flags.hlo_dir:
            (flags.hlo_dir / f'{name}.hlo').write_text(text)
        cycles[name] = read_program(text).cycles
        clock = topology.hardware.clock_hz
        time = f'{cycles[name] / clock * 1e3:.1f} ms' if clock else 'clock not published'
        temporaries = compiled.memory_analysis().temp_size_in_bytes / 2**30
        print(
            f'{name:6} {flags.row} {flags.topology} batch {flags.batch_size}: '
            f'{cycles[name] / 1e6:.2f}M cycles, {time}, temporaries {temporaries:.2f} GiB',
            flush=True,
        )
    print(f'ours / naive: {cycles["ours"] / cycles["naive"]:.3f}')


def lower_ours(config, topology):
    from resnet_rs.plan.program import lower_step

    return lower_step(config, topology, 'train')


def lower_naive(config, topology):
    import jax
    import jax.numpy as jnp
    import naive_resnet

    from resnet_rs.models import VARIANTS
    from resnet_rs.training.optimizer import create_schedule
    from resnet_rs.training.sharding import batch_sharding, create_mesh, replicated

    settings = config.model
    stages = settings.get('stage_sizes', VARIANTS[settings.name]['stage_sizes'])
    model = naive_resnet.ResNet(
        stages, settings.num_classes, settings.dropout_rate, settings.stochastic_depth_rate
    )
    schedule = create_schedule(config, total_steps=10**5, examples_per_epoch=10**6)
    init, train_step = naive_resnet.create_step(config, model, schedule)
    pixels = config.data.image_size
    batch = {
        'image': jax.ShapeDtypeStruct((config.batch_size, pixels, pixels, 3), jnp.uint8),
        'label': jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
    }
    state = jax.eval_shape(
        lambda: init(model.init(jax.random.key(0), jnp.zeros((1, pixels, pixels, 3)), False))
    )
    mesh = create_mesh(list(topology.devices))
    whole, split = replicated(mesh), batch_sharding(mesh)
    step = jax.jit(train_step, in_shardings=(whole, split), out_shardings=whole, donate_argnums=0)
    return step.lower(state, batch)


if __name__ == '__main__':
    main()
