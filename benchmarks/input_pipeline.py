"""Measures the images per second of this input pipeline, of its bounds and of other trainers.

    pip install --no-deps -r benchmarks/requirements-input.txt    # see there
    python benchmarks/input_pipeline.py --output=DIR

All pipelines read the same files on the same cores. Repetitions are interleaved, so that other work
on the machine does not affect a single pipeline; the table has medians, minima and maxima, and the
CPU time per image, which depends less on other work. The benchmark writes DIR/input_pipeline.csv
and .png, and reports pipelines whose library is missing.
"""

import argparse
import csv
import datetime
import importlib.metadata
import json
import pathlib
import platform
import statistics
import subprocess
import sys

from photographs import write_photographs
from pipelines import CORES

# name: (process, title, depends on size, can augment)
PIPELINES = {
    'read_only': ('tensorflow', 'read files', False, False),
    'full_decode': ('tensorflow', 'bound: decode whole image', False, False),
    'crop_decode': ('tensorflow', 'bound: decode crop', False, False),
    'crop_resize': ('tensorflow', 'decode crop + resize', True, False),
    'ours': ('tensorflow', 'ours', True, True),
    'model_garden': ('tensorflow', 'TF Model Garden', True, True),
    'timm': ('torch', 'timm (PIL)', True, True),
    'torchvision': ('torch', 'torchvision v2 (PIL)', True, True),
}
LIBRARIES = ('tensorflow-cpu', 'tf-models-official', 'timm', 'torchvision', 'torch', 'pillow')


def main():
    flags = parse_flags()
    directory = pathlib.Path(flags.output)
    directory.mkdir(parents=True, exist_ok=True)
    images = directory / 'images'
    write_photographs(images, flags.images)
    sizes = [path.stat().st_size for path in images.glob('train/*/*.JPEG')]
    notes = [
        f'{datetime.date.today()}, {CORES} cores of {cpu_name()}',
        f'Python {platform.python_version()}, '
        + ', '.join(f'{name} {version(name)}' for name in LIBRARIES),
        f'{len(sizes)} JPEGs of 500 x 375, {statistics.mean(sizes) / 1000:.0f} kB on average; '
        f'{flags.repetitions} interleaved repetitions of {flags.seconds:g} s',
    ]
    cases = [
        (name, size, augment)
        for name in flags.pipelines.split(',')
        for size in (
            [int(text) for text in flags.sizes.split(',')] if PIPELINES[name][2] else [224]
        )
        for augment in ([False, True] if PIPELINES[name][3] else [False])
    ]
    rates, missing = run(cases, str(images), flags.seconds, flags.repetitions)
    rows = table(rates)
    print('\n'.join(notes))
    print_table(rows)
    for name, reason in missing.items():
        print(f'{PIPELINES[name][1]}: not measured, cannot be imported here ({reason})')
    write_csv(rows, directory / 'input_pipeline.csv')
    draw(rows, notes, directory / 'input_pipeline.png')


def parse_flags():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--output', required=True, help='directory for images and results')
    parser.add_argument('--images', type=int, default=400)
    parser.add_argument('--sizes', default='160,224,320', help='pixels')
    parser.add_argument('--seconds', type=float, default=4.0, help='of one measurement')
    parser.add_argument('--repetitions', type=int, default=3)
    parser.add_argument('--pipelines', default=','.join(PIPELINES))
    return parser.parse_args()


