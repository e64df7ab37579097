"""The optimised program, which users run: it computes what the tests' unoptimised one does."""

import jax
import numpy as np
import pytest
from helpers import prepared, processes

import train_lib
from resnet_rs.run.run_log import read_metrics
from resnet_rs.training.sharding import create_mesh

STEPS = 60
TESTS_ONLY = ('JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS')

pytestmark = pytest.mark.usefixtures('one_stage')


def arguments_of(workdir):
    return (
        '--config=configs/digits.py:debug',
        f'--workdir={workdir}',
        f'--config.data.data_dir={prepared.data_dir("digits", "array_record")}',
        f'--config.duration={STEPS} steps',
        '--config.log.every=1 step',
        f'--config.eval.every={STEPS} steps',
        f'--config.checkpoint.every={STEPS} steps',
    )


def losses_of(workdir):
    lines = read_metrics(workdir)
    assert lines[-1]['kind'] == 'eval'
    return np.array([line['loss'] for line in lines if line['kind'] == 'train']), lines[-1]


def test_an_optimised_run_learns_as_an_unoptimised_one(run_main, no_report, monkeypatch, tmp_path):
    process = processes.start_alone(
        'tests/helpers/small_runs.py',
        'main.py',
        *arguments_of(tmp_path / 'optimised'),
        without=TESTS_ONLY,
    )
    mesh = create_mesh(jax.devices()[:1])
    monkeypatch.setattr(train_lib, 'create_mesh', lambda **_: mesh)
    assert run_main(*arguments_of(tmp_path / 'unoptimised')) == (0, '', [])
    ((status, _, errors),) = processes.finish([process])
    assert status == 0, errors[-3000:]

    losses, scores = losses_of(tmp_path / 'optimised')
    expected, _ = losses_of(tmp_path / 'unoptimised')
    assert len(losses) == len(expected) == STEPS
    # Sums in another order: the difference grows from step to step.
    np.testing.assert_allclose(losses[:8], expected[:8], rtol=1e-3)
    assert losses[-10:].mean() < 0.8 * losses[:3].mean()
    assert scores['raw_loss'] < 0.8 * np.log(10)
