"""The figures of benchmarks/plan_pareto.py for compiled programs, computed by hand."""

import importlib.util
import pathlib
import sys

import pytest

from resnet_rs.utils.errors import UserError

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks' / 'plan_pareto.py'
V3_CLOCK = 940e6


@pytest.fixture
def plan_pareto(monkeypatch):
    monkeypatch.setattr(sys, 'path', [*sys.path])  # the script puts its folders first
    spec = importlib.util.spec_from_file_location('plan_pareto', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lines(plan_pareto):
    """Programs that take 70, 100 and 200 ms for 128 images where the paper has 70, 120 and 170."""
    entries = (
        ('v3:2x2', '50@160', 'ours', 128, 65_800_000),
        ('v3:2x2', '50@160', 'naive', 128, 82_250_000),
        ('v3:2x2', '101@160', 'ours', 128, 94_000_000),
        ('v3:2x2', '101@192', 'ours', 64, 94_000_000),
        ('v3:2x2', '101@192', 'naive', 32, 50_000_000),
        ('v6e:2x2', '50@160', 'ours', 128, 30_000_000),
    )
    values = (
        dict(zip(plan_pareto.FIELDS, (*entry, 2**30, '1.5'), strict=True)) for entry in entries
    )
    return {(line['topology'], line['row'], line['program']): line for line in values}


def test_a_program_beside_the_paper_and_the_naive_one(plan_pareto, lines):
    assert plan_pareto.describe(lines, ('v3:2x2', '50@160', 'ours'), V3_CLOCK) == (
        'v3:2x2 50@160 ours: batch 128, 65.8M cycles for 128 images, 70.0 ms, 1.000 of the paper; '
        'ours / naive 0.800'
    )
    assert plan_pareto.describe(lines, ('v3:2x2', '101@192', 'naive'), V3_CLOCK) == (
        'v3:2x2 101@192 naive: batch 32, 200.0M cycles for 128 images, 212.8 ms, 1.252 of the '
        'paper; ours / naive 0.940'
    )
    assert plan_pareto.describe(lines, ('v6e:2x2', '50@160', 'ours'), None) == (
        'v6e:2x2 50@160 ours: batch 128, 30.0M cycles for 128 images'
    )


def test_the_summary(plan_pareto, lines):
    """Rows are 1, 100/120 and 200/170 of the paper, so the spread is 24/17."""
    assert plan_pareto.summary(lines, 'v3:2x2', V3_CLOCK) == (
        'v3:2x2: 2 of 11 rows have both programs, ours / naive from 0.800 to 0.940; ours beside '
        'the paper in 3 rows: rank correlation 1.000, spread of the ratio 1.412'
    )
    assert plan_pareto.summary(lines, 'v6e:2x2', None) == (
        'v6e:2x2: 0 of 11 rows have both programs'
    )


def test_the_batch_of_a_smaller_network_is_tried_first(plan_pareto, lines):
    assert plan_pareto.first_batch(lines, 'v3:2x2', '101@192', 'ours') == 128
    assert plan_pareto.first_batch(lines, 'v3:2x2', '152@192', 'ours') == 64
    assert plan_pareto.first_batch(lines, 'v3:2x2', '420@320', 'naive') == 32
    assert plan_pareto.first_batch(lines, 'v5e:2x2', '420@320', 'naive') == 128


def test_the_file_holds_the_lines(plan_pareto, lines, tmp_path):
    path = str(tmp_path / 'found.csv')
    assert plan_pareto.read(path) == {}
    plan_pareto.write(path, lines)
    assert plan_pareto.read(path) == lines
    assert [each.name for each in tmp_path.iterdir()] == ['found.csv']
    (tmp_path / 'other.csv').write_text('row,batch\n50@160,128\n')
    with pytest.raises(UserError, match='other columns'):
        plan_pareto.read(str(tmp_path / 'other.csv'))


def test_what_the_file_has_is_not_compiled_again(plan_pareto, lines, tmp_path, monkeypatch, capsys):
    path, compiled = str(tmp_path / 'found.csv'), []
    plan_pareto.write(path, lines)

    def estimate(device, row, program, batch, again):
        compiled.append((row, program, batch))
        values = (device.name, row, program, batch, 117_500_000, 1, '2.0')
        return dict(zip(plan_pareto.FIELDS, values, strict=True))

    class Device:
        name = 'v3:2x2'
        hardware = plan_pareto.topologies.HARDWARE['v3']

    monkeypatch.setattr(plan_pareto, 'estimate', estimate)
    monkeypatch.setattr(plan_pareto.topologies, 'prepare_environment', lambda: None)
    monkeypatch.setattr(plan_pareto.topologies, 'check_libtpu', lambda: None)
    monkeypatch.setattr(plan_pareto.topologies, 'open_topology', lambda name, devices: Device)
    plan_pareto.main([f'--csv={path}', '--rows=101@160,50@160'])
    assert compiled == [('101@160', 'naive', 128)]
    assert 'ours / naive 0.800\n' in capsys.readouterr().out  # of 101@160: 94.0 over 117.5
    kept = plan_pareto.read(path)
    assert len(kept) == 7 and kept['v3:2x2', '101@160', 'naive']['cycles'] == 117_500_000
    with pytest.raises(SystemExit):
        plan_pareto.main([f'--csv={path}', '--rows=51@160'])
    assert "['51@160'] is not known" in capsys.readouterr().err
