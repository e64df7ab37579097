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
