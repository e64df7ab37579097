"""Plans with a stand-in for the compiler, so that any of their steps may fit or not."""

import csv
import types

from helpers.tpu import small_config

from resnet_rs.plan import planning, report, topology
from resnet_rs.plan.cache import Compilation, DoesNotFit
from resnet_rs.plan.program import CompiledStep

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


def plan_of(monkeypatch, fitting, steps, **settings):
    """Returns the plan of a small network, of which the steps `fitting` fit."""

    def compile_step(config, topology, which, **_):
        if which not in fitting:
            raise DoesNotFit('RESOURCE_EXHAUSTED ...', 20 * GIB, 10 * GIB)
        return compiled(which)

    monkeypatch.setattr(planning, 'compile_step', compile_step)
    monkeypatch.setattr(planning, 'teacher_bytes', lambda *_: 0)
    device = types.SimpleNamespace(process_index=0)
    core = topology.Topology('v3:2x2', (device,), topology.HARDWARE['v3'])
    options = planning.Options(steps=steps, search=True)
    return planning.make_plan(small_config(**settings), core, (1000, 100), options)


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
