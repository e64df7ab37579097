"""The cost of loops over blocks and of rematerialisation, by the TPU compiler's own estimates.

    python benchmarks/deep_networks.py [--rows=50@160:128,420@320:16] [--topology=v3:2x2]

compiles the training step of each row (a row of configs/resnet_rs.py and a batch) for one device
of the topology, once for each of VARIANTS, and prints a table in Markdown. Seconds are those of
this process's processors, so that other work on the machine disturbs them less; compiling
ResNet-RS-420 unrolled takes long. No TPU is needed, but the packages of requirements-tpu.txt are.
"""

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from resnet_rs.plan.topology import open_topology, prepare_environment  # noqa: E402

# {name: (model.scan_blocks, model.remat)}
VARIANTS = {
    'unrolled': (False, ''),
    'unrolled, conv_outputs': (False, 'conv_outputs'),
    'scanned': (True, ''),
    'scanned, conv_outputs': (True, 'conv_outputs'),
    'scanned, block': (True, 'block'),
}
HEADER = (
    'row',
    'batch',
    'variant',
    'shapes and lowering (s)',
    'compiling (s)',
    'temporaries (GiB)',
    'peak (GiB)',
    'ms per 128 images',
)


def main():
    flags = parse_flags()
    prepare_environment()
    topology = open_topology(flags.topology, 1)
    if not topology.hardware.clock_hz:  # after minutes of compiling, there would be no time
        sys.exit(
            f'--topology={flags.topology}: its clock is not known; take v2, v3, v4, v5e or v5p'
        )
    print(f'| {" | ".join(HEADER)} |\n|{" --- |" * len(HEADER)}', flush=True)
    for row in flags.rows.split(','):
        name, _, batch = row.partition(':')
        for variant in flags.variants.split('+'):
            cells = measure(name, int(batch), variant.strip(), topology)
            print(f'| {" | ".join(cells)} |', flush=True)


def parse_flags():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rows', default='50@160:128,152@224:64,420@320:16')
    parser.add_argument('--topology', default='v3:2x2')
    parser.add_argument('--variants', default='+'.join(VARIANTS), help='names with + between')
    return parser.parse_args()


def measure(row: str, batch: int, variant: str, topology) -> list[str]:
    """Returns the cells of one line."""
    from configs import resnet_rs
    from resnet_rs.plan.cache import DoesNotFit
    from resnet_rs.plan.hlo import read_program
    from resnet_rs.plan.program import CompiledStep, compilation_of, lower_step

    config = resnet_rs.get_config(row).unlock()
    config.batch_size = config.eval.batch_size = batch
    config.model.scan_blocks, config.model.remat = VARIANTS[variant]
    start = time.process_time()
    lowered = lower_step(config, topology, 'train')
    lowering = time.process_time() - start
    line = [row, str(batch), variant, f'{lowering:.1f}']
    start = time.process_time()
    try:
        compilation = compilation_of(lowered)
    except DoesNotFit as error:
        return [*line, '', '', gibibytes(error.needed) if error.needed else '', 'does not fit']
    compiling = time.process_time() - start
    step = CompiledStep(
        'train', compilation, read_program(compilation.text), lowering, from_cache=False
    )
    milliseconds = 1000 * step.cycles / topology.hardware.clock_hz * 128 / batch
    return [
        *line,
        f'{compiling:.0f}',
        gibibytes(compilation.temporaries),
        gibibytes(step.peak_bytes),
        f'{milliseconds:.1f}',
    ]


def gibibytes(count: int) -> str:
    return f'{count / 2**30:.2f}'


if __name__ == '__main__':
    main()
