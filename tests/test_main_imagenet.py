"""The ImageNet configuration as users run it: real builder, real command, killed and resumed.

Processes are started where one has to end in the middle; the other commands run in this one.
"""

import json
import signal
import time

import jax
import pytest
from helpers import prepared, processes

import train_lib
from resnet_rs.run.run_log import read_metrics
from resnet_rs.training.sharding import create_mesh

STEPS = 6

pytestmark = pytest.mark.usefixtures('one_stage', 'shared_programs')


def arguments_of(data_dir, workdir, *arguments):
    return [
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


def start(*arguments, devices):
    [process] = processes.start(
        1, 'tests/helpers/small_runs.py', 'main.py', *arguments_of(*arguments), devices=devices
    )
    return process


def without_time(workdir):
    return [{k: v for k, v in line.items() if k != 'time'} for line in read_metrics(workdir)]


@pytest.fixture(scope='module')
def data_dir():
    return prepared.data_dir('imagenet2012', 'tfrecord')


@pytest.fixture
def finished(data_dir, run_main, no_report, tmp_path):
    workdir = tmp_path / 'finished'
    assert run_main(*arguments_of(data_dir, workdir)) == (0, '', [])
    return workdir


def test_killed_process_resumes_to_the_same_numbers(data_dir, finished, run_main, tmp_path):
    """And its evaluation counts every validation image: 29 in batches of 16."""
    workdir = tmp_path / 'killed'
    process = start(data_dir, workdir, devices=8)
    processes.wait_for(workdir / 'checkpoints' / '2', process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (workdir / 'checkpoints' / str(STEPS)).exists()
    assert run_main(*arguments_of(data_dir, workdir)) == (0, '', [])
    assert without_time(workdir) == without_time(finished)

    last = read_metrics(workdir)[-1]
    assert last['kind'] == 'eval'
    status, output, _ = run_main(*arguments_of(data_dir, workdir, '--mode=eval'))
    printed = json.loads(output)
    assert status == 0 and printed['examples'] == prepared.EVAL_EXAMPLES == 29
    assert printed['weights']['ema']['loss'] == last['ema_loss']


def test_one_device_agrees_with_eight(data_dir, run_main, no_report, monkeypatch, tmp_path):
    """Compares five steps in float32 with one batch-norm group: losses agree to 1e-4."""
    exact = (
        '--config.model.dtype=float32',
        '--config.model.batch_norm_group_size=-1',
        '--config.duration=5 steps',
        '--config.optimizer.learning_rate=0.01',
    )
    losses = []
    for devices in (1, 8):
        mesh = create_mesh(jax.devices()[:devices])
        monkeypatch.setattr(train_lib, 'create_mesh', lambda mesh=mesh, **_: mesh)
        workdir = tmp_path / str(devices)
        assert run_main(*arguments_of(data_dir, workdir, *exact)) == (0, '', [])
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
    process = start(data_dir, tmp_path, *endless, devices=1)
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
