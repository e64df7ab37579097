"""The printed jobs are valid, and each starts the run it says: executed where that is possible."""

import json
import os
import pathlib
import subprocess

import pytest

from configs import digits
from resnet_rs.config.stored import read_config
from resnet_rs.sweep.definition import SweepRun
from resnet_rs.sweep.schedulers import gke, prepare, queued_resources, slurm


@pytest.fixture
def runs(tmp_path):
    """Of 'a', 'b' and 'c', 'b' is finished already."""
    made = []
    for seed, name in enumerate('abc'):
        config = digits.get_config('debug').unlock()
        config.seed = seed
        made.append(SweepRun(name, config, str(tmp_path / 'the sweep' / name), total_steps=10))
        pathlib.Path(made[-1].directory).mkdir(parents=True)
    finished = pathlib.Path(made[1].directory)
    (finished / 'checkpoints' / '10').mkdir(parents=True)
    (finished / 'metrics.jsonl').write_text('{"step": 10, "kind": "eval"}\n')
    (finished / 'predictions.npz').touch()
    return prepare(made, str(tmp_path / 'the sweep'), 'sweep.py')


@pytest.fixture
def bin_of_echoes(tmp_path):
    """A PATH on which python, srun and gcloud print their arguments, one a line."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in ('python', 'srun', 'gcloud'):
        (folder / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (folder / name).chmod(0o755)
    return os.environ | {'PATH': f'{folder}:{os.environ["PATH"]}'}


def bash(script, environment, **more):
    done = subprocess.run(
        ['bash', '-c', script], env=environment | more, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_finished_runs_are_left_out_and_the_others_stored(runs):
    assert [run.name for run in runs] == ['a', 'c']
    assert [read_config(run.directory).seed for run in runs] == [0, 2]


def test_slurm(runs, bin_of_echoes, tmp_path):
    script = slurm(runs, str(tmp_path / 'the sweep'))
    assert '#SBATCH --array=0-1\n' in script
    for task, run in enumerate(runs):
        arguments = bash(script, bin_of_echoes, SLURM_ARRAY_TASK_ID=str(task))
        assert arguments[-2:] == [
            f'--config=configs/stored.py:{run.directory}',
            f'--workdir={run.directory}',
        ]


def test_gke(runs, bin_of_echoes, tmp_path):
    job = json.loads(gke(runs, str(tmp_path / 'the sweep')))
    assert job['spec']['completions'] == 2
    command = job['spec']['template']['spec']['containers'][0]['command']
    for index, run in enumerate(runs):
        arguments = bash(command[2], bin_of_echoes, JOB_COMPLETION_INDEX=str(index))
        assert arguments[-1] == f'--workdir={run.directory}'


def test_queued_resources(runs, bin_of_echoes, tmp_path):
    script = queued_resources(runs, str(tmp_path))
    for name, value in (
        ('ZONE', 'z'),
        ('TYPE', 't'),
        ('VERSION', 'v'),
        ('CHECKOUT ON THE TPU VM', str(tmp_path)),
    ):
        script = script.replace(f'<{name}>', value)
    requests = bash(f'cd {tmp_path}\n{script}', bin_of_echoes)
    assert [line for line in requests if line.startswith('--metadata')] == [
        f'--metadata-from-file=startup-script=sweep-{number}.sh' for number in range(2)
    ]
    (tmp_path / '.venv' / 'bin').mkdir(parents=True)
    (tmp_path / '.venv' / 'bin' / 'python').symlink_to(tmp_path / 'bin' / 'python')
    for number, run in enumerate(runs):
        started = bash(f'bash {tmp_path}/sweep-{number}.sh', bin_of_echoes)
        assert started == [
            'main.py',
            f'--config=configs/stored.py:{run.directory}',
            f'--workdir={run.directory}',
        ]
