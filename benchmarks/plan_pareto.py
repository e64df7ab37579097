"""Compares the paper's latencies with estimates for one TPU v3 core (results in docs/plan.md).

    python benchmarks/plan_pareto.py [--rows=50@160,101@160] [--csv=FILE] [--no_cache]

The benchmark compiles the training step of each row of configs/resnet_rs.py at batch 128, halved
until it fits, as the paper measured, and normalises to 128 images. Rows have the table's order, and
each is larger in depth or resolution than the previous one, so a batch that did not fit is not
tried again. A row takes one to six minutes of two CPU cores and up to 13 GB of memory. Results are
cached, so the same command resumes. It needs libtpu (requirements-dev.txt).
"""

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from sharding import write  # noqa: E402

from resnet_rs.plan import topology  # noqa: E402
from resnet_rs.utils.errors import UserError, one_line_errors  # noqa: E402

# Milliseconds of a training step for 128 images on a TPU v3 core (Bello et al. 2021, Table 7).
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
IMAGES = 128


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rows', default=','.join(PAPER), help='of the table, comma separated')
    parser.add_argument('--csv', default='plan_pareto.csv', help='(default: %(default)s)')
    parser.add_argument('--no_cache', action='store_true', help='compile again')
    options = parser.parse_args(arguments)
    with one_line_errors(UserError):
        names = options.rows.split(',')
        if unknown := set(names) - set(PAPER):
            raise UserError(f'no row {sorted(unknown)}; there are {", ".join(PAPER)}')
        topology.prepare_environment()
        topology.check_libtpu()
        rows = []
        for name in sorted(names, key=list(PAPER).index):
            batch = rows[-1]['batch'] if rows else IMAGES
            rows.append(estimate(name, batch, use_cache=not options.no_cache))
            write(options.csv, rows)
            print(describe(rows), flush=True)


def estimate(name: str, batch: int, use_cache: bool) -> dict:
    """Returns a row: the largest of `batch`, `batch` / 2, ... that fits, its cycles and time."""
    from configs.resnet_rs import get_config
    from resnet_rs.plan.cache import DoesNotFit, PlanCache
    from resnet_rs.plan.program import compile_step

    core = topology.open_topology('v3:2x2', devices=1)
    config = get_config(name).unlock()
    while True:
        config.batch_size = config.eval.batch_size = batch
        start = time.monotonic()
        try:
            step = compile_step(config, core, cache=PlanCache() if use_cache else PlanCache(None))
            break
        except DoesNotFit:
            print(f'{name}: {batch} images do not fit', flush=True)
            if batch == 1:
                raise UserError(f'{name} does not fit with one image') from None
            batch //= 2
    milliseconds = step.cycles / core.hardware.clock_hz * 1e3 * IMAGES / batch
    return {
        'row': name,
        'batch': batch,
        'cycles': step.cycles,
        'peak_bytes': step.peak_bytes,
        'milliseconds_per_128': round(milliseconds, 1),
        'paper_milliseconds': PAPER[name],
        'ratio': round(milliseconds / PAPER[name], 3),
        'compile_seconds': round(step.compilation.compile_seconds, 1),
        'seconds_now': round(time.monotonic() - start, 1),
    }


def describe(rows: list[dict]) -> str:
    """Describes the newest row, and the agreement of all rows with the paper."""
    newest = rows[-1]
    text = (
        f'{newest["row"]}: batch {newest["batch"]}, {newest["cycles"] / 1e6:.1f} M cycles, '
        f'{newest["milliseconds_per_128"]:.1f} ms per 128 images, paper '
        f'{newest["paper_milliseconds"]}, ratio {newest["ratio"]:.3f}'
    )
    if len(rows) > 2:
        from scipy.stats import spearmanr

        ours, paper = (
            [row[name] for row in rows] for name in ('milliseconds_per_128', 'paper_milliseconds')
        )
        ratios = [row['ratio'] for row in rows]
        text += (
            f'; {len(rows)} rows: rank correlation {spearmanr(ours, paper).statistic:.3f}, '
            f'spread of the ratio {max(ratios) / min(ratios):.3f}'
        )
    return text


if __name__ == '__main__':
    main()
