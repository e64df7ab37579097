"""Statistics and page of a study, on runs whose results are made up."""

import csv
import json
import pathlib

import numpy as np
import pytest
import scipy.special

from resnet_rs import study as command
from resnet_rs.sweep.study import (
    Row,
    Score,
    Study,
    difference,
    facts_of,
    mean_interval,
    read_scores,
)
from resnet_rs.sweep.study_page import write_study
from resnet_rs.utils.errors import UserError

IMAGES = 211


def write_run(directory, right, seconds=3600.0):
    directory.mkdir(parents=True)
    line = {'step': 9, 'kind': 'eval', 'ema_top1': float(right.mean())}
    line['time'] = {'elapsed_seconds': seconds}
    (directory / 'metrics.jsonl').write_text(json.dumps(line) + '\n')
    environment = {'commit': 'c0ffee', 'devices': '1 x cpu'}
    (directory / 'environment.json').write_text(json.dumps(environment))
    count = len(right)
    columns = {'index': np.arange(count), 'label': np.zeros(count, np.int32)}
    for weights in ('raw', 'ema'):
        columns |= {f'{weights}_top1': right, f'{weights}_loss': np.ones(count, np.float32)}
    np.savez(directory / 'predictions.npz', **columns)


@pytest.fixture
def directory(tmp_path):
    """Runs 'a' and 'b' of seeds 0 to 3, a probe of each seed, and a result of another program."""
    random = np.random.default_rng(0)
    for seed in range(4):
        for name, chance in (('a', 0.7), ('b', 0.8)):
            write_run(tmp_path / f'{name}-seed{seed}', random.random(IMAGES) < chance)
        folder = tmp_path / f'p-seed{seed}'
        folder.mkdir()
        rows = [{'probe': 'ridge', 'inputs': 'features', 'top1': 0.5 + 0.01 * seed}]
        (folder / 'probe.json').write_text(json.dumps({'rows': rows}))
    (tmp_path / 'other-seed0').mkdir()
    result = {'top1': 0.25, 'right': [True] + 3 * [False], 'seconds': 60.0}
    (tmp_path / 'other-seed0' / 'result.json').write_text(json.dumps(result))
    (tmp_path / 'a-seed7').mkdir()  # not finished
    return tmp_path


def student_p(t, freedom):
    """The two-sided p-value of Student's t, by the incomplete beta function."""
    return scipy.special.betainc(freedom / 2, 0.5, freedom / (freedom + t**2))


def top1(directory, name):
    return np.array([score.top1 for score in read_scores(Row(name, ''), directory).values()])


def test_differences_are_those_of_the_formulas(directory):
    a, b = (read_scores(Row(name, ''), directory) for name in 'ab')
    assert list(a) == [0, 1, 2, 3]
    x, y = top1(directory, 'a'), top1(directory, 'b')
    found = difference(b, a, paired=True)
    d = y - x
    error = d.std(ddof=1) / 2
    assert found.interval.mean == pytest.approx(d.mean())
    assert found.p_value == pytest.approx(student_p(d.mean() / error, 3))
    # 3.182446 is the 97.5 % quantile of Student's t with 3 degrees of freedom.
    assert found.interval.high - found.interval.mean == pytest.approx(3.182446 * error, rel=1e-6)
    found = difference(b, a, paired=False)
    parts = np.array([x.var(ddof=1), y.var(ddof=1)]) / 4
    freedom = parts.sum() ** 2 / (parts**2 / 3).sum()  # Welch and Satterthwaite
    assert found.p_value == pytest.approx(student_p(d.mean() / parts.sum() ** 0.5, freedom))
    assert found.interval.low < d.mean() < found.interval.high
    tests = found.of_images
    right = [np.load(directory / f'{name}-seed2' / 'predictions.npz')['ema_top1'] for name in 'ab']
    assert tests[2].only_second == (right[1] & ~right[0]).sum()
    assert mean_interval([0.5]).low is None
    assert difference({0: a[0]}, {1: a[1]}, paired=True) is None
    assert difference({0: a[0]}, {0: b[0]}, paired=False).p_value is None


