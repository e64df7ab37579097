"""Sweep files: what they yield, and every mistake in them reported before a run starts."""

import sys

import pytest
from helpers import prepared

from configs import digits, stored
from configs.sweeps import digits_grid
from resnet_rs.config.stored import write_config
from resnet_rs.config.validation import check_settings
from resnet_rs.sweep.columns import depth_of
from resnet_rs.sweep.definition import check_runs, load_sweep
from resnet_rs.utils.errors import UserError


def config(**settings):
    made = digits.get_config('debug').unlock()
    made.data.data_dir = prepared.data_dir('digits', 'array_record')
    with made.ignore_type():
        made.update_from_flattened_dict(settings)
    return made.lock()


@pytest.mark.parametrize(
    'body, message',
    (
        ('get_sweeps = 1', r'has no get_sweep\(\)'),
        ('def get_sweep():\n    return []', 'yields no run'),
        ('def get_sweep():\n    yield "a"', "run 1 is 'a'; yield"),
        ('def get_sweep():\n    yield "../a", C()', "run 1: the name '../a' cannot be a directory"),
        (
            'def get_sweep():\n    for n in "abcb":\n        yield n, C()',
            "the name 'b' to the runs 2, 4",
        ),
        (
            'def get_sweep():\n    for n in "ab":\n        yield n, C()\n    yield "c", wrong()',
            'run 3: no row',
        ),
        ('1 / 0', 'sweep.py, line 5: ZeroDivisionError: division by zero; correct the file'),
        ('def get_sweep():\n    yield "a", 1 / 0', 'sweep.py, line 6: ZeroDivisionError'),
        ('import no_such_module', "line 5: ModuleNotFoundError: No module named 'no_such_module'"),
        ('x = (', 'sweep.py, line 5: SyntaxError'),
    ),
)
def test_wrong_sweep_files(tmp_path, body, message):
    path = tmp_path / 'sweep.py'
    path.write_text(
        'from ml_collections import ConfigDict as C\nfrom resnet_rs.utils.errors import UserError\n'
        f'def wrong():\n    raise UserError("no row")\n{body}\n'
    )
    with pytest.raises(UserError, match=message):
        load_sweep(path)
    with pytest.raises(UserError, match='is not a file'):
        load_sweep(tmp_path / 'other.py')
    (tmp_path / 'sweep.md').write_text('# Sweep')
    with pytest.raises(UserError, match='is not a Python file'):
        load_sweep(tmp_path / 'sweep.md')


def test_a_sweep_file_may_import_a_module_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'modules', dict(sys.modules))
    before = list(sys.path)
    (tmp_path / 'rates_of_mine.py').write_text('NAMES = ("a", "b")\n')
    path = tmp_path / 'sweep.py'
    path.write_text(
        'from ml_collections import ConfigDict\nfrom rates_of_mine import NAMES\n'
        'def get_sweep():\n    return [(name, ConfigDict()) for name in NAMES]\n'
    )
    assert [name for name, _ in load_sweep(path)] == ['a', 'b']
    assert sys.path == before


@pytest.mark.parametrize(
    'settings, message',
    (
        ({'model.widht_multiplier': 2.0}, "no setting 'model.widht_multiplier'; did you mean"),
        ({'model.name': 'resnet_rs_51'}, "model.name is 'resnet_rs_51'"),
        ({'duration': 'ten epochs'}, "duration is 'ten epochs'"),
        ({'data.eval_split': 'test'}, 'test'),
    ),
)
def test_a_mistake_in_run_17_of_40_is_found_first(tmp_path, settings, message):
    pairs = [(f'run{number}', config()) for number in range(1, 41)]
    pairs[16] = ('run17', config(**settings))
    pairs[29] = ('run30', config(**settings))
    with pytest.raises(UserError, match=f'run 17 of 40, run17: .*{message}') as caught:
        check_runs(pairs, str(tmp_path))
    assert str(caught.value).endswith('(1 more has an error)')


def test_a_workdir_of_other_runs(tmp_path):
    (tmp_path / 'a' / 'checkpoints' / '1').mkdir(parents=True)
    write_config(tmp_path / 'a', config(seed=3))
    with pytest.raises(UserError, match='run 1 of 1, a: .* was started with seed=3; changing'):
        check_runs([('a', config())], str(tmp_path))
    with pytest.raises(UserError, match='is the work directory of a run, not of a sweep'):
        check_runs([('b', config())], str(tmp_path / 'a'))


def test_runs_that_start_from_others(tmp_path):
    path = tmp_path / 'sweep.py'
    path.write_text(
        'from configs import digits\n'
        'from resnet_rs.sweep.definition import Command\n'
        'def get_sweep(workdir):\n'
        '    yield "labels", Command("pseudo_label", (f"--workdir={workdir}/a",), "labels.npz")\n'
    )
    here = str(tmp_path / 'runs')
    assert load_sweep(path, here)[0][1].arguments == (f'--workdir={here}/a',)
    teacher, student = config(), config().unlock()
    student.objective, student.distillation.teacher = 'distillation', f'{here}/a'
    runs = check_runs([('a', teacher), *load_sweep(path, here), ('b', student)], here)
    assert [run.needs for run in runs] == [(), ('a',), ('a',)]
    with pytest.raises(UserError, match='run 1 of 2, b: it reads .*/a, which no run of the sweep'):
        check_runs([('b', student), ('a', teacher)], here)
    student.duration = '0.1 steps'  # what can be known before the teacher is there
    with pytest.raises(UserError, match='less than one step'):
        check_runs([('a', teacher), ('b', student)], here)


def test_main_reads_a_stored_configuration(tmp_path):
    write_config(tmp_path, config(seed=5))
    assert stored.get_config(str(tmp_path)).to_dict() == config(seed=5).to_dict()
    with pytest.raises(UserError, match='holds no config.json'):
        stored.get_config(str(tmp_path / 'none'))


def test_the_grid_has_27_networks_and_three_seeds():
    pairs = load_sweep(digits_grid.__file__)
    assert len(pairs) == 81
    networks = {
        (made.model.name, made.model.width_multiplier, made.data.image_size) for _, made in pairs
    }
    assert len(networks) == 27
    assert {made.seed for _, made in pairs[:27]} == {0}


def test_the_sweep_over_families_trains_each_three_times():
    pairs = load_sweep('configs/sweeps/families.py')
    assert len({name for name, _ in pairs}) == len(pairs) == 12
    for _, config in pairs:
        check_settings(config)
    assert {depth_of(config) for _, config in pairs} == {14, None}
