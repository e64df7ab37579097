"""What each sharding choice costs, compiled for TPUs that are not attached (docs/sharding.md).

    python benchmarks/sharding.py --config=50@160 --output=sharding.csv \
        [--topology=v3:4x4 ...] [--choice=zero1 ...] [--network=resnet_rs_14]

Compiles the training step at --per_device images on each device and writes a row per topology and
choice; rows that the file holds already are not compiled again. A compilation takes minutes.
"""

import argparse
import csv
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

TOPOLOGIES = ('v3:4x4', 'v4:2x2x2', 'v5e:4x4', 'v6e:4x4')
CHOICES = {
    'data_parallel': {},
    'zero1': {'sharding.strategy': 'zero1'},
    'fsdp': {'sharding.strategy': 'fsdp'},
    'zero1 in 2 slices': {'sharding.strategy': 'zero1', 'sharding.slices': 2},
    'zero1 in 2 passes': {'sharding.strategy': 'zero1', 'optimizer.accumulation_steps': 2},
    'data_parallel in 2 passes': {'optimizer.accumulation_steps': 2},
}
# Bytes per second of one chip in an all-reduce: the pod's figure over its chips, as Google
# publishes them (docs.cloud.google.com/tpu/docs/v3 ... /v6e).
ALL_REDUCE_BANDWIDTH = {
    'v3': 340e12 / 1024, 'v4': 1.1e15 / 4096, 'v5e': 51.2e12 / 256, 'v6e': 102.4e12 / 256,
}
KINDS = ('all-reduce', 'reduce-scatter', 'all-gather')
MIB = 2**20
COLUMNS = (
    'network', 'topology', 'choice', 'devices', 'per_device', 'arguments_mib', 'temporaries_mib',
    'peak_mib', 'step_ms', 'collective_ms', 'collective_share',
    *(f'{kind} {what}' for kind in KINDS for what in ('count', 'mib')), 'other collectives',
    'compile_seconds',
)


def main():
    options = parse_arguments()
    from resnet_rs.plan.topology import prepare_environment

    prepare_environment()
    path = pathlib.Path(options.output)
    done = read_rows(path)
    for topology in options.topology:
        for choice in options.choice:
            key = options.network or options.config, topology, choice
            if not any((row['network'], row['topology'], row['choice']) == key for row in done):
                row = dict(zip(COLUMNS[:3], key, strict=True)) | measure(
                    options, topology, CHOICES[choice]
                )
                append_row(path, row)
            print_row(read_rows(path), key)


def measure(options, topology_name: str, settings: dict) -> dict:
    """The columns after the first three."""
    from configs import resnet_rs
    from resnet_rs.plan.program import compile_step
    from resnet_rs.plan.topology import open_topology

    topology = open_topology(topology_name)
    config = resnet_rs.get_config(options.config).unlock()
    config.update_from_flattened_dict(settings)
    if options.network:
        config.model.name = options.network
    devices = len(topology.devices)
    config.batch_size = config.eval.batch_size = options.per_device * devices
    compiled = compile_step(config, topology)
    if options.hlo:
        pathlib.Path(options.hlo).write_text(compiled.text)
    collectives = compiled.program.collectives
    clock = topology.hardware.clock_hz
    step_ms = clock and compiled.cycles / clock * 1e3
    collective_ms = sum(seconds(each, topology) for each in collectives) * 1e3
    row = {
        'devices': devices,
        'per_device': options.per_device,
        'arguments_mib': compiled.memory.arguments / MIB,
        'temporaries_mib': compiled.memory.temporaries / MIB,
        'peak_mib': compiled.memory.peak / MIB,
        'step_ms': step_ms,
        'collective_ms': collective_ms,
        'collective_share': step_ms and collective_ms / (step_ms + collective_ms),
        'other collectives': sum(each.kind not in KINDS for each in collectives),
        'compile_seconds': compiled.compile_seconds,
    }
    for kind in KINDS:
        of_kind = [each for each in collectives if each.kind == kind]
        row[f'{kind} count'] = sum(each.executions for each in of_kind)
        row[f'{kind} mib'] = sum(each.bytes * each.executions for each in of_kind) / MIB
    return row


def seconds(collective, topology) -> float:
    """The least that the links between chips need, if nothing else is done meanwhile.

    An all-reduce sends every byte of a chip's array (n - 1) / n times out and again back, a
    gather or scatter once; cores of one chip share its links, so n counts chips.
    """
    per_chip = topology.hardware.devices_per_chip
    chips = max(collective.group_size // per_chip, 1)
    whole = collective.bytes * (collective.group_size if collective.kind == 'reduce-scatter' else 1)
    rounds = 2 if collective.kind == 'all-reduce' else 1
    generation = topology.name.partition(':')[0]
    sent = rounds * (chips - 1) / chips * whole * collective.executions
    return sent / ALL_REDUCE_BANDWIDTH[generation]


def read_rows(path: pathlib.Path) -> list[dict]:
    if not path.exists():
        return []
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def append_row(path: pathlib.Path, row: dict) -> None:
    is_new = not path.exists()
    with path.open('a', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
        if is_new:
            writer.writeheader()
        writer.writerow({
            name: f'{value:.4g}' if isinstance(value, float) else value
            for name, value in row.items()
        })


def print_row(rows: list[dict], key: tuple) -> None:
    (row,) = (r for r in rows if (r['network'], r['topology'], r['choice']) == key)
    print(', '.join(f'{name} {value}' for name, value in row.items() if value), flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', default='50@160', help='a row of configs/resnet_rs.py')
    parser.add_argument('--network', default='', help='another network in place of its own')
    parser.add_argument('--topology', nargs='+', default=TOPOLOGIES)
    parser.add_argument('--choice', nargs='+', default=list(CHOICES), choices=CHOICES)
    parser.add_argument('--per_device', type=int, default=128, help='images of one device')
    parser.add_argument('--output', default='sharding.csv')
    parser.add_argument('--hlo', help='the last program as text, for a closer look')
    return parser.parse_args()


if __name__ == '__main__':
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    main()
