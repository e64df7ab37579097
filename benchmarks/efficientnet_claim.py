"""Estimated training steps of EfficientNet, ResNet-RS and ResNeSt on several generations of TPUs.

    python benchmarks/efficientnet_claim.py [--generations=v3,v5e] [--rows=b0,50@160] [--csv=FILE]

Compiles the training step of each row of configs/efficientnet.py (B0 to B7), configs/resnet_rs.py
and configs/resnest.py for one device, at batch 128, halved until it fits, as the ResNet-RS paper
measured, and normalises to 128 images. A row is appended to the table as soon as it is there, and
rows that the table has are left out: the same command resumes. A row takes minutes of CPU and up to
13 GB of memory. docs/efficientnet.md shows the results: --page prints its tables from the file, and
--plot=FILE draws it.
Needs libtpu (requirements-dev.txt).
"""

import argparse
import csv
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from resnet_rs.plan import topology  # noqa: E402
from resnet_rs.utils.errors import UserError, one_line_errors  # noqa: E402

TABLE = ROOT / 'docs' / 'efficientnet.csv'
EFFICIENTNETS = ('b0', 'b1', 'b2', 'b3', 'b4', 'b5', 'b6', 'b7')
RESNETS_RS = (
    '50@160',
    '101@160',
    '101@192',
    '152@192',
    '152@224',
    '152@256',
    '200@256',
    '270@256',
    '350@256',
    '350@320',
    '420@320',
)
RESNESTS = ('resnest-50', 'resnest-101', 'resnest-200', 'resnest-269')
RESNEST_TOP1 = dict(zip(RESNESTS, (81.13, 83.0, 83.9, 84.5), strict=True))  # of its paper's text
SERIES = {'EfficientNet': EFFICIENTNETS, 'ResNet-RS': RESNETS_RS, 'ResNeSt': RESNESTS}
ROWS = EFFICIENTNETS + RESNETS_RS + RESNESTS
TOPOLOGIES = {'v3': 'v3:2x2', 'v4': 'v4:2x2x1', 'v5e': 'v5e:2x2', 'v6e': 'v6e:2x2'}
IMAGES = 128
# EfficientNets, each with the ResNet-RS of the nearest published top-1.
MATCHED = {
    'b1': '50@160',
    'b2': '101@160',
    'b3': '101@192',
    'b4': '152@256',
    'b5': '270@256',
    'b6': '350@256',
    'b7': '420@320',
}
# What is compiled first, so that a table that is not finished says most about the claim.
FIRST = (
    ('b1', ('v3', 'v5e')),
    ('b2', ('v3', 'v5e')),
    ('b0', ('v5e', 'v3')),
    ('b1', ('v6e', 'v4')),
    ('b4', ('v3', 'v5e')),
    ('b6', ('v3', 'v5e')),
    ('b5', ('v3', 'v5e')),
    ('b7', ('v3', 'v5e')),
    ('resnest-50', ('v5e', 'v3')),
    ('b3', ('v3', 'v5e')),
    ('b4', ('v6e', 'v4')),
)
NOT_RUN = 'not compiled'
FIELDS = (
    'generation',
    'row',
    'batch',
    'million_cycles_per_128',
    'milliseconds_per_128',
    'peak_gib',
    'gigaflops_per_image',
    'compile_seconds',
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--generations', default=','.join(TOPOLOGIES), help='comma separated')
    parser.add_argument('--rows', default=','.join(ROWS))
    parser.add_argument('--csv', type=pathlib.Path, default=TABLE, help='(default: %(default)s)')
    parser.add_argument('--plot', type=pathlib.Path, help='draw the table, compile nothing')
    parser.add_argument('--page', action='store_true', help='print the tables of the page')
    options = parser.parse_args(arguments)
    with one_line_errors(UserError):
        if options.plot:
            draw(read(options.csv)).savefig(options.plot, dpi=110)
            return
        if options.page:
            print(page(read(options.csv)))
            return
        generations, rows = options.generations.split(','), options.rows.split(',')
        check('generation', generations, TOPOLOGIES)
        check('row', rows, ROWS)
        topology.prepare_environment()
        topology.check_libtpu()
        for generation, row in in_order(generations, rows):
            compile_row(options.csv, generation, row)


def in_order(generations: list[str], rows: list[str]) -> list[tuple[str, str]]:
    """Returns the pairs of `generations` and `rows`: those of FIRST and their matches, the rest."""
    pairs = [
        (generation, each)
        for row, first in FIRST
        for generation in first
        for each in (row, MATCHED.get(row, row))
    ]
    pairs += [(generation, row) for generation in generations for row in rows]
    return [pair for pair in dict.fromkeys(pairs) if pair[0] in generations and pair[1] in rows]


def check(what: str, names: list[str], known) -> None:
    """Raises UserError for a name that is not known."""
    if unknown := [name for name in names if name not in known]:
        raise UserError(f'there is no {what} {unknown[0]!r}; there are {", ".join(known)}')


def compile_row(table: pathlib.Path, generation: str, row: str) -> None:
    """Appends a row to the table unless it is there."""
    known = read(table)
    if any((each['generation'], each['row']) == (generation, row) for each in known):
        return
    result = estimate(generation, row, largest_batch(known, generation, row))
    new = not table.exists()
    with table.open('a', newline='') as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator='\n')
        if new:
            writer.writeheader()
        writer.writerow(result)
    print(', '.join(f'{name} {value}' for name, value in result.items()), flush=True)


