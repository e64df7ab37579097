"""Accuracy against cost: Pareto fronts of runs and of published networks."""

import csv
import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

PUBLISHED_FILE = pathlib.Path(__file__).with_name('published_results.csv')
LATENCY_BATCH = 128  # images per step in the paper's latencies
# Sources of published figures that are the authors' own pages; the plot marks all others.
FIRST_HAND = ('repository', '')
MOST_LABELS = 20
FEW_LABELS = 12  # of all series, with room for a larger font


@dataclasses.dataclass(frozen=True)
class Point:
    """A network: its cost, its top-1 in percent, and the top-1's deviation over seeds."""

    label: str
    cost: float
    top1: float
    deviation: float | None = None
    mark: str = ''  # 'unverified', 'suspect'


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Returns the points that no other point dominates in cost and accuracy, ordered by cost.

    Of equal points it returns the first.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.top1)):
        if not front or point.top1 > front[-1].top1:
            front.append(point)
    return front


def published(cost: str) -> dict[str, list[Point]]:
    """Returns {'ResNet-RS': points, 'EfficientNet': points} by 'latency' or 'multiply_adds'.

    Latency is milliseconds per image of a training step on a TPU v3 core, multiply-adds are
    billions per image. Networks without the figure are left out.
    """
    series: dict[str, list[Point]] = {}
    with PUBLISHED_FILE.open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith('#')))
    for row in rows:
        value = row['tpu_v3_ms' if cost == 'latency' else 'multiply_adds']
        if not value:
            continue
        name = f'{row["name"]}@{row["resolution"]}' if row['series'] == 'ResNet-RS' else row['name']
        series.setdefault(row['series'], []).append(
            Point(
                name,
                float(value) / LATENCY_BATCH if cost == 'latency' else float(value),
                float(row['top1']),
                mark=_mark(row, cost),
            )
        )
    return series


def _mark(row: dict[str, str], cost: str) -> str:
    if cost == 'latency' and row['latency_source'] not in FIRST_HAND:
        return 'unverified'
    return 'suspect' if row['note'].startswith('suspect') else ''


def draw(series: dict[str, list[Point]], cost_label: str, title: str):
    """Draws every series, with its front as a line and the front's names; returns the figure."""
    import matplotlib.figure  # takes a second
    import matplotlib.ticker

    figure = matplotlib.figure.Figure(figsize=(7, 5.2), layout='constrained')
    axes = figure.subplots()
    labels = sum(len(_spread(pareto_front(points))) for points in series.values())
    for number, (name, points) in enumerate(series.items()):
        color = f'C{number}'
        front = pareto_front(points)
        axes.errorbar(
            [point.cost for point in points],
            [point.top1 for point in points],
            yerr=[point.deviation or 0 for point in points]
            if any(point.deviation for point in points)
            else None,
            fmt='o',
            color=color,
            alpha=0.45,
            elinewidth=0.8,
            markersize=5,
            label=name,
        )
        axes.plot(
            [point.cost for point in front],
            [point.top1 for point in front],
            color=color,
            label=f'{name}, Pareto front',
        )
        for point in _spread(front):
            text = f'{point.label} ({point.mark})' if point.mark else point.label
            axes.annotate(
                text,
                (point.cost, point.top1),
                xytext=(4, -9),
                textcoords='offset points',
                fontsize=9 if labels <= FEW_LABELS else 7,
                color=color,
            )
    axes.set_xscale('log')
    # The axis shows 1, 2 and 5, or of a narrow range every digit, not 10^0 alone or 2 x 10^0.
    costs = [point.cost for points in series.values() for point in points]
    is_narrow = max(costs) < 2.5 * min(costs)
    if is_narrow:
        axes.set_xlim(0.8 * min(costs), 1.25 * max(costs))
    digits = range(1, 10) if is_narrow else (1, 2, 5)
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=digits))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter('')
    low, high = axes.get_ylim()
    axes.set_ylim(low, min(high, 100.5))  # no top-1 is above 100; a mark there stays whole
    axes.set_xlabel(cost_label)
    axes.set_ylabel('top-1 (%)')
    axes.set_title(title)
    axes.grid(alpha=0.3, which='both')
    figure.legend(loc='outside lower center', ncols=2, fontsize=9)  # beside the points, not on them
    return figure


def draw_published() -> dict:
    """Returns {'published_latency': figure, 'published_multiply_adds': figure}."""
    return {
        f'published_{cost}': draw(published(cost), label, 'Published results on ImageNet')
        for cost, label in PUBLISHED_LABELS.items()
    }


PUBLISHED_LABELS = {
    'latency': 'training time on a TPU v3 core (ms per image, in steps of 128)',
    'multiply_adds': 'multiply-adds of one image (billions)',
}


def _spread(front: list[Point]) -> list[Point]:
    """Returns at most MOST_LABELS points of a front at even distances, with both ends."""
    if len(front) <= MOST_LABELS:
        return front
    return [front[i] for i in np.linspace(0, len(front) - 1, MOST_LABELS).round().astype(int)]
