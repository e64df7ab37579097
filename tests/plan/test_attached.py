"""The memory of a run's steps, found by compiling them before the run starts."""

import types

import jax
import pytest
from helpers import prepared

from configs import digits
from resnet_rs.plan import attached
from resnet_rs.plan.attached import Memory, compile_steps, machine_memory, memory_of
from resnet_rs.plan.cache import DoesNotFit
from resnet_rs.run.evaluators import create_evaluators
from resnet_rs.training.sharding import create_mesh
from resnet_rs.training.steps import create_program
from resnet_rs.utils.errors import UserError

GIB = 2**30


def steps_of(batch_size: int, device_count: int = 1):
    config = digits.get_config('debug').unlock()
    config.batch_size = config.eval.batch_size = batch_size
    devices = jax.devices()[:device_count]
    config.data.data_dir = prepared.data_dir('digits', 'array_record')
    mesh = create_mesh(devices)
    program = create_program(config, mesh, 1437)
    evaluators = create_evaluators(config, ('eval',), mesh, program.eval_step)
    return compile_steps(config, program, evaluators, devices)


def test_memory_of_a_cpu_is_the_machines():
    with open('/proc/meminfo') as file:
        total = 1024 * int(file.readline().split()[1])
    memory = memory_of(jax.devices())
    assert memory.limit == machine_memory() <= total * 1.01
    assert memory.shares == len(jax.devices()) and memory.owner == 'this machine'


def test_memory_of_a_tpu_is_the_compilers_limit():
    v3 = types.SimpleNamespace(device_kind='TPU v3', platform='tpu', process_index=0)
    assert memory_of([v3] * 4) == Memory('each TPU v3', int(15.48 * GIB), 1)


def test_memory_of_another_accelerator_is_what_it_says():
    gpu = types.SimpleNamespace(
        device_kind='NVIDIA H100',
        platform='gpu',
        process_index=0,
        memory_stats=lambda: {'bytes_limit': 60 * GIB},
    )
    assert memory_of([gpu]) == Memory('each NVIDIA H100', 60 * GIB, 1)


def test_steps_that_fit_are_compiled_and_described():
    program, [evaluator], line = steps_of(16)
    assert isinstance(program.train_step, jax.stages.Compiled)
    assert isinstance(evaluator.step, jax.stages.Compiled)
    assert line.startswith('memory: 0.') and 'of this machine for a training step' in line


def test_a_step_that_does_not_fit_is_an_error(monkeypatch):
    monkeypatch.setattr(attached, 'machine_memory', lambda: 4 * 2**20)
    with pytest.raises(
        UserError,
        match=(
            r'a training step of 16 images per device does not fit, 0\.\d+ GiB are needed: this '
            r'machine has 0\.00 GiB; use a smaller --config.batch_size'
        ),
    ):
        steps_of(16)


def test_what_the_compiler_refuses_is_an_error(monkeypatch):
    def refuse(lowered):
        raise DoesNotFit('Ran out of memory in memory space hbm.', 20 * GIB, 16 * GIB)

    monkeypatch.setattr(attached, 'compile_lowered', refuse)
    monkeypatch.setattr(attached, 'memory_of', lambda _: Memory('each TPU v3', 16 * GIB))
    with pytest.raises(
        UserError,
        match=(
            r'16 images per device does not fit, 20\.00 GiB are needed: each TPU v3 has 16\.00 GiB'
        ),
    ):
        steps_of(16)
