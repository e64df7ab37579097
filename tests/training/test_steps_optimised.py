"""The optimised program, which users run: it computes the same as the tests' unoptimised one."""

import jax
import numpy as np
from helpers import prepared, processes

import input_pipeline
from configs import digits
from resnet_rs.run.run_log import read_metrics
from resnet_rs.training.sharding import create_mesh, to_global
from resnet_rs.training.steps import create_program

STEPS = 90  # two epochs
COMPARED = 8
TESTS_ONLY = ('JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS')


def config_of(data_dir):
    """The network and the batch of `make demo`, for two epochs."""
    config = digits.get_config()
    with config.unlocked():
        config.data.data_dir = str(data_dir)
        config.duration = f'{STEPS} steps'
        config.optimizer.warmup = '10 steps'
        config.optimizer.learning_rate = 0.5
        config.log.every = '1 step'
    return config


def arguments_of(config, workdir):
    return (
        '--config=configs/digits.py',
        f'--workdir={workdir}',
        f'--config.data.data_dir={config.data.data_dir}',
        f'--config.duration={config.duration}',
        f'--config.optimizer.warmup={config.optimizer.warmup}',
        f'--config.optimizer.learning_rate={config.optimizer.learning_rate}',
        f'--config.log.every={config.log.every}',
        f'--config.eval.every={STEPS} steps',
        f'--config.checkpoint.every={STEPS} steps',
    )


def unoptimised_losses(config):
    """The losses of the first steps, by the tests' own program on one device."""
    mesh = create_mesh(jax.devices()[:1])
    info = input_pipeline.dataset_info(config)
    program = create_program(config, mesh, info.split(config.data.train_split).num_examples)
    batches, state, losses = input_pipeline.train_batches(config), program.init(), []
    for _ in range(COMPARED):
        state, metrics = program.train_step(state, to_global(next(batches), mesh), {})
        losses.append(float(metrics['loss']))
    return losses


def test_an_optimised_run_learns_as_an_unoptimised_one(tmp_path):
    config = config_of(prepared.data_dir('digits', 'array_record'))
    process = processes.start_alone('main.py', *arguments_of(config, tmp_path), without=TESTS_ONLY)
    expected = unoptimised_losses(config)
    ((status, _, errors),) = processes.finish([process])
    assert status == 0, errors[-3000:]

    lines = read_metrics(tmp_path)
    losses = np.array([line['loss'] for line in lines if line['kind'] == 'train'])
    assert len(losses) == STEPS and lines[-1]['kind'] == 'eval'
    # Sums in another order: the difference grows from step to step.
    np.testing.assert_allclose(losses[:COMPARED], expected, rtol=1e-3)
    assert losses[-10:].mean() < 0.8 * losses[:3].mean()
