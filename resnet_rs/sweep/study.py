"""A study: the question of a sweep, its rows, and the statistics of their results.

A sweep file describes its study in a variable STUDY; `python -m resnet_rs.study` writes its page.
"""

import dataclasses
import os
import pathlib
import re
import statistics
from collections.abc import Sequence

import numpy as np

from resnet_rs.run.predictions import read_predictions
from resnet_rs.run.run_log import (
    ENVIRONMENT_FILE,
    METRICS_FILE,
    is_reported,
    read_metrics,
)
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.files import read_json
from resnet_rs.utils.statistics import PairedTest, mcnemar

CONFIDENCE = 0.95
ROUNDING = 1e-12
RESULT_FILE = 'result.json'  # of a run of another program, such as benchmarks/torch_study.py
PROBE_FILE = 'probe.json'


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a study: the runs NAME-seedN of the sweep, one for each seed.

    name: the names of the runs without their seed.
    label: the row in words.
    against: the name of the row that it is compared with; '' for none.
    probe: the classifier whose top-1 counts in the run's table of resnet_rs.probe; '' for that of
      the network.
    """

    name: str
    label: str
    against: str = ''
    probe: str = ''

    @property
    def key(self) -> str:
        return f'{self.name} {self.probe}'.strip()


@dataclasses.dataclass(frozen=True)
class Study:
    """The text of a study's page, and its rows.

    title: the title of the page.
    question: a paragraph.
    rows: the rows in the order of the table.
    paired: whether runs of one seed share more than that number, such as their labelled images, so
      that differences are taken seed by seed.
    limits: the limits of the study, in sentences.
    commands: the commands of the rows that other programs make, in the sweep's directory DIR.
    """

    title: str
    question: str
    rows: tuple[Row, ...]
    paired: bool = False
    limits: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    def __post_init__(self):
        names = {row.name for row in self.rows if not row.probe} | {''}
        for row in self.rows:
            if row.against not in names:
                raise UserError(
                    f'the row {row.name!r} is compared with {row.against!r}, which is no row of '
                    'the study; correct STUDY in the sweep file'
                )


@dataclasses.dataclass(frozen=True)
class Score:
    """The result of a run on the test images.

    top1: the top-1 of the EMA weights, a fraction.
    right: bool [images], which images it classified correctly; None if that is not kept.
    label: int [images], their labels; None if they are not kept.
    seconds: the time of training and its evaluations; None without training.
    """

    top1: float
    right: np.ndarray | None = None
    label: np.ndarray | None = None
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean, and the interval that holds it with a probability of CONFIDENCE; None if unknown."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of two rows' means, its interval, and the p-value of a two-sided t-test.

    p_value: None for fewer than two seeds.
    of_images: McNemar's test on the images by seed, the other row first.
    """

    interval: Interval
    p_value: float | None
    of_images: dict[int, PairedTest]


def read_scores(row: Row, directory: str | os.PathLike) -> dict[int, Score]:
    """Returns the results of the finished runs of a row, by seed."""
    scores = {}
    for path in pathlib.Path(directory).glob(f'{row.name}-seed*'):
        seed = re.fullmatch(r'-seed(\d+)', path.name.removeprefix(row.name))
        if seed and (score := _score_of(path, row.probe)):
            scores[int(seed[1])] = score
    return dict(sorted(scores.items()))


def _score_of(directory: pathlib.Path, probe: str) -> Score | None:
    """Returns the result of a run; None before its end."""
    again = 'move it away and give the command of the sweep again'
    if probe:
        if not (directory / PROBE_FILE).exists():
            return None
        found = read_json(directory / PROBE_FILE, again)
        for each in found['rows']:
            if (each['probe'], each['inputs']) == (probe, 'features'):
                return Score(each['top1'])
        raise UserError(f'{directory / PROBE_FILE} has no row {probe!r}; {again}')
    if (directory / RESULT_FILE).exists():
        found = read_json(directory / RESULT_FILE, again)
        if lacking := {'top1', 'right', 'seconds'} - set(found):
            raise UserError(f'{directory / RESULT_FILE} has no {min(lacking)!r}; {again}')
        return Score(found['top1'], np.array(found['right'], bool), seconds=found['seconds'])
    if not is_reported(directory):
        return None
    lines = read_metrics(directory, 'eval', ('ema_top1', 'time.elapsed_seconds'))
    if not lines:
        raise UserError(f'{directory} has no evaluation in {METRICS_FILE}; {again}')
    table, seconds = read_predictions(directory), lines[-1]['time']['elapsed_seconds']
    return Score(lines[-1]['ema_top1'], table['ema_top1'], table['label'], seconds)


def mean_interval(values: Sequence[float]) -> Interval:
    """Returns the mean of independent values with Student's interval."""
    import scipy.stats  # takes a second

    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return Interval(mean)
    half = scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1) * statistics.stdev(values)
    return Interval(mean, mean - half / count**0.5, mean + half / count**0.5)


def difference(
    scores: dict[int, Score], others: dict[int, Score], *, paired: bool
) -> Difference | None:
    """Returns the difference of a row from another one; None if either has no result.

    Paired, it is the mean over the seeds that both have; else that of the means, with Welch's
    interval and test, which do not assume equal variances.
    """
    import scipy.stats

    common = [seed for seed in scores if seed in others]
    if not scores or not others or (paired and not common):
        return None
    tests = {
        seed: mcnemar(others[seed].right, scores[seed].right)
        for seed in common
        if _same_images(scores[seed], others[seed])
    }
    if paired:
        here, there = ([side[seed].top1 for seed in common] for side in (scores, others))
        samples = [[a - b for a, b in zip(here, there, strict=True)]]
    else:
        here, there = ([each.top1 for each in side.values()] for side in (scores, others))
        samples = [here, there]
    interval = Interval(statistics.fmean(here) - statistics.fmean(there))
    # Without a variance there is no test; equal differences of fractions differ by rounding.
    if min(map(len, samples)) < 2 or max(map(np.ptp, samples)) < ROUNDING:
        return Difference(interval, None, tests)
    if paired:
        found = scipy.stats.ttest_rel(here, there)
        interval = mean_interval(samples[0])
    else:
        found = scipy.stats.ttest_ind(here, there, equal_var=False)
        low, high = found.confidence_interval(CONFIDENCE)
        interval = dataclasses.replace(interval, low=float(low), high=float(high))
    p_value = float(found.pvalue)
    return Difference(interval, None if np.isnan(p_value) else p_value, tests)


def _same_images(score: Score, other: Score) -> bool:
    """Returns whether both results have the right answers of the same images, by their labels."""
    if score.right is None or other.right is None or len(score.right) != len(other.right):
        return False
    labels = score.label, other.label
    return any(each is None for each in labels) or np.array_equal(*labels)


def facts_of(rows: Sequence[Row], directory: str | os.PathLike) -> dict[str, list[str]]:
    """Returns the different commits and devices of the trainings of a study, in order."""
    found = {'commit': {}, 'devices': {}}
    for row in rows:
        for path in sorted(pathlib.Path(directory).glob(f'{row.name}-seed*/{ENVIRONMENT_FILE}')):
            environment = read_json(path, 'move the run away and give the command again')
            for name, values in found.items():
                values[environment.get(name) or 'unknown'] = None
    return {name: list(values) for name, values in found.items()}
