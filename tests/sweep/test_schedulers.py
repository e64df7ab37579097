"""The printed job array starts the run that each of its jobs names."""

import os
import pathlib
import subprocess

import pytest

from configs import digits
from resnet_rs.config.stored import read_config
from resnet_rs.sweep.definition import SweepRun
from resnet_rs.sweep.schedulers import prepare, slurm


@pytest.fixture
def runs(tmp_path):
    """The runs 'a', 'b' and 'c', of which 'b' is finished already."""
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
def echoing_environment(tmp_path):
    """Returns an environment in which srun prints its arguments, one a line."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    (folder / 'srun').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (folder / 'srun').chmod(0o755)
    return os.environ | {'PATH': f'{folder}:{os.environ["PATH"]}'}


def bash(script, environment, **more):
    done = subprocess.run(
        ['bash', '-c', script], env=environment | more, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_finished_runs_are_left_out_and_the_others_stored(runs):
    assert [run.name for run in runs] == ['a', 'c']
    assert [read_config(run.directory).seed for run in runs] == [0, 2]


def test_slurm(runs, echoing_environment, tmp_path):
    script = slurm(runs, str(tmp_path / 'the sweep'))
    assert '#SBATCH --array=0-1\n' in script
    assert f'#SBATCH --output="{tmp_path}/the sweep/slurm-%A_%a.txt"\n' in script
    assert '#SBATCH --output="./slurm-%A_%a.txt"\n' in slurm(runs, 'gs://bucket/sweep')
    for task, run in enumerate(runs):
        arguments = bash(script, echoing_environment, SLURM_ARRAY_TASK_ID=str(task))
        assert arguments[-2:] == [
            f'--config=configs/stored.py:{run.directory}',
            f'--workdir={run.directory}',
        ]
