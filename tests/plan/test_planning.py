"""Plans with a stand-in for the compiler, so that any of their steps may fit or not."""

import csv
import types

import pytest
from helpers.tpu import small_config

from resnet_rs.plan import planning, report, topology
from resnet_rs.plan.cache import Compilation, DoesNotFit
from resnet_rs.plan.program import CompiledStep
from resnet_rs.utils.errors import UserError

GIB = 2**30


def compiled(which):
    """A step of 1 GiB and a million cycles."""
    figures = dict.fromkeys(Compilation.__dataclass_fields__, 0) | {'peak': GIB, 'text': ''}
    program = types.SimpleNamespace(
        cycles=10**6,
        collectives=(),
        operations=(),
        loops=(),
        unestimated_bytes=0,
        cycles_in=lambda name: 0,
        loop_factor=lambda of_what: 1.0,
    )
    return CompiledStep(which, Compilation(**figures), program, 0.0, False)


def plan_of(monkeypatch, fitting, steps, devices=1, evals=None, **settings):
    """Returns the plan of a small network, of which the steps `fitting` fit."""

    def compile_step(config, topology, which, **_):
        if which not in fitting:
            raise DoesNotFit('RESOURCE_EXHAUSTED ...', 20 * GIB, 10 * GIB)
        return compiled(which)

    monkeypatch.setattr(planning, 'compile_step', compile_step)
    monkeypatch.setattr(planning, 'teacher_bytes', lambda *_: 0)
    device = types.SimpleNamespace(process_index=0)
    core = topology.Topology('v3:2x2', (device,) * devices, topology.HARDWARE['v3'])
    options = planning.Options(steps=steps, search=True)
    config = small_config(**settings)
    config.evals.update(evals or {})
    return planning.make_plan(config, core, (1000, 100), options)


def test_the_table_has_the_columns_of_all_steps(monkeypatch, tmp_path):
    """The training step alone has teacher_bytes; it need not be the first that fits."""
    plans = [
        plan_of(monkeypatch, ['eval'], ['train', 'eval']),
        plan_of(monkeypatch, ['eval', 'train'], ['eval', 'train']),
    ]
    with open(report.write(tmp_path, plans, {})[1], newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['step'], row['teacher_bytes']) for row in rows] == [
        ('eval', ''),
        ('eval', ''),
        ('train', '0'),
    ]


def test_a_later_step_does_not_hide_the_remedies_of_the_training_step(monkeypatch):
    plan = plan_of(monkeypatch, [], ['train', 'eval', 'inference'])
    assert [failure['step'] for failure in plan.failures] == ['train', 'eval', 'inference']
    assert plan.fit['step'] == 'train' and plan.fit['searched'] and plan.fit['options']
    lines = report.describe(plan).splitlines()
    assert '  no smaller batch fits either' in lines
    assert sum('step does not fit: 20.00 GiB are needed' in line for line in lines) == 3


def test_figures_are_those_of_the_training_step_or_named(monkeypatch):
    million_cycles = '1.06 ms a step'  # of 940 MHz
    failed = report.sentence(plan_of(monkeypatch, ['eval'], ['train', 'eval']))
    assert failed.endswith(': does not fit')
    alone = report.sentence(plan_of(monkeypatch, ['eval'], ['eval']))
    assert f': fits, the eval step 1.0 of 15.5 GiB, {million_cycles}' in alone
    trains = report.sentence(plan_of(monkeypatch, ['train'], ['train', 'eval']))
    assert f': does not fit, 1.0 of 15.5 GiB, {million_cycles}' in trains


@pytest.mark.parametrize('fitting', [['train'], ['train', 'eval']])
def test_what_the_days_leave_out(monkeypatch, fitting):
    """1,000 images in batches of 8 are 125 steps an epoch; the evaluation takes 13 batches."""
    settings = {'duration': '4 epochs', 'eval.every': '2 epochs'}
    plan = plan_of(monkeypatch, fitting, ['train', 'eval'], **settings)
    million_cycles = 1e6 / 940e6
    evaluated = 'eval' in fitting
    steps = 500 + (2 * 13 if evaluated else 0)
    assert plan.run['days'] * 86400 == pytest.approx(steps * million_cycles)
    line = report.describe(plan, details=True).splitlines()[-1]
    assert ('500 steps and 2 evaluations;' in line) is evaluated
    assert ('hosts and evaluations are not included' in line) is not evaluated


def test_the_evaluations_that_a_configuration_adds(monkeypatch):
    evals = {'views': {'batch_size': 4}, 'small': {'every': '1 epoch'}}
    with_two = plan_of(monkeypatch, ['train', 'eval'], ['train', 'eval'], evals=evals)
    assert with_two.run['without'][-2:] == ['evals.small', 'evals.views']
    last = report.describe(with_two, details=True).splitlines()[-1]
    assert last.endswith('other hosts, evals.small and evals.views are not included')
    with pytest.raises(UserError, match='evals.views.batch_size is 4.*8 devices'):
        plan_of(monkeypatch, [], ['train'], devices=8, evals=evals)
