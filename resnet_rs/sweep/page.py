"""report.html: a table of results as one self-contained file."""

import html
import os
import pathlib
import urllib.parse

import matplotlib.figure

from resnet_rs.run.run_log import read_metrics
from resnet_rs.sweep.results import aggregate, are_alike, with_deviation
from resnet_rs.utils.errors import count_of, first_of
from resnet_rs.utils.html_page import Cell, document, figure_image, table


def write_page(
    rows: list[dict],
    figures: dict[str, matplotlib.figure.Figure],
    directory: str | os.PathLike,
    *,
    with_runs: bool,
) -> pathlib.Path:
    """Writes DIRECTORY/report.html; `with_runs` links the work directories and shows curves."""
    path = pathlib.Path(directory) / 'report.html'
    networks = aggregate(rows)
    title = f'{count_of(len(rows), "run")} of {count_of(len(networks), "configuration")}'
    runs = [_run_cells(row, path.parent, with_runs) for row in rows]
    body = [
        f'<h1>{title}</h1>',
        '<p>Top-1 and top-5 in percent on the evaluation split; mean ± standard deviation '
        'over the seeds. Press a heading to sort.</p>',
        '<h2>Configurations</h2>',
        _table([_network_cells(network, are_alike(networks)) for network in networks]),
        '<h2>Plots</h2>',
        '<div class="plots">',
        *(figure_image(name, figure) for name, figure in figures.items()),
        '</div>',
        '<h2>Runs</h2>',
        _table(runs),
    ]
    path.write_text(document(title, body))
    return path


def sparkline(values: list[float], width: int = 120, height: int = 28) -> str:
    """Returns a curve as inline SVG, scaled from its least to its greatest value."""
    low, high = min(values), max(values)
    last = max(len(values) - 1, 1)
    points = ' '.join(
        f'{2 + (width - 4) * index / last:.1f},'
        f'{height - 2 - (height - 4) * (value - low) / ((high - low) or 1):.1f}'
        for index, value in enumerate(values)
    )
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="from {values[0]:.3g} to '
        f'{values[-1]:.3g}"><polyline points="{points}" fill="none" stroke="#1f77b4" '
        'stroke-width="1.5"/></svg>'
    )


def _table(rows: list[dict[str, Cell]]) -> str:
    """Returns an HTML table, without the columns that are empty in every row."""
    names = [name for name in rows[0] if any(row[name].html for row in rows)]
    return table([{name: row[name] for name in names} for row in rows])


def _network_cells(network: dict, with_names: bool) -> dict[str, Cell]:
    def number(name, scale=1.0, digits=2):
        mean, deviation = network[name], network[f'{name}_deviation']
        return Cell(with_deviation(mean, deviation, scale, digits), mean)

    axes = _network_axes(network)
    return {
        'network': axes.pop('network'),
        'runs': Cell(first_of(network['runs'], most=1) if with_names else ''),
        **axes,
        'top-1 EMA': number('ema_top1', 100),
        'top-1 raw': number('raw_top1', 100),
        'top-5 EMA': number('ema_top5', 100),
        'loss EMA': number('ema_loss', digits=3),
        'seeds': Cell(network['seeds']),
        **_cost_cells(network),
        'ms/step': number('seconds_per_step', 1000, 1),
        'images/s': number('images_per_second', digits=0),
    }


def _run_cells(row: dict, page_directory: pathlib.Path, with_runs: bool) -> dict[str, Cell]:
    workdir = pathlib.Path(row['workdir'])
    name, curve = Cell(row['run']), Cell('')
    if with_runs:
        target = html.escape(urllib.parse.quote(os.path.relpath(workdir, page_directory)))
        plot = f'{target}/curves.png' if (workdir / 'curves.png').exists() else target
        name = Cell(f'<a href="{target}/">{html.escape(row["run"])}</a>', row['run'], is_html=True)
        losses = [line['loss'] for line in read_metrics(workdir, 'train', ('loss',))]
        if losses:
            curve = Cell(f'<a href="{plot}">{sparkline(losses)}</a>', is_html=True)
    return {
        'run': name,
        **_network_axes(row),
        'seed': Cell(row['seed']),
        'top-1 EMA': Cell(f'{100 * row["ema_top1"]:.2f}'),
        'top-1 raw': Cell(f'{100 * row["raw_top1"]:.2f}'),
        'loss EMA': Cell(f'{row["ema_loss"]:.3f}'),
        **({'training loss': curve} if with_runs else {}),
        **_cost_cells(row),
        'ms/step': Cell(f'{1000 * row["seconds_per_step"]:.1f}'),
        'memory (MiB)': Cell(round((row['memory_bytes'] or 0) / 2**20)),
        'commit': Cell((row['commit'] or '')[:10]),
    }


def _network_axes(row: dict) -> dict[str, Cell]:
    return {
        'network': Cell(row['config'], row['depth']),
        'width': Cell(f'{row["width"]:g}'),
        'resolution': Cell(row['resolution']),
    }


def _cost_cells(row: dict) -> dict[str, Cell]:
    return {
        'epochs': Cell('' if row['epochs'] is None else f'{row["epochs"]:g}'),
        'parameters': Cell(f'{row["parameters"]:,}', row['parameters']),
        'multiply-adds': Cell(f'{row["multiply_adds"]:,}', row['multiply_adds']),
    }