def largest_batch(known: list[dict], generation: str, row: str) -> int:
    """Returns the first batch to try: that of a smaller network of the same series, else 128."""
    series = next(series for series in SERIES.values() if row in series)
    smaller = series[: series.index(row)]
    batches = [
        int(each['batch'])
        for each in known
        if each['generation'] == generation and each['row'] in smaller
    ]
    return min(batches, default=IMAGES)


def estimate(generation: str, row: str, batch: int) -> dict:
    """Returns a row: the largest of `batch`, `batch` / 2, ... that fits, and what it takes."""
    import jax

    from resnet_rs.models.cost import count_cost
    from resnet_rs.plan.cache import DoesNotFit, PlanCache
    from resnet_rs.plan.program import compile_step
    from resnet_rs.training.steps import model_of

    device = topology.open_topology(TOPOLOGIES[generation], devices=1)
    config = configuration(row)
    jax.clear_caches()  # the last row's programs
    start = time.monotonic()
    while True:
        config.batch_size = config.eval.batch_size = batch
        try:
            step = compile_step(config, device, cache=PlanCache())
            break
        except DoesNotFit:
            print(f'{generation} {row}: {batch} images do not fit', flush=True)
            if batch == 1:
                raise UserError(f'{row} does not fit {generation} with one image') from None
            batch //= 2
    cycles = step.cycles * IMAGES / batch
    clock = device.hardware.clock_hz
    cost = count_cost(model_of(config), config.data.image_size)
    return {
        'generation': generation,
        'row': row,
        'batch': batch,
        'million_cycles_per_128': round(cycles / 1e6, 1),
        'milliseconds_per_128': round(cycles / clock * 1e3, 1) if clock else '',
        'peak_gib': round(step.peak_bytes / topology.GIB, 2),
        'gigaflops_per_image': round(2 * cost.multiply_adds / 1e9, 2),
        'compile_seconds': round(time.monotonic() - start),
    }


def configuration(row: str):
    """Returns the configuration of a row, which may be changed."""
    from configs import efficientnet, resnest, resnet_rs

    if row in EFFICIENTNETS:
        return efficientnet.get_config(row).unlock()
    if row in RESNESTS:
        return resnest.get_config(row.removeprefix('resnest-')).unlock()
    return resnet_rs.get_config(row).unlock()


def read(table: pathlib.Path) -> list[dict]:
    """Returns the rows of the table, none where there is no such file."""
    if not table.exists():
        return []
    with table.open(newline='') as file:
        return list(csv.DictReader(file))