def test_equal_differences_have_no_test():
    """Two seeds that differ by one image each: a t-test of no variance would give p = 0."""
    here, there = (
        {seed: Score(right / 360) for seed, right in enumerate(counts)}
        for counts in ((347, 345), (346, 344))
    )
    found = difference(here, there, paired=True)
    assert found.interval.mean == pytest.approx(1 / 360)
    assert (found.interval.low, found.p_value) == (None, None)


STUDY = Study(
    'A title',
    'A question?',
    (
        Row('a', 'first'),
        Row('b', 'second', 'a'),
        Row('p', 'probe', 'a', 'ridge'),
        Row('other', 'elsewhere', 'a'),
        Row('none', 'never'),
    ),
    paired=True,
    limits=('It is made up.',),
)


def test_the_page_says_what_was_run(directory, tmp_path):
    paths = write_study(
        STUDY,
        directory,
        tmp_path / 'page',
        commands=['python -m x', 'python -m y'],
        unfinished=['a-seed7'],
    )
    text = paths[0].read_text()
    a, b = 100 * top1(directory, 'a'), 100 * top1(directory, 'b')
    assert f'| first | 4 | {a.mean():.2f} ± {a.std(ddof=1):.2f} | ' in text
    assert f'| first | {(b - a).mean():+.2f} | ' in text
    assert '\n    python -m x\n    python -m y\n' in text
    assert '| probe | 4 | 51.50 ± 1.29 | ' in text and '| never | 0 | not run | ' in text
    assert '| elsewhere | 1 | 25.00 |  | first | ' in text
    assert '8.0 hours of training' in text and 'Commit c0ffee; 1 x cpu' in text
    assert '**Not finished: 1 run, a-seed7.**' in text and '- It is made up.' in text
    assert text.count('| second | first | ') == 4  # McNemar's test of each seed
    rows = list(csv.DictReader((tmp_path / 'page' / 'runs.csv').open()))
    assert len(rows) == 4 + 4 + 4 + 1
    assert float(rows[0]['top1']) == pytest.approx(a[0] / 100)
    assert paths[2].read_bytes().startswith(b'\x89PNG')


def test_wrong_requests(directory, tmp_path, capsys):
    with pytest.raises(UserError, match='no run of the study in .* has finished; run its sweep'):
        write_study(STUDY, tmp_path / 'none', tmp_path / 'page', commands=['c'], unfinished=[])
    with pytest.raises(UserError, match="has no row 'logistic'"):
        read_scores(Row('p', '', probe='logistic'), directory)
    file = tmp_path / 'sweep.py'
    file.write_text('def get_sweep():\n    return []\n')
    with pytest.raises(SystemExit):
        command.main([f'--sweep={file}', f'--workdir={directory}', f'--output={tmp_path}/page'])
    assert 'has no STUDY; name the sweep file of a study' in capsys.readouterr().err
    assert not pathlib.Path(tmp_path / 'page').exists()


def test_runs_on_other_images_have_no_test_of_images(directory):
    path = directory / 'b-seed1' / 'predictions.npz'
    with np.load(path) as found:
        columns = dict(found)
    np.savez(path, **columns | {'label': columns['label'] + 1})
    here, there = (read_scores(Row(name, ''), directory) for name in 'ba')
    assert list(difference(here, there, paired=True).of_images) == [0, 2, 3]


def test_damaged_results_are_named(directory):
    for name, file, text, message in (
        ('a', 'metrics.jsonl', '', 'has no evaluation in metrics.jsonl'),
        ('other', 'result.json', '{"top1": 1}', "result.json has no 'right'"),
    ):
        (directory / f'{name}-seed0' / file).write_text(text)
        with pytest.raises(UserError, match=message):
            read_scores(Row(name, ''), directory)
    path = directory / 'b-seed0' / 'environment.json'
    path.write_text('{"comm')
    with pytest.raises(UserError, match='environment.json is damaged'):
        facts_of([Row('b', '')], directory)
    (directory / 'b-seed0' / 'environment.json').write_text(
        '{"commit": null, "devices": "1 x cpu"}'
    )
    assert facts_of([Row('b', '')], directory)['commit'] == ['unknown', 'c0ffee']
    with pytest.raises(UserError, match="'b' is compared with 'p', which is no row"):
        Study('', '', (Row('b', '', against='p'), Row('p', '', probe='ridge')))
    with pytest.raises(UserError, match="'b' is compared with 'c', which is no row"):
        Study('', '', (Row('a', ''), Row('b', '', 'c')))
