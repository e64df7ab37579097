"""Estimates the cost of each sharding strategy on TPUs that are not attached (docs/sharding.md).

    python benchmarks/sharding.py [--row=50@160] [--topology=v3:4x4 ...] [--choice=zero1 ...]
                                  [--csv=FILE]

The benchmark compiles the training step with --per_device images on each device and prints a line
of a Markdown table per topology and choice. A compilation takes minutes; results are cached, so the
same command resumes. It needs libtpu (requirements-dev.txt).
"""

import argparse
import csv
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from resnet_rs.plan.topology import GIB, open_topology, prepare_environment  # noqa: E402

TOPOLOGIES = ('v3:4x4', 'v4:2x2x2', 'v5e:4x4', 'v6e:4x4')
CHOICES = {
    'data_parallel': {},
    'zero1': {'sharding.strategy': 'zero1'},
    'fsdp': {'sharding.strategy': 'fsdp'},
    'zero1 in 2 slices': {'sharding.strategy': 'zero1', 'sharding.slices': 2},
}
KINDS = ('all-reduce', 'reduce-scatter', 'all-gather')
MIB = 2**20


def main():
    flags = parse_flags()
    prepare_environment()
    rows = []
    for topology in flags.topology:
        for choice in flags.choice:
            rows.append({'row': flags.row} | measure(flags, open_topology(topology), choice))
            if len(rows) == 1:
                print(f'| {" | ".join(rows[0])} |\n|{" --- |" * len(rows[0])}')
            print(f'| {" | ".join(map(str, rows[-1].values()))} |', flush=True)
            if flags.csv:
                write(flags.csv, rows)


def parse_flags():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--row', default='50@160', help='of configs/resnet_rs.py')
    parser.add_argument('--topology', nargs='+', default=TOPOLOGIES)
    parser.add_argument('--choice', nargs='+', default=list(CHOICES), choices=CHOICES)
    parser.add_argument('--per_device', type=int, default=128, help='images of one device')
    parser.add_argument('--csv', help='where to write the table as well')
    return parser.parse_args()


def measure(flags, topology, choice: str) -> dict:
    """Returns memory of a device, estimated milliseconds, and MiB of collectives by kind."""
    from configs import resnet_rs
    from resnet_rs.plan.cache import PlanCache
    from resnet_rs.plan.estimate import collective_seconds
    from resnet_rs.plan.program import compile_step

    config = resnet_rs.get_config(flags.row).unlock()
    config.update_from_flattened_dict(CHOICES[choice])
    config.batch_size = config.eval.batch_size = flags.per_device * len(topology.devices)
    step = compile_step(config, topology, cache=PlanCache())
    clock = topology.hardware.clock_hz
    compute, links = clock and step.cycles / clock, collective_seconds(step, topology)
    share = compute and links is not None and links / (compute + links)
    row = {
        'topology': topology.name,
        'devices': len(topology.devices),
        'choice': choice,
        'arguments (GiB)': f'{step.compilation.arguments / GIB:.3f}',
        'temporaries (GiB)': f'{step.compilation.temporaries / GIB:.2f}',
        'peak (GiB)': f'{step.peak_bytes / GIB:.2f}',
        'million cycles': f'{step.cycles / 1e6:.1f}',
        'ms': f'{compute * 1e3:.1f}' if compute else '',
        'collectives (ms)': '' if links is None else f'{links * 1e3:.2f}',
        'of the step (%)': f'{share * 100:.1f}' if share else '',
    }
    collectives = step.program.collectives
    for kind in KINDS:
        moved = sum(each.bytes * each.executions for each in collectives if each.kind == kind)
        row[f'{kind} (MiB)'] = f'{moved / MIB:.1f}'
    others = sum(each.executions for each in collectives if each.kind not in KINDS)
    return row | {'other collectives': others}


def write(path: str, rows: list[dict]) -> None:
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, rows[0], lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


if __name__ == '__main__':
    main()