def page(rows: list[dict]) -> str:
    """Returns the tables of docs/efficientnet.md, with NOT_RUN where a row is missing."""
    known = {(row['generation'], row['row']): row for row in rows}
    timed = {name: each for name, each in published().items() if each['tpu_v3_ms']}
    lines = [
        '| | ' + ' | '.join(TOPOLOGIES) + ' | published, v3 |',
        '|---' * (2 + len(TOPOLOGIES)) + '|',
    ]
    for efficientnet, resnet in MATCHED.items():
        ratios = [
            _ratio(known.get((generation, efficientnet)), known.get((generation, resnet)))
            for generation in TOPOLOGIES
        ]
        ratios.append('not found')
        if efficientnet in timed:
            of_paper = [float(timed[name]['tpu_v3_ms']) for name in (efficientnet, resnet)]
            sure = timed[efficientnet]['latency_source'] == 'repository'
            ratios[-1] = f'{of_paper[0] / of_paper[1]:.2f}{"" if sure else " (unverified)"}'
        lines.append(f'| {efficientnet.upper()} / {resnet} | ' + ' | '.join(ratios) + ' |')
    lines += [
        '',
        '| | GFLOPs of an image | ' + ' | '.join(TOPOLOGIES) + ' |',
        '|---' * (2 + len(TOPOLOGIES)) + '|',
    ]
    flops = {row['row']: row['gigaflops_per_image'] for row in rows}
    for name in ROWS:
        cells = [flops.get(name, NOT_RUN)]
        cells += [_cell(known.get((generation, name))) for generation in TOPOLOGIES]
        lines.append(f'| {label_of(name)} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def published() -> dict[str, dict]:
    """Returns {row: its line of resnet_rs/sweep/published_results.csv}."""
    from resnet_rs.sweep.pareto import PUBLISHED_FILE

    with PUBLISHED_FILE.open() as file:
        lines = list(csv.DictReader(line for line in file if not line.startswith('#')))
    return {
        each['name'].lower()
        if each['series'] == 'EfficientNet'
        else f'{each["name"]}@{each["resolution"]}': each
        for each in lines
    }


def label_of(row: str) -> str:
    return row.upper() if row in EFFICIENTNETS else row.replace('resnest', 'ResNeSt')


def _ratio(efficientnet: dict | None, resnet: dict | None) -> str:
    if not (efficientnet and resnet):
        return NOT_RUN
    cycles = [float(row['million_cycles_per_128']) for row in (efficientnet, resnet)]
    return f'{cycles[0] / cycles[1]:.2f}'


def _cell(row: dict | None) -> str:
    if not row:
        return NOT_RUN
    time_ = f', {row["milliseconds_per_128"]} ms' if row['milliseconds_per_128'] else ''
    memory = f', {row["peak_gib"]} GiB' if row['peak_gib'] else ''
    return f'{row["million_cycles_per_128"]} M{time_}{memory} (batch {row["batch"]})'


def draw(rows: list[dict]):
    """Returns a matplotlib figure: top-1 against the estimated time, a panel for each generation.

    Times are in million cycles where the clock is not known (docs/plan.md).
    """
    import matplotlib.figure
    import matplotlib.ticker

    top1 = {name: float(each['top1']) for name, each in published().items()} | RESNEST_TOP1
    generations = [name for name in TOPOLOGIES if any(row['generation'] == name for row in rows)]
    figure = matplotlib.figure.Figure(figsize=(5.5 * len(generations), 4.5), layout='constrained')
    for axes, generation in zip(
        figure.subplots(1, len(generations), squeeze=False, sharey=True)[0],
        generations,
        strict=True,
    ):
        here = {row['row']: row for row in rows if row['generation'] == generation}
        timed = all(row['milliseconds_per_128'] for row in here.values())
        column = 'milliseconds_per_128' if timed else 'million_cycles_per_128'
        for color, (label, names) in enumerate(SERIES.items()):
            points = [
                (float(here[name][column]), top1[name], name) for name in names if name in here
            ]
            if points:
                times, accuracies, _ = zip(*points, strict=True)
                axes.plot(times, accuracies, 'o-', color=f'C{color}', label=label)
            for time_, accuracy, name in points:
                axes.annotate(
                    label_of(name),
                    (time_, accuracy),
                    xytext=(4, -9),
                    textcoords='offset points',
                    fontsize=7,
                    color=f'C{color}',
                )
        axes.set_xscale('log')
        axes.margins(x=0.2)  # room for the labels on the right
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter('{x:g}')
        axes.xaxis.set_minor_formatter('')
        axes.set_xlabel(
            f"compiler's estimate for 128 images ({'ms' if timed else 'million cycles'})"
        )
        axes.set_ylabel('published top-1 (%)')
        axes.set_title(f'one training step on {generation}, estimated')
        axes.grid(alpha=0.3, which='both')
        axes.legend(fontsize=8, loc='lower right')
    return figure


if __name__ == '__main__':
    main()
