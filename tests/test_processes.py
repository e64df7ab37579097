"""Two processes connected as the hosts of a pod slice are one run."""

import os
import pathlib
import socket
import subprocess
import sys

import prepared
import pytest

from resnet_rs.run_log import read_metrics

ROOT = pathlib.Path(__file__).parent.parent


def start(workdir, devices, *arguments, **environment):
    environment |= {'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}
    return subprocess.Popen(
        [
            sys.executable, 'main.py', '--config=configs/digits.py:debug', f'--workdir={workdir}',
            f'--config.data.data_dir={prepared.data_dir("digits", "array_record")}',
            '--config.model.batch_norm_group_size=-1', '--config.optimizer.learning_rate=0.05',
            *arguments,
        ],
        cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True,
    )


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors[-4000:]


def start_two(workdir, *arguments):
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    return [
        start(workdir, 2, *arguments, JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES='2',
              JAX_PROCESS_ID=str(index))
        for index in range(2)
    ]


def test_two_processes_are_one_run_and_resume_as_one(tmp_path):
    """Two of two devices write checkpoints that one process of four goes on from."""
    finish(start(tmp_path / 'one', 4))
    finish(*start_two(tmp_path / 'two'))
    one, two = read_metrics(tmp_path / 'one'), read_metrics(tmp_path / 'two')
    assert [line['step'] for line in one] == [line['step'] for line in two]
    for a, b in zip(one, two, strict=True):
        for name in a.keys() - {'step', 'kind', 'time'}:
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-6), (a['step'], name)

    last = tmp_path / 'two' / 'checkpoints' / '12'
    assert last.exists()
    last.rename(tmp_path / 'moved')
    finish(start(tmp_path / 'two', 4))
    resumed = read_metrics(tmp_path / 'two')
    assert [line['step'] for line in resumed] == [line['step'] for line in two]
    assert resumed[-1]['raw_loss'] == pytest.approx(two[-1]['raw_loss'], rel=1e-3)
