"""The command itself, with real runs: killed, stopped, resumed, finished, repeated."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from helpers import prepared
from helpers.processes import environment, xla_flags

from resnet_rs.run.run_log import read_metrics
from resnet_rs.sweep import results

ROOT = pathlib.Path(__file__).parent.parent.parent
SWEEP = """
from configs import digits

def get_sweep():
    for seed in (0, 1):
        config = digits.get_config('debug').unlock()
        config.seed = seed
        config.data.data_dir = {data_dir!r}
        config.duration = '{steps} steps'
        config.checkpoint.every = '4 steps'
        config.eval.every = '{steps} steps'
        config.model.name = 'resnet_14'
        config.data.image_size = 16
        config.model.dropout_rate = 0.0  # without randomness both seeds are one program
        config.model.stochastic_depth_rate = 0.0
        yield f'seed{{seed}}', config.lock()
"""


@pytest.fixture
def command(tmp_path):
    started = []

    def command(*arguments, steps=40):
        sweep = tmp_path / 'sweep.py'
        data_dir = prepared.data_dir('digits', 'array_record')
        sweep.write_text(SWEEP.format(data_dir=data_dir, steps=steps))
        started.append(
            subprocess.Popen(
                [
                    sys.executable,
                    '-m',
                    'resnet_rs.sweep',
                    f'--sweep={sweep}',
                    f'--workdir={tmp_path}/runs',
                    *arguments,
                ],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(XLA_FLAGS=xla_flags(devices=1)),
            )
        )
        return started[-1]

    yield command
    for process in started:
        process.terminate()
        process.wait()


def wait_for_checkpoint(process, directory):
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.name.isdecimal() for path in (directory / 'checkpoints').glob('*')):
            return
        time.sleep(0.05)
    pytest.fail(f'no checkpoint: {process.communicate()}')


def test_stopped_then_finished_then_left_alone(command, tmp_path):
    runs = tmp_path / 'runs'
    stopped = command()
    wait_for_checkpoint(stopped, runs / 'seed0')
    stopped.send_signal(signal.SIGINT)
    output, notes = stopped.communicate(timeout=400)
    assert stopped.returncode == 130, notes
    assert 'seed0 interrupted: saved at step' in notes and 'seed1 interrupted' not in notes
    assert notes.endswith('left out: 2 runs not evaluated yet: seed0, seed1\n')
    assert '2 interrupted\nthe same command resumes' in output

    finished = command('--retries=0')
    output, notes = finished.communicate(timeout=900)
    assert finished.returncode == 0, notes
    assert 'seed0 resumes from step' in notes and 'seed1 starts' in notes
    assert '2 finished' in output
    assert '1 of 2: ' in notes and '2 of 2: ' in notes and ', top-1 ' in notes
    rows = results.read_table(runs / 'results.csv')
    assert [(row['run'], row['seed'], row['step']) for row in rows] == [
        ('seed0', 0, 40),
        ('seed1', 1, 40),
    ]
    assert rows[0]['settings'] == rows[1]['settings']
    assert rows[0]['ema_top1'] == read_metrics(runs / 'seed0')[-1]['ema_top1']
    assert rows[0]['memory_bytes'] > 2**27  # a process with JAX in it

    before = {
        path: os.stat(path).st_mtime_ns
        for path in (runs / 'seed0').rglob('*')
        if path.name != 'config.json'
    }
    again = command()
    output, notes = again.communicate(timeout=400)
    assert again.returncode == 0, notes
    assert 'seed1 finished earlier' in notes
    assert all(os.stat(path).st_mtime_ns == time for path, time in before.items())

    other = command(steps=44)
    _, notes = other.communicate(timeout=400)
    assert other.returncode == 2
    assert notes.startswith('error: run 1 of 2, seed0: ') and 'duration' in notes
    assert len(notes.splitlines()) == 1
