"""Processes connected as the hosts of a pod slice are one run, however many they are."""

import time

import pytest
from helpers import prepared, processes

from resnet_rs.run.run_log import read_metrics

LOST_AFTER = 12


def start(count, devices, workdir):
    return processes.start(
        count,
        'tests/helpers/small_runs.py',
        'main.py',
        '--config=configs/digits.py:debug',
        f'--workdir={workdir}',
        f'--config.data.data_dir={prepared.data_dir("digits", "array_record")}',
        '--config.model.batch_norm_group_size=-1',
        '--config.optimizer.learning_rate=0.05',
        '--config.duration=6 steps',
        '--config.checkpoint.every=2 steps',
        '--config.eval.every=6 steps',
        f'--config.hosts.lost_after_seconds={LOST_AFTER}',
        devices=devices,
    )


def finish(started):
    """Returns what each process wrote to stderr; all of them end with status 0."""
    ended = processes.finish(started)
    for status, _, errors in ended:
        assert status == 0, errors[-4000:]
    return [errors for _, _, errors in ended]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    """The work directory of one process with four devices, and what it wrote to stderr."""
    workdir = tmp_path_factory.mktemp('runs') / 'one'
    [errors] = finish(start(1, 4, workdir))
    return workdir, errors


def test_away_from_a_terminal_each_logged_step_is_one_line(undisturbed):
    lines = undisturbed[1].splitlines()
    assert [line for line in lines if len(line) > 1000] == []
    with_a_loss = [line for line in lines if 'loss' in line]
    # The configuration logs every second of its six steps and evaluates the last one.
    expected = [f'step {step} of 6: loss' for step in (2, 4, 6)]
    expected += [f'step 6, 360 images, {weights}' for weights in ('raw', 'ema')]
    assert len(with_a_loss) == len(expected), with_a_loss
    for part, line in zip(expected, with_a_loss, strict=True):
        assert part in line


def test_four_processes_of_which_one_is_killed_are_the_same_run(undisturbed, tmp_path):
    """Four of one device; one is killed; two of two devices resume and end as one of four does."""
    *survivors, killed = start(4, 1, tmp_path / 'four')
    try:
        processes.wait_for(tmp_path / 'four' / 'checkpoints' / '2', killed)
    finally:
        killed.kill()
    since = time.monotonic()
    for status, _, errors in processes.finish(survivors):
        assert status == 75, errors[-4000:]
        (line,) = (line for line in errors.splitlines() if line.startswith('error:'))
        assert 'process 3 of 4 (' in line and 'stopped answering' in line
        assert 'Traceback' not in errors
    # The watchdog's own time, heartbeats and grace periods, twice, for a machine under load.
    assert time.monotonic() - since < 2 * (LOST_AFTER + 20)
    killed.communicate()
    assert not (tmp_path / 'four' / 'checkpoints' / '6').exists()

    finish(start(2, 2, tmp_path / 'four'))
    one, four = read_metrics(undisturbed[0]), read_metrics(tmp_path / 'four')
    assert [line['step'] for line in one] == [line['step'] for line in four]
    for a, b in zip(one, four, strict=True):
        for name in a.keys() - {'step', 'kind', 'time'}:
            # Sums over the batch are added in another order on other numbers of devices.
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-6), (a['step'], name)
