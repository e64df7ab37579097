"""The table of a sweep's runs, checked against numbers worked out by hand."""

import json
import math

import pyarrow.parquet
import pytest

from configs import digits
from resnet_rs import results as command
from resnet_rs.config.stored import write_config
from resnet_rs.sweep import results
from resnet_rs.sweep.__main__ import short_table
from resnet_rs.utils.errors import UserError


def write_run(directory, *, top1=0.75, seed=0, finished=True, **settings):
    config = digits.get_config('debug').unlock()
    config.seed = seed
    config.duration = '3 epochs'
    config.update_from_flattened_dict(settings)
    directory.mkdir(parents=True)
    write_config(directory, config)
    lines = [
        {
            'step': step,
            'kind': 'train',
            'loss': 1.0,
            'time': {'seconds_per_step': seconds, 'memory_bytes': 1000 + step},
        }
        for step, seconds in ((2, 9.0), (4, 0.5), (6, 0.25))
    ]
    if finished:
        scores = {name: 0.1 for name in results.SCORES} | {'ema_top1': top1}
        lines.append({'step': 3, 'kind': 'eval', **dict.fromkeys(results.SCORES, 0.0), 'time': {}})
        lines.append({'step': 6, 'kind': 'eval', **scores, 'time': {}})
        (directory / 'predictions.npz').touch()
    (directory / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    (directory / 'environment.json').write_text('{"devices": "8 x cpu", "commit": "abc"}')
    return directory


def test_a_row_says_what_the_run_was(tmp_path):
    row = results.row_of(write_run(tmp_path / 'run', seed=7))
    expected = {
        'run': 'run',
        'config': 'resnet_rs_14',
        'depth': 14,
        'width': 0.125,
        'resolution': 32,
        'epochs': 3.0,
        'seed': 7,
        'step': 6,
        'ema_top1': 0.75,
        'raw_loss': 0.1,
        'seconds_per_step': 0.5,
        'images_per_second': 32.0,
        'images_per_second_per_device': 4.0,
        'dataset': 'digits',
        'memory_bytes': 1006,
        'devices': '8 x cpu',
        'commit': 'abc',
        'workdir': str(tmp_path / 'run'),
    }
    assert {name: row[name] for name in expected} == expected
    assert set(row) == set(results.SCHEMA.names)
    folder = {'data.source': 'image_folder', 'data.data_dir': '/photos/birds/'}
    assert results.row_of(write_run(tmp_path / 'birds', **folder))['dataset'] == 'birds'


def test_unfinished_and_damaged_runs_are_named_and_left_out(tmp_path):
    write_run(tmp_path / 'a')
    write_run(tmp_path / 'b', finished=False)
    (write_run(tmp_path / 'c') / 'metrics.jsonl').write_text('{\n{}\n')
    (write_run(tmp_path / 'd') / 'environment.json').unlink()
    (tmp_path / 'plots').mkdir()
    rows, problems = results.collect(tmp_path)
    assert [row['run'] for row in rows] == ['a']
    assert 'c/metrics.jsonl is damaged' in problems[0]
    assert 'd/environment.json is missing' in problems[1]
    assert problems[2:] == ['1 run not evaluated yet: b']


def test_seeds_are_one_row_with_mean_and_deviation(tmp_path):
    for seed, top1 in enumerate((0.70, 0.80, 0.90)):
        write_run(tmp_path / f'small{seed}', seed=seed, top1=top1)
    write_run(tmp_path / 'wide', top1=0.5, **{'model.width_multiplier': 0.25})
    write_run(tmp_path / 'decay', top1=0.4, **{'optimizer.weight_decay': 0.5})
    rows, _ = results.collect(tmp_path)
    decay, small, wide = results.aggregate(rows)
    assert (small['seeds'], wide['seeds'], decay['seeds']) == (3, 1, 1)
    assert small['ema_top1'] == pytest.approx(0.8)
    assert small['ema_top1_deviation'] == pytest.approx(0.1)  # sqrt(2 * 0.1^2 / (3 - 1))
    assert wide['ema_top1_deviation'] is None
    page = results.markdown(rows).splitlines()
    assert len(page) == 2 + 3
    assert '| 80.00 ± 10.00 |' in page[3]
    assert '| 50.00 |' in page[4]
    # Rows that differ in a setting without a column are told apart by their runs.
    ends = ['runs', 'decay', 'small0 and 2 more', 'wide']
    table = short_table(tmp_path).splitlines()
    assert [line.rpartition('  ')[2] for line in table] == ends
    assert [line.rpartition(' | ')[2] for line in [page[0], *page[2:]]] == [f'{e} |' for e in ends]
    assert max(map(len, table)) <= 80
    assert not results.are_alike([small, wide]) and results.are_alike([small, decay])
    assert 'runs' not in results.markdown([row for row in rows if row['run'] != 'decay'])


def test_tables_of_several_machines_become_one(tmp_path, capsys):
    write_run(tmp_path / 'one' / 'a')
    write_run(tmp_path / 'two' / 'b', seed=1, **{'duration': '9 steps'})
    for name in ('one', 'two'):
        command.main([str(tmp_path / name), f'--output={tmp_path / name}'])
    command.main(
        [
            str(tmp_path / 'one' / 'results.csv'),
            str(tmp_path / 'two' / 'results.parquet'),
            str(tmp_path / 'one' / 'results.csv'),
            f'--output={tmp_path}',
        ]
    )
    rows = results.read_table(tmp_path / 'results.csv')
    expected = results.collect(tmp_path / 'one')[0] + results.collect(tmp_path / 'two')[0]
    assert rows == expected
    assert pyarrow.parquet.read_table(tmp_path / 'results.parquet').to_pylist() == expected
    assert [row['epochs'] for row in rows] == [3.0, None]
    capsys.readouterr()


def test_tables_that_disagree_or_are_none(tmp_path, capsys):
    first = results.row_of(write_run(tmp_path / 'a'))
    with pytest.raises(UserError, match='run a .seed 0. has ema_top1 0.75 .* and 0.5 at step 6'):
        results.merge([[first], [first | {'ema_top1': 0.5}]])
    (tmp_path / 'other.csv').write_text('x,y\n1,2\n')
    with pytest.raises(UserError, match="it has no column 'commit'"):
        results.read_table(tmp_path / 'other.csv')
    with pytest.raises(SystemExit):
        command.main([str(tmp_path / 'absent.csv'), f'--output={tmp_path}'])
    assert 'absent.csv cannot be read' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([str(tmp_path / 'a'), f'--output={tmp_path / "other.csv"}'])
    assert capsys.readouterr().err.startswith('error: [Errno 17] File exists')


def test_runs_at_different_steps_are_not_averaged(tmp_path):
    """A run that was stopped has another row than the finished ones of its configuration."""
    for seed in (0, 1):
        write_run(tmp_path / f'seed{seed}', seed=seed, top1=0.8)
    path = write_run(tmp_path / 'seed2', seed=2) / 'metrics.jsonl'
    lines = [line for line in path.read_text().splitlines() if '"step": 6' not in line]
    path.write_text('\n'.join(lines) + '\n')
    path.with_name('predictions.npz').unlink()
    rows, _ = results.collect(tmp_path)
    finished, stopped = results.aggregate(rows)
    assert (finished['step'], finished['seeds'], finished['ema_top1']) == (6, 2, 0.8)
    assert (stopped['step'], stopped['seeds'], stopped['ema_top1']) == (3, 1, 0.0)
    _, line = short_table(tmp_path).splitlines()  # of the finished runs alone
    assert '80.00 ± 0.00' in line
    lines = [line.split(' | ') for line in results.markdown(rows).splitlines()]
    assert [line[5] for line in lines] == ['step', '---', '6', '3']


def test_runs_of_one_seed_are_never_averaged(tmp_path):
    """Students of other pseudo-labels have equal settings: the file is a fact of the host."""
    for seed in (0, 1):
        for row, top1 in (('first', 0.5), ('second', 0.75)):
            write_run(tmp_path / f'{row}-seed{seed}', seed=seed, top1=top1)
    rows, _ = results.collect(tmp_path)
    first, second = results.aggregate(rows)
    assert [row['runs'] for row in (first, second)] == [
        ['first-seed0', 'first-seed1'],
        ['second-seed0', 'second-seed1'],
    ]
    assert [row['ema_top1'] for row in (first, second)] == [0.5, 0.75]
    alone = [row | {'run': f'run{number}'} for number, row in enumerate(rows)]
    assert [row['seeds'] for row in results.aggregate(alone)] == [1, 1, 1, 1]


def test_a_table_with_nan_and_odd_names_is_read_back(tmp_path):
    row = results.row_of(write_run(tmp_path / 'NA')) | {'ema_loss': math.nan}
    results.write_tables([row], tmp_path)
    for name in ('results.csv', 'results.parquet'):
        (read,) = results.read_table(tmp_path / name)
        assert read['run'] == 'NA' and math.isnan(read['ema_loss'])
        (merged,) = results.merge([[row], [read]])
        assert merged['ema_top1'] == row['ema_top1']