def run(cases, images: str, seconds: float, repetitions: int):
    """Returns ({case: [(images/s, CPU s per image)]}, {pipeline: why it is missing})."""
    rates, missing = {case: [] for case in cases}, {}
    processes = {
        kind: subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).with_name('pipelines.py'))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for kind in {PIPELINES[name][0] for name, _, _ in cases}
    }
    for repetition in range(repetitions):
        for case in cases:
            name, size, augment = case
            if name in missing:
                continue
            process = processes[PIPELINES[name][0]]
            request = dict(name=name, directory=images, size=size, augment=augment, seconds=seconds)
            print(json.dumps(request), file=process.stdin, flush=True)
            answer = process.stdout.readline()
            if not answer:
                raise RuntimeError(
                    f'the process that measures {case} ended; run it alone to see '
                    f'why: echo {json.dumps(request)!r} | python pipelines.py'
                )
            answer = json.loads(answer)
            if 'missing' in answer:
                missing[name] = answer['missing']
                continue
            rates[case].append((answer['rate'], answer['cpu']))
            print(f'{repetition + 1}/{repetitions} {case}: {answer["rate"]:.0f}', file=sys.stderr)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return {case: values for case, values in rates.items() if values}, missing


def table(rates: dict) -> list[dict]:
    """Returns a row per case: images/s over all cores, CPU ms per image, and both as ratios."""
    medians = {
        case: tuple(map(statistics.median, zip(*pairs, strict=True)))
        for case, pairs in rates.items()
    }
    bound = medians.get(('crop_decode', 224, False))
    rows = []
    for (name, size, augment), pairs in rates.items():
        rate, cpu = medians[name, size, augment]
        mine = medians.get(('ours', size, augment))
        peer = PIPELINES[name][3]
        values = [value for value, _ in pairs]
        rows.append(
            {
                'pipeline': PIPELINES[name][1],
                'pixels': size if PIPELINES[name][2] else '',
                'randaugment': ('yes' if augment else 'no') if peer else '',
                'images_per_second': round(rate),
                'least': round(min(values)),
                'greatest': round(max(values)),
                'per_core': round(rate / CORES),
                'cpu_ms': round(1000 * cpu, 2),
                'of_bound': round(rate / bound[0], 2) if bound else '',
                'of_bound_cpu': round(bound[1] / cpu, 2) if bound else '',
                'ours_times': round(mine[0] / rate, 2) if mine and peer else '',
                'ours_times_cpu': round(cpu / mine[1], 2) if mine and peer else '',
            }
        )
    return rows


def print_table(rows: list[dict]) -> None:
    cells = [list(rows[0])] + [[str(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        first, *others = zip(line, widths, strict=True)
        print(first[0].ljust(first[1]), *(text.rjust(width) for text, width in others), sep='  ')


def write_csv(rows: list[dict], path: pathlib.Path) -> None:
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[dict], notes: list[str], path: pathlib.Path) -> None:
    """Draws bars of images per second, in a panel without and one with RandAugment."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(11, 5), layout='constrained')
    panels = figure.subplots(1, 2, sharey=True)
    bounds = [row for row in rows if row['pipeline'].startswith('bound')]
    for axes, augmented in zip(panels, ('no', 'yes'), strict=True):
        chosen = [row for row in rows if row['randaugment'] == augmented]
        names = list(dict.fromkeys(row['pipeline'] for row in chosen))
        sizes = sorted({row['pixels'] for row in chosen})
        for place, size in enumerate(sizes):
            bars = [row for row in chosen if row['pixels'] == size]
            axes.bar(
                [
                    names.index(row['pipeline']) + 0.8 * (place + 0.5) / len(sizes) - 0.4
                    for row in bars
                ],
                [row['images_per_second'] for row in bars],
                0.8 / len(sizes),
                label=f'{size} pixels',
                color=f'C{place}',
            )
        for row, style in zip(bounds, (':', '--'), strict=False):
            axes.axhline(row['images_per_second'], ls=style, color='gray', label=row['pipeline'])
        axes.set_xticks(range(len(names)), names, rotation=15)
        axes.set_title('with RandAugment' if augmented == 'yes' else 'crop, resize, flip')
        axes.grid(axis='y', alpha=0.3)
    panels[0].set_ylabel(f'images per second on {CORES} cores')
    panels[1].legend()
    figure.suptitle(notes[0])
    figure.savefig(path, dpi=120)


def version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return 'absent'


def cpu_name() -> str:
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.processor() or 'an unknown CPU'


if __name__ == '__main__':
    main()
