"""Estimates of the training step for the paper's eleven rows: ours, the naive program, the paper.

    python benchmarks/plan_pareto.py [--rows=50@160,101@160] [--topology=v3:2x2] [--csv=FILE]

Compiles the training step of each row of configs/resnet_rs.py for one device, ours and the one of
naive_resnet.py. The batch is 128, as the paper measured, halved until the program fits; cycles are
then normalised to 128 images. Rows come in the table's order, each larger in depth or resolution
than the one before, so a batch that did not fit is not tried again. A program takes one to six
minutes of two CPU cores and up to 13 GB of memory. Each one is a line of the CSV file as soon as it
is compiled, and the same command continues after the last line; --again compiles all of them.
Needs libtpu (requirements-dev.txt). Results: docs/tpu_performance.md, docs/plan.md.
"""

import argparse
import csv
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from resnet_rs.plan import topology as topologies  # noqa: E402
from resnet_rs.utils.errors import UserError, one_line_errors  # noqa: E402

# Milliseconds of a training step for 128 images on a TPU v3 core (the authors' README).
PAPER = {
    '50@160': 70,
    '101@160': 120,
    '101@192': 170,
    '152@192': 240,
    '152@224': 320,
    '152@256': 410,
    '200@256': 570,
    '270@256': 780,
    '350@256': 1100,
    '350@320': 1630,
    '420@320': 2090,
}
PROGRAMS = ('ours', 'naive')
IMAGES = 128
FIELDS = ('topology', 'row', 'program', 'batch', 'cycles', 'peak_bytes', 'compile_seconds')


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rows', default=','.join(PAPER), help='of the table, comma separated')
    parser.add_argument('--topology', default='v3:2x2', help='slice whose first device is taken')
    parser.add_argument('--programs', default=','.join(PROGRAMS), help='ours, naive or both')
    parser.add_argument('--csv', default='plan_pareto.csv', help='(default: %(default)s)')
    parser.add_argument('--again', action='store_true', help='compile what the file has, too')
    options = parser.parse_args(arguments)
    with one_line_errors(UserError):
        rows, programs = options.rows.split(','), options.programs.split(',')
        for names, known in ((rows, PAPER), (programs, PROGRAMS)):
            if unknown := set(names) - set(known):
                raise UserError(f'{sorted(unknown)} is not known; there are {", ".join(known)}')
        topologies.prepare_environment()
        topologies.check_libtpu()
        device = topologies.open_topology(topologies.slice_name(options.topology), devices=1)
        lines = read(options.csv)
        for row in sorted(rows, key=list(PAPER).index):
            for program in programs:
                key = (device.name, row, program)
                if options.again or key not in lines:
                    batch = first_batch(lines, *key)
                    lines[key] = estimate(device, row, program, batch, options.again)
                    write(options.csv, lines)
                print(describe(lines, key, device.hardware.clock_hz), flush=True)
        print(summary(lines, device.name, device.hardware.clock_hz))


def first_batch(lines: dict, topology: str, row: str, program: str) -> int:
    """Returns the batch to try first: the smallest that a smaller network needed."""
    smaller = list(PAPER)[: list(PAPER).index(row)]
    found = (lines.get((topology, each, program)) for each in smaller)
    return min([line['batch'] for line in found if line], default=IMAGES)


def estimate(device, row: str, program: str, batch: int, again: bool) -> dict:
    """Compiles one program at the largest of `batch`, `batch` / 2, ... that fits; a CSV line."""
    from step_cycles import lower_naive, lower_ours

    from configs.resnet_rs import get_config
    from resnet_rs.plan.cache import DoesNotFit, PlanCache
    from resnet_rs.plan.hlo import read_program
    from resnet_rs.plan.program import compile_or_load

    config = get_config(row).unlock()
    lower = {'ours': lower_ours, 'naive': lower_naive}[program]
    cache = PlanCache(None) if again else PlanCache()
    while True:
        config.batch_size = config.eval.batch_size = batch
        try:
            compilation, _ = compile_or_load(lower(config, device), device, cache)
            break
        except DoesNotFit:
            print(f'{device.name} {row} {program}: {batch} images do not fit', flush=True)
            if batch == 1:
                raise UserError(f'{row} does not fit with one image') from None
            batch //= 2
    return {
        'topology': device.name,
        'row': row,
        'program': program,
        'batch': batch,
        'cycles': read_program(compilation.text).cycles,
        'peak_bytes': compilation.peak,
        'compile_seconds': round(compilation.compile_seconds, 1),
    }


def cycles_of(line: dict) -> float:
    """Returns the cycles for 128 images."""
    return line['cycles'] * IMAGES / line['batch']


def describe(lines: dict, key: tuple[str, str, str], clock_hz: float | None) -> str:
    """Returns what was found for one program, beside the paper and the naive program."""
    topology, row, program = key
    line = lines[key]
    text = (
        f'{topology} {row} {program}: batch {line["batch"]}, {cycles_of(line) / 1e6:.1f}M cycles '
        'for 128 images'
    )
    if clock_hz:
        milliseconds = cycles_of(line) / clock_hz * 1e3
        text += f', {milliseconds:.1f} ms'
        if topology.startswith('v3'):
            text += f', {milliseconds / PAPER[row]:.3f} of the paper'
    ours, naive = (lines.get((topology, row, each)) for each in PROGRAMS)
    if ours and naive:
        text += f'; ours / naive {cycles_of(ours) / cycles_of(naive):.3f}'
    return text


def summary(lines: dict, topology: str, clock_hz: float | None) -> str:
    """Returns how many rows have a ratio and its range; for v3 also how ours follow the paper."""
    pairs = [[lines.get((topology, row, program)) for program in PROGRAMS] for row in PAPER]
    ratios = [cycles_of(ours) / cycles_of(naive) for ours, naive in pairs if ours and naive]
    text = f'{topology}: {len(ratios)} of {len(PAPER)} rows have both programs'
    if ratios:
        text += f', ours / naive from {min(ratios):.3f} to {max(ratios):.3f}'
    times = {
        row: cycles_of(ours) / clock_hz * 1e3
        for row, (ours, _) in zip(PAPER, pairs, strict=True)
        if ours and clock_hz
    }
    if topology.startswith('v3') and len(times) > 2:
        from scipy.stats import spearmanr

        paper = [PAPER[row] for row in times]
        spread = [time / PAPER[row] for row, time in times.items()]
        text += (
            f'; ours beside the paper in {len(times)} rows: rank correlation '
            f'{spearmanr(list(times.values()), paper).statistic:.3f}, spread of the ratio '
            f'{max(spread) / min(spread):.3f}'
        )
    return text


def read(path: str) -> dict[tuple[str, str, str], dict]:
    """Returns the lines of a CSV file by topology, row and program; none where there is no file."""
    if not os.path.exists(path):
        return {}
    with open(path, newline='') as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != FIELDS:
            raise UserError(f'{path} has other columns than this script writes; name another --csv')
        return {
            (line['topology'], line['row'], line['program']): line
            | {name: int(line[name]) for name in ('batch', 'cycles', 'peak_bytes')}
            for line in reader
        }


def write(path: str, lines: dict) -> None:
    """Writes all lines anew and replaces the file when it is whole."""
    with open(f'{path}.new', 'w', newline='') as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator='\n')
        writer.writeheader()
        writer.writerows(lines.values())
    os.replace(f'{path}.new', path)


if __name__ == '__main__':
    main()
