"""The plots of a table of results."""

import itertools
import os
import pathlib

import matplotlib.figure

from resnet_rs.sweep import pareto
from resnet_rs.sweep.pareto import Point
from resnet_rs.sweep.results import aggregate
from resnet_rs.utils.figures import encode_figure

AXES = {
    'depth': 'depth',
    'width': 'width multiplier',
    'resolution': 'resolution (pixels)',
    'epochs': 'epochs',
}
PUBLISHED_DATASET = 'imagenet2012'


def draw_all(rows: list[dict]) -> dict[str, matplotlib.figure.Figure]:
    """Returns {file name without suffix: figure} with every plot that these rows allow.

    Top-1 is that of the EMA weights, the mean over seeds; bars are one standard deviation. Plots
    of runs on ImageNet also show the published networks. Runs on CPUs get no plot against
    training time, because the runs of a sweep share the cores.
    """
    figures = {}
    networks = aggregate(rows)
    on_cpu = any(row['devices'].endswith('cpu') for row in rows)
    datasets = sorted({network['dataset'] for network in networks})
    for dataset in datasets:
        here = [network for network in networks if network['dataset'] == dataset]
        prefix = '' if len(datasets) == 1 else f'{dataset.replace("/", "-")}_'
        costs = {
            'latency': (
                'training time per image on one device (ms)',
                lambda network: 1000 / network['images_per_second_per_device'],
            ),
            'multiply_adds': (
                'multiply-adds of one image (billions)',
                lambda network: network['multiply_adds'] / 1e9,
            ),
        }
        if on_cpu:
            del costs['latency']
        for name, (label, cost) in costs.items():
            series = {
                'these runs': [
                    Point(
                        _label(network, here),
                        cost(network),
                        100 * network['ema_top1'],
                        100 * (network['ema_top1_deviation'] or 0) or None,
                    )
                    for network in here
                ]
            }
            if dataset == PUBLISHED_DATASET:
                series |= pareto.published(name)
            figures[f'{prefix}pareto_{name}'] = pareto.draw(
                series, label, f'Top-1 on {dataset}, EMA weights'
            )
        varied = varied_axes(here)
        for axis in varied if len(varied) > 1 else ():
            if has_lines(here, axis, varied):
                figures[f'{prefix}accuracy_by_{axis}'] = draw_axis(here, axis, varied)
    return figures


def varied_axes(networks: list[dict]) -> list[str]:
    """Returns those of AXES that have more than one value."""
    return [axis for axis in AXES if len({network[axis] for network in networks} - {None}) > 1]


def has_lines(networks: list[dict], x: str, varied: list[str]) -> bool:
    """Returns whether two networks differ in the axis `x` and in no other of `varied`."""
    values = {}
    for network in networks:
        others = tuple(network[axis] for axis in varied if axis != x)
        values.setdefault(others, set()).add(network[x])
    return any(len(found - {None}) > 1 for found in values.values())


def draw_axis(networks: list[dict], x: str, varied: list[str]) -> matplotlib.figure.Figure:
    """Draws top-1 against the axis `x`, a line per value of the next axis, a panel per other value.

    This is the paper's Figure 3 in the axes of the grid. Networks that are equal in all of
    `varied` and differ in their regularisation, for example, are points of the same line.
    """
    lines_axis, *panel_axes = [axis for axis in varied if axis != x]
    panels = list(itertools.product(*(_values(networks, axis) for axis in panel_axes)))
    figure = matplotlib.figure.Figure(figsize=(max(3.2 * len(panels), 6), 4), layout='constrained')
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, values in zip(grid, panels, strict=True):
        chosen = dict(zip(panel_axes, values, strict=True))
        for number, value in enumerate(_values(networks, lines_axis)):
            wanted = chosen | {lines_axis: value}
            points = sorted(
                (
                    network
                    for network in networks
                    if network[x] is not None
                    and all(network[axis] == is_ for axis, is_ in wanted.items())
                ),
                key=lambda network: network[x],
            )
            axes.errorbar(
                [network[x] for network in points],
                [100 * network['ema_top1'] for network in points],
                yerr=[100 * (network['ema_top1_deviation'] or 0) for network in points],
                marker='o',
                markersize=4,
                capsize=2,
                color=f'C{number}',
                label=f'{value:g}',
            )
        axes.set_xticks(_values(networks, x), [f'{value:g}' for value in _values(networks, x)])
        axes.set_xlabel(AXES[x])
        axes.set_title(', '.join(f'{axis} {value:g}' for axis, value in chosen.items()))
        axes.grid(alpha=0.3)
    grid[0].set_ylabel('top-1 (%), EMA weights')
    grid[-1].legend(title=lines_axis, fontsize=8)
    return figure


def save(
    figures: dict[str, matplotlib.figure.Figure], directory: str | os.PathLike
) -> list[pathlib.Path]:
    """Writes NAME.png and NAME.svg, the same bytes for the same figure; returns the paths."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        for file_format in ('png', 'svg'):
            paths.append(directory / f'{name}.{file_format}')
            paths[-1].write_bytes(encode_figure(figure, file_format))
    return paths


def _values(networks: list[dict], axis: str) -> list:
    return sorted({network[axis] for network in networks} - {None})


def _label(network: dict, networks: list[dict]) -> str:
    """Returns '50 x0.5 @32', without a width or resolution that all `networks` share.

    The first part is the name where depths do not tell the networks apart.
    """
    depths = {other['config']: other['depth'] for other in networks}
    told_apart = None not in depths.values() and len(set(depths.values())) == len(depths)
    parts = [str(network['depth']) if told_apart else network['config']]
    if len({other['width'] for other in networks}) > 1:
        parts.append(f'x{network["width"]:g}')
    return ' '.join([*parts, f'@{network["resolution"]}'])
