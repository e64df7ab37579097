"""The list of runs and its sum; planning itself is tested in tests/plan."""

import pytest

from configs import resnet_rs
from resnet_rs.sweep import dry_run as module
from resnet_rs.sweep.dry_run import Estimate, dry_run
from resnet_rs.utils.errors import UserError

ESTIMATES = {
    0.1: Estimate(3 * 2**30, 0.0936, 10.25),
    0.0: Estimate(20 * 2**30, problem='4.00 GiB are missing'),
}


def pairs():
    made = []
    for smoothing, seed in ((0.1, 0), (0.1, 1), (0.0, 0)):
        config = resnet_rs.get_config('50@160').unlock()
        config.seed = seed
        config.optimizer.label_smoothing = smoothing
        made.append((f'smoothing{smoothing}-seed{seed}', config.lock()))
    return made


def test_runs_are_listed_and_those_that_differ_in_the_seed_planned_once(monkeypatch):
    planned = []

    def planner(name, examples, eval_examples):
        assert (name, examples, eval_examples) == ('v3:2x2', 1000, None)
        return lambda config: planned.append(config) or ESTIMATES[config.optimizer.label_smoothing]

    monkeypatch.setattr(module, 'planner', planner)
    lines = dry_run(pairs(), 'v3:2x2', examples=1000).splitlines()
    assert [config.optimizer.label_smoothing for config in planned] == [0.1, 0.0]
    # Exact parameters and, in billions, 2.279 multiply-adds, half of what the paper prints.
    assert lines[1].split()[1:] == lines[2].split()[1:]
    assert lines[1].split()[1] == '35,691,912'
    assert round(int(lines[1].split()[2].replace(',', '')) / 1e9, 3) == 2.279
    assert lines[1].split()[3:] == ['3.00', '93.6', '10.25']
    assert lines[3].split()[3:] == ['20.00', '-', '-', '4.00', 'GiB', 'are', 'missing']
    assert lines[4].startswith('v3:2x2: 20.50 chip-hours of training for 2 of 3 runs')


def test_runs_that_differ_in_memory_alone_have_plans_of_their_own(monkeypatch):
    """Rematerialisation makes no other experiment, but another program."""
    planned = []
    monkeypatch.setattr(
        module, 'planner', lambda *_: lambda config: planned.append(config) or Estimate()
    )
    name, config = pairs()[0]
    other = config.copy_and_resolve_references().unlock()
    other.model.remat = 'block'
    dry_run([(name, config), ('remat', other.lock())], 'v3:2x2', examples=1000)
    assert [each.model.remat for each in planned] == ['', 'block']


def test_without_a_plan():
    lines = dry_run(pairs()[:1], '').splitlines()
    assert len(lines) == 2
    assert lines[1].split()[3:] == ['-', '-', '-']


def test_a_mistake_is_told_with_its_number():
    wrong = pairs()
    wrong[1] = ('wrong', wrong[1][1].copy_and_resolve_references())
    wrong[1][1].unlock().data.crop_area = (0.5, 0.2)
    with pytest.raises(UserError, match='run 2 of 3, wrong: data.crop_area'):
        dry_run(wrong, 'v3:2x2')
