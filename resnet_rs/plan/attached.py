"""Compilation of a run's steps for the attached devices, with a check of their memory."""

import dataclasses
import os
import pathlib

import jax
import ml_collections

from resnet_rs.config.clips import example_noun
from resnet_rs.plan.cache import DoesNotFit
from resnet_rs.plan.program import compile_lowered, peak_bytes
from resnet_rs.plan.topology import GIB, HARDWARE
from resnet_rs.run.evaluators import Evaluator
from resnet_rs.training.sharding import bytes_per_device
from resnet_rs.training.steps import Program, batch_shapes
from resnet_rs.utils.errors import UserError, count_of

HBM_BYTES = {hardware.kind: hardware.hbm_bytes for hardware in HARDWARE.values()}
# Limits of a container, by the two versions of Linux's control groups.
CONTAINER_LIMITS = ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes')


@dataclasses.dataclass(frozen=True)
class Memory:
    """The memory that programs may use.

    owner: the device or machine with the memory, for messages.
    limit: bytes; None if the device does not report it.
    shares: number of devices of this process that share it, as the virtual CPUs of a machine do.
    """

    owner: str
    limit: int | None
    shares: int = 1

    def describe(self, needed: int) -> str:
        limit = f' of {self.limit / GIB:.2f}' if self.limit else ''
        return f'{needed / GIB:.2f}{limit} GiB'


def compile_steps(
    config: ml_collections.ConfigDict,
    program: Program,
    evaluators: list[Evaluator],
    devices: list[jax.Device],
) -> tuple[Program, list[Evaluator], str]:
    """Compiles the training step and the evaluation steps for `devices` without making an array.

    Returns the program and the evaluators with compiled steps, and a line on their memory. Raises
    UserError for a step that needs more memory than is available.
    """
    memory = memory_of(devices)
    state = program.state
    training = program.train_step.lower(state, batch_shapes(config, 'train'), program.frozen)
    per_device = config.batch_size // len(devices)
    train_step, train_bytes = _compile_fitting(
        training,
        memory,
        f'a training step of {count_of(per_device, example_noun(config))}',
        'a smaller --config.batch_size, more --config.optimizer.accumulation_steps or more devices',
    )
    evaluators, eval_bytes = _compile_evaluators(evaluators, state.variables, devices)
    teacher_bytes = memory.shares * bytes_per_device(program.frozen)
    of_teacher = f', {teacher_bytes / GIB:.2f} of it the teacher' if teacher_bytes else ''
    return (
        dataclasses.replace(program, train_step=train_step),
        evaluators,
        (
            f'memory: {memory.describe(train_bytes)} of {memory.owner} for a training step'
            f'{of_teacher}, {eval_bytes / GIB:.2f} for an evaluation step, by the compiler'
        ),
    )


def compile_evaluators(
    evaluators: list[Evaluator], variables: dict, devices: list[jax.Device]
) -> tuple[list[Evaluator], str]:
    """Compiles the steps of `evaluators` for shapes of `variables` without making an array.

    Returns the evaluators with compiled steps and a line on the memory of the largest. Raises
    UserError for a step that needs more memory than is available.
    """
    compiled, needed = _compile_evaluators(evaluators, variables, devices)
    memory = memory_of(devices)
    return compiled, (
        f'memory: {memory.describe(needed)} of {memory.owner} for an evaluation '
        'step, by the compiler'
    )


def _compile_evaluators(evaluators, variables, devices):
    """Returns the evaluators with compiled steps, one for all of the same shapes, and the bytes."""
    # Evaluation replicates both weights, however the state is sharded between steps.
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    steps, found, most = {}, [], 0
    for evaluator in evaluators:
        batch = evaluator.batch_shapes
        key = repr(batch)
        if key not in steps:
            per_device = evaluator.config.eval.batch_size // len(devices)
            noun = example_noun(evaluator.config, 'eval')
            name = '' if evaluator.is_default else f' ({evaluator.name})'
            steps[key], needed = _compile_fitting(
                evaluator.step.lower({'raw': shapes, 'ema': shapes}, batch),
                memory_of(devices),
                f'an evaluation step{name} of {count_of(per_device, noun)}',
                f'a smaller --config.{evaluator.batch_size_setting} or more devices',
            )
            most = max(most, needed)
        found.append(dataclasses.replace(evaluator, step=steps[key]))
    return found, most


def memory_of(devices: list[jax.Device]) -> Memory:
    """Returns the memory that a program may use on each of `devices`, or on all CPUs together."""
    device = devices[0]
    kind = device.device_kind
    if kind in HBM_BYTES:
        return Memory(f'each {kind}', HBM_BYTES[kind])
    if device.platform == 'cpu':
        here = [other for other in devices if other.process_index == device.process_index]
        return Memory('this machine', machine_memory(), len(here))
    limit = (device.memory_stats() or {}).get('bytes_limit')
    return Memory(f'each {kind}', limit)


def machine_memory() -> int:
    """Returns the bytes of the machine's memory, or of its container's limit if that is less."""
    sizes = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
    for name in CONTAINER_LIMITS:
        path = pathlib.Path(name)
        if path.exists() and (text := path.read_text().strip()).isdecimal():
            sizes.append(int(text))
    return min(sizes)


def _compile_fitting(
    lowered: jax.stages.Lowered, memory: Memory, what: str, remedy: str
) -> tuple[jax.stages.Compiled, int]:
    try:
        compiled = compile_lowered(lowered)
        needed = peak_bytes(compiled) * memory.shares
    except DoesNotFit as error:
        compiled, needed = None, error.needed
    if compiled is None or (memory.limit and needed > memory.limit):
        needed = f', {needed / GIB:.2f} GiB are needed' if needed else ''
        limit = f' has {memory.limit / GIB:.2f} GiB' if memory.limit else ' has less'
        raise UserError(
            f'{what} per device does not fit{needed}: {memory.owner}{limit}; use {remedy} '
            '(python -m resnet_rs.plan shows what fits a TPU)'
        )
    return compiled, needed
