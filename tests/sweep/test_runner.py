"""Runs that finish, fail, die and are stopped; the processes are real, main.py is not."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import stat
import sys
import threading
import time

import pytest

from resnet_rs.run.lock import SWEEP_LOCK, locked
from resnet_rs.sweep import directory, runner, workers
from resnet_rs.sweep.definition import Command, SweepRun

FAKE_RUN = pathlib.Path(__file__).parents[1] / 'helpers' / 'fake_run.py'


@pytest.fixture(autouse=True)
def fake_command(monkeypatch):
    monkeypatch.setattr(
        workers, 'command', lambda directory: [sys.executable, '-S', str(FAKE_RUN), directory]
    )
    monkeypatch.setattr(runner, 'POLL_SECONDS', 0.02)


def sweep_of(root, **todo):
    runs = []
    for name, lines in todo.items():
        (root / name).mkdir()
        (root / name / 'todo').write_text(lines)
        runs.append(SweepRun(name, None, str(root / name), total_steps=10))
    return runs


def execute(runs, root, *, hosts=(None,), parallel=1, retries=1, environment=None):
    notes = []
    with locked(root, SWEEP_LOCK) as lock:
        places = [
            workers.Worker(host, environment=environment or dict(os.environ), lock=lock)
            for host in hosts
            for _ in range(parallel)
        ]
        outcomes = runner.Runner(places, retries, notes.append).execute(runs)
    return {outcome.run.name: outcome for outcome in outcomes}, notes


def started(run):
    path = pathlib.Path(run.directory) / 'started'
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


@contextlib.contextmanager
def signals_when_waiting(runs, *numbers):
    """Sends this process the signals, a moment apart, once every run waits for its SIGTERM."""

    def send():
        deadline = time.monotonic() + 20
        paths = [pathlib.Path(run.directory) / 'waiting' for run in runs]
        while not all(path.exists() for path in paths) and time.monotonic() < deadline:
            time.sleep(0.02)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.3)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()


def test_a_run_waits_for_those_that_it_needs(tmp_path):
    runs = sweep_of(tmp_path, teacher='die finish', bad='mistake', student='finish', lost='finish')
    needs = {'student': ('teacher',), 'lost': ('student', 'bad')}
    runs = [dataclasses.replace(run, needs=needs.get(run.name, ())) for run in runs]
    outcomes, _ = execute(runs, tmp_path, parallel=2)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        'teacher': 'finished',
        'bad': 'failed',
        'student': 'finished',
        'lost': 'failed',
    }
    assert outcomes['lost'].reason == 'it needs bad, which failed' and not started(runs[3])
    times = [
        float((tmp_path / name / 'started').read_text().split()[-1])
        for name in ('teacher', 'student')
    ]
    assert times[0] < times[1]  # the teacher's second attempt


def test_a_command_is_finished_when_it_has_written_its_output(tmp_path):
    step = Command('probe', ('--workdir=RUN', '--test=test'), 'probe.json')
    run = SweepRun('probe', None, str(tmp_path / 'probe'), 0, ('RUN',), step)
    assert workers.command_of(run)[1:] == [
        '-m',
        'resnet_rs.probe',
        '--workdir=RUN',
        '--test=test',
        f'--output={tmp_path}/probe/probe.json',
    ]
    directory.prepare(run)
    assert not directory.is_finished(run)
    (tmp_path / 'probe' / 'probe.json').write_text('{}')
    assert directory.is_finished(run)


def test_every_run_ends_as_it_must_and_none_takes_another_with_it(tmp_path):
    runs = sweep_of(
        tmp_path,
        good='finish',
        died='die finish',
        bug='crash crash crash',
        wrong='mistake finish',
        full='fill_the_disk finish',
        damaged='damage finish',
        last='finish',
    )
    outcomes, notes = execute(runs, tmp_path, parallel=2)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        'good': 'finished',
        'died': 'finished',
        'bug': 'failed',
        'wrong': 'failed',
        'full': 'failed',
        'damaged': 'failed',
        'last': 'finished',
    }
    assert [started(run) for run in runs] == [
        ['finish'],
        ['die', 'finish'],
        ['crash', 'crash'],
        ['mistake'],
        ['fill_the_disk'],
        ['damage'],
        ['finish'],
    ]
    assert 'exit status 1 (attempt 2)' in outcomes['bug'].reason
    assert 'Traceback: a bug' in directory.tail(runs[2])
    assert outcomes['wrong'].reason == 'batch_size is 7, which does not divide'
    assert outcomes['full'].reason == f'the disk that holds {tmp_path}/full is full'
    assert f'{tmp_path}/damaged/metrics.jsonl is damaged' in outcomes['damaged'].reason
    assert any('died: killed by SIGKILL' in note for note in notes)
    assert 'died resumes from step 4 of 10' in notes


def test_finished_runs_are_not_started_again(tmp_path):
    runs = sweep_of(tmp_path, a='finish crash', b='crash finish')
    first, _ = execute(runs, tmp_path, retries=0)
    assert [first[name].status for name in 'ab'] == ['finished', 'failed']
    second, _ = execute(runs, tmp_path)
    assert [second[name].status for name in 'ab'] == ['finished', 'finished']
    assert second['a'].reason == 'earlier'
    assert [started(run) for run in runs] == [['finish'], ['crash', 'finish']]


def test_a_full_disk_of_the_log_itself(tmp_path):
    runs = sweep_of(tmp_path, full='finish', good='finish')
    (tmp_path / 'full' / 'log.txt').symlink_to('/dev/full')
    outcomes, _ = execute(runs, tmp_path)
    assert 'is full' in outcomes['full'].reason
    assert outcomes['good'].status == 'finished'


@pytest.mark.parametrize('number', (signal.SIGINT, signal.SIGTERM))
def test_a_stop_lets_runs_save_and_the_next_sweep_goes_on(tmp_path, number):
    todo = 'wait_for_sigterm finish'
    runs = sweep_of(tmp_path, a=todo, b=todo, c='finish')
    with signals_when_waiting(runs[:2], number):
        outcomes, notes = execute(runs, tmp_path, parallel=2)
    assert [outcomes[name].status for name in 'abc'] == ['interrupted'] * 3
    assert outcomes['a'].reason == 'saved at step 4 of 10'
    assert started(runs[2]) == []
    outcomes, notes = execute(runs, tmp_path, parallel=2)
    assert [outcomes[name].status for name in 'abc'] == ['finished'] * 3
    assert {'a resumes from step 4 of 10', 'c starts'} <= set(notes)


def test_a_second_signal_kills(tmp_path):
    runs = sweep_of(tmp_path, a='ignore_sigterm')
    begin = time.monotonic()
    with signals_when_waiting(runs, signal.SIGINT, signal.SIGINT):
        outcomes, _ = execute(runs, tmp_path)
    assert outcomes['a'].status == 'interrupted'
    assert time.monotonic() - begin < 20


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """An ssh that runs the command here; the host 'gone' refuses."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    path = folder / 'ssh'
    path.write_text(
        '#!/bin/sh\nshift 2\nhost=$1; shift\n'
        '[ "$host" = gone ] && { echo "ssh: no route to host" >&2; exit 255; }\n'
        f'echo "$host" >> {tmp_path}/hosts\nexec sh -c "$*"\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return os.environ | {'PATH': f'{folder}:{os.environ["PATH"]}', 'TFDS_DATA_DIR': '/a b'}


def test_hosts_share_the_runs_and_one_that_is_gone_is_left_out(tmp_path, ssh, monkeypatch):
    monkeypatch.setenv('PATH', ssh['PATH'])
    runs = sweep_of(tmp_path, a='finish', b='die finish', c='finish', d='crash crash')
    outcomes, notes = execute(runs, tmp_path, hosts=('gone', 'one', 'two'), environment=ssh)
    assert [outcomes[name].status for name in 'abcd'] == ['finished'] * 3 + ['failed']
    assert set((tmp_path / 'hosts').read_text().split()) == {'one', 'two'}
    assert any('gone cannot be reached and is left out: ssh: no route' in note for note in notes)
    assert any('b: killed by SIGKILL' in note for note in notes)
    assert started(runs[3]) == ['crash', 'crash']


def test_a_stop_reaches_runs_on_other_hosts(tmp_path, ssh, monkeypatch):
    monkeypatch.setenv('PATH', ssh['PATH'])
    runs = sweep_of(tmp_path, a='wait_for_sigterm')
    with signals_when_waiting(runs, signal.SIGINT):
        outcomes, _ = execute(runs, tmp_path, hosts=('one',), environment=ssh)
    assert outcomes['a'].reason == 'saved at step 4 of 10'


def test_no_host_left(tmp_path, ssh, monkeypatch):
    monkeypatch.setenv('PATH', ssh['PATH'])
    runs = sweep_of(tmp_path, a='finish')
    outcomes, _ = execute(runs, tmp_path, hosts=('gone',), environment=ssh)
    assert outcomes['a'].reason == 'no host is left before it could start'


def test_runs_in_parallel_share_the_cores(tmp_path, monkeypatch):
    every = sorted(os.sched_getaffinity(0))
    assert workers.shares_of_cores(1) == [set(every)]
    assert workers.shares_of_cores(len(every)) == [{core} for core in every]
    (run,) = sweep_of(tmp_path, one='finish')
    shown = 'import os; print(sorted(os.sched_getaffinity(0)))'
    monkeypatch.setattr(workers, 'command', lambda directory: [sys.executable, '-c', shown])
    with locked(tmp_path, SWEEP_LOCK) as lock:
        worker = workers.Worker(environment=dict(os.environ), lock=lock, cores={every[0]})
        worker.start(run)
        while worker.poll() is None:
            time.sleep(0.02)
    log = (tmp_path / 'one' / directory.LOG_FILE).read_text()
    assert log.splitlines()[-1] == f'[{every[0]}]'
    cores = {0, 1, 2, 3, 6}
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: cores)
    assert workers.shares_of_cores(2) == [{0, 1}, {2, 3, 6}]
    assert workers.shares_of_cores(6)[0] == cores and len(workers.shares_of_cores(6)) == 6
