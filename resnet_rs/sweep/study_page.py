"""The page of a study in Markdown, its plot, and the table behind both."""

import csv
import io
import os
import pathlib
import statistics

import matplotlib.figure

from resnet_rs.sweep.study import (
    CONFIDENCE,
    Difference,
    Interval,
    Row,
    Score,
    Study,
    difference,
    facts_of,
    mean_interval,
    read_scores,
)
from resnet_rs.utils.errors import UserError, count_of, first_of
from resnet_rs.utils.figures import encode_figure
from resnet_rs.utils.files import replacing

PLOT = 'top1'
TABLE = 'runs.csv'
HEADER = (
    'row',
    'seeds',
    'top-1 (%)',
    'interval',
    'compared with',
    'difference',
    'interval',
    'p',
    'hours',
)


def write_study(
    study: Study,
    directory: str | os.PathLike,
    output: str | os.PathLike,
    *,
    commands: list[str],
    unfinished: list[str],
) -> list[pathlib.Path]:
    """Writes README.md, the plot and the table of a study into `output`; returns their paths.

    Args:
      study: the description of the sweep file.
      directory: the directory of the sweep.
      output: the directory to create.
      commands: the commands that make the page, in order.
      unfinished: the names of the runs that have no result yet.

    Raises UserError where no run of the study has finished.
    """
    scores = {row.key: read_scores(row, directory) for row in study.rows}
    if not any(scores.values()):
        raise UserError(
            f'no run of the study in {directory} has finished; run its sweep first: '
            'python -m resnet_rs.sweep with the same --sweep and --workdir'
        )
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    contents = {
        'README.md': page(study, scores, facts_of(study.rows, directory), commands, unfinished),
        TABLE: table(study, scores),
        f'{PLOT}.png': encode_figure(draw(study, scores), 'png'),
    }
    for name, content in contents.items():
        with replacing(output / name) as partial:
            if isinstance(content, bytes):
                partial.write_bytes(content)
            else:
                partial.write_text(content)
    return [output / name for name in contents]


def page(
    study: Study,
    scores: dict[str, dict[int, Score]],
    facts: dict[str, list[str]],
    commands: list[str],
    unfinished: list[str],
) -> str:
    """Returns the page in Markdown."""
    names = {row.name: row for row in study.rows if not row.probe}
    lines, of_images = [], []
    for row in study.rows:
        other = names.get(row.against)
        found = other and difference(scores[row.key], scores[other.key], paired=study.paired)
        lines.append(_cells(row, scores[row.key], other, found or None))
        of_images += [(row, other, seed, test) for seed, test in _tests(found)]
    hours = sum(_hours(scores))
    how = 'seed by seed (paired t-test)' if study.paired else "of the means (Welch's t-test)"
    parts = [
        f'# {study.title}',
        study.question,
        '\n'.join(f'    {command}' for command in commands),
        f'Commit {", ".join(facts["commit"]) or "unknown"}; {", ".join(facts["devices"])}; '
        f'{hours:.1f} hours of training in all, on a machine that other programs may have used.',
    ]
    if unfinished:
        parts.append(
            f'**Not finished: {count_of(len(unfinished), "run")}, {first_of(unfinished)}.**'
        )
    parts += [
        '## Results',
        _markdown(HEADER, lines),
        'Top-1 is that of the EMA weights on the test images, mean ± standard deviation over the '
        f"seeds, with Student's {CONFIDENCE:.0%} interval of the mean. Differences, in points, are "
        f'{how}.',
        f'![top-1 of every run]({PLOT}.png)',
    ]
    if of_images:
        head = ('row', 'compared with', 'seed', 'only the row right', 'only the other', 'p')
        rows = [
            (row.label, other.label, seed, test.only_second, test.only_first, _p(test.p_value))
            for row, other, seed, test in of_images
        ]
        parts += [
            "## McNemar's test",
            'The images that exactly one of two runs of a seed classified correctly, and the '
            'probability of counts at least as uneven if both were equally good. It does not cover '
            'the choice of the seed.',
            _markdown(head, rows),
        ]
    if study.limits:
        parts += ['## Limits of the study', '\n'.join(f'- {limit}' for limit in study.limits)]
    parts.append(f'The result of each run is in [{TABLE}]({TABLE}).')
    return '\n\n'.join(parts) + '\n'


def _cells(row: Row, scores: dict[int, Score], other: Row | None, found: Difference | None):
    """Returns the cells of a row of the table; those without a figure are empty."""
    if not scores:
        return (row.label, 0, 'not run', *[''] * (len(HEADER) - 3))
    values = [100 * score.top1 for score in scores.values()]
    deviation = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    mean = mean_interval(values)
    hours = sum(score.seconds or 0 for score in scores.values()) / 3600
    cells = [row.label, len(values), f'{mean.mean:.2f}{deviation}', _ends(mean)]
    if found:
        scaled = Interval(*(end and 100 * end for end in vars(found.interval).values()))
        cells += [other.label, f'{scaled.mean:+.2f}', _ends(scaled), _p(found.p_value)]
    else:
        cells += [''] * 4
    return (*cells, f'{hours:.2f}' if hours else '')


def _tests(found: Difference | None):
    return found.of_images.items() if found else ()


def _hours(scores: dict[str, dict[int, Score]]):
    """Yields the hours of each training."""
    for of_row in scores.values():
        yield from ((score.seconds or 0) / 3600 for score in of_row.values())


def _ends(interval: Interval) -> str:
    return '' if interval.low is None else f'{interval.low:.2f} to {interval.high:.2f}'


def _p(value: float | None) -> str:
    return '' if value is None else f'{value:.2g}'


def _markdown(header: tuple, rows: list[tuple]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def table(study: Study, scores: dict[str, dict[int, Score]]) -> str:
    """Returns the runs as CSV: row, seed, top1 (a fraction), seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(('row', 'seed', 'top1', 'seconds'))
    for row in study.rows:
        for seed, score in scores[row.key].items():
            seconds = '' if score.seconds is None else f'{score.seconds:.1f}'
            writer.writerow((row.key, seed, score.top1, seconds))
    return text.getvalue()


def draw(study: Study, scores: dict[str, dict[int, Score]]) -> matplotlib.figure.Figure:
    """Draws the top-1 of every run as a point, and the means with their intervals, a row each."""
    rows = [row for row in study.rows if scores[row.key]]
    figure = matplotlib.figure.Figure(figsize=(8, 1.2 + 0.35 * len(rows)), layout='constrained')
    axes = figure.subplots()
    for place, row in enumerate(rows):
        values = [100 * score.top1 for score in scores[row.key].values()]
        axes.plot(values, [place] * len(values), '.', color='tab:gray')
        mean = mean_interval(values)
        half = 0 if mean.low is None else mean.high - mean.mean
        axes.errorbar(mean.mean, place, xerr=half or None, fmt='D', color='tab:blue', capsize=3)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top
    axes.set_xlabel(f'top-1 (%) of the EMA weights; means with {CONFIDENCE:.0%} intervals')
    axes.grid(alpha=0.3, axis='x')
    return figure
