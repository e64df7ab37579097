"""The ImageNet configuration as users run it: real builder, real command, killed and resumed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import prepared
import pytest
from processes import xla_flags

from resnet_rs.run.run_log import read_metrics

ROOT = pathlib.Path(__file__).parent.parent
STEPS = 6


def command(data_dir, workdir, *arguments):
    return [
        sys.executable,
        'main.py',
        '--config=configs/resnet_rs.py:50@160',
        f'--workdir={workdir}',
        f'--config.data.data_dir={data_dir}',
        '--config.data.image_size=64',
        '--config.batch_size=16',
        '--config.eval.batch_size=16',
        f'--config.duration={STEPS} steps',
        '--config.optimizer.warmup=1 step',
        '--config.log.every=1 step',
        '--config.checkpoint.every=2 steps',
        f'--config.eval.every={STEPS} steps',
        '--config.model.name=resnet_rs_14',
        '--config.model.width_multiplier=0.25',
        *arguments,
    ]


def environment(device_count):
    return {**os.environ, 'XLA_FLAGS': xla_flags(device_count)}


def run(*arguments, devices=8):
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def wait_for(path, timeout=300):
    deadline = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < deadline, f'{path} did not appear'
        time.sleep(0.05)


def without_time(workdir):
    return [{k: v for k, v in line.items() if k != 'time'} for line in read_metrics(workdir)]


@pytest.fixture(scope='module')
def data_dir():
    return prepared.data_dir('imagenet2012', 'tfrecord')


@pytest.fixture(scope='module')
def finished(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('finished')
    result = run(data_dir, workdir)
    assert result.returncode == 0, result.stderr[-3000:]
    return workdir


def test_killed_process_resumes_to_the_same_numbers(data_dir, finished, tmp_path):
    process = subprocess.Popen(
        command(data_dir, tmp_path), cwd=ROOT, env=environment(8), stderr=subprocess.PIPE
    )
    wait_for(tmp_path / 'checkpoints' / '2')
    process.kill()
    assert process.wait() == -signal.SIGKILL
    result = run(data_dir, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'resuming from step' in result.stderr or without_time(tmp_path)[-1]['step'] == STEPS
    assert without_time(tmp_path) == without_time(finished)


def test_every_validation_image_is_counted(data_dir, finished):
    """29 images in batches of 16; the evaluation asserts the count, --mode=eval prints it."""
    last = read_metrics(finished)[-1]
    assert last['kind'] == 'eval'
    result = run(data_dir, finished, '--mode=eval')
    assert result.returncode == 0, result.stderr[-3000:]
    printed = json.loads(result.stdout)
    assert printed['examples'] == prepared.EVAL_EXAMPLES == 29
    assert printed['weights']['ema']['loss'] == last['ema_loss']


def test_one_device_agrees_with_eight(data_dir, tmp_path):
    """In float32 with one batch-norm group, five steps agree in loss to 1e-4."""
    exact = (
        '--config.model.dtype=float32',
        '--config.model.batch_norm_group_size=-1',
        '--config.duration=5 steps',
        '--config.optimizer.learning_rate=0.01',
    )
    losses = []
    for devices in (1, 8):
        workdir = tmp_path / str(devices)
        result = run(data_dir, workdir, *exact, devices=devices)
        assert result.returncode == 0, result.stderr[-3000:]
        lines = read_metrics(workdir)
        losses.append([line['loss'] for line in lines if line['kind'] == 'train'])
    assert len(losses[0]) == 5
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_preemption_saves_and_ends_cleanly(data_dir, tmp_path):
    """SIGTERM in the middle of a long run: exit status 75 and a checkpoint of that very step."""
    endless = (
        '--config.duration=100000 steps',
        '--config.checkpoint.every=100000 steps',
        '--config.eval.every=100000 steps',
    )
    process = subprocess.Popen(
        command(data_dir, tmp_path, *endless),
        cwd=ROOT,
        env=environment(1),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (lines := read_metrics(tmp_path)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors[-3000:]
    assert 'saved; the same command resumes' in errors
    steps = [int(path.name) for path in (tmp_path / 'checkpoints').iterdir() if path.name.isdigit()]
    assert len(steps) == 1 and steps[0] >= lines[-1]['step']
    assert read_metrics(tmp_path)[-1]['step'] == steps[0]
