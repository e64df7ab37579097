"""Compilation of a run's steps for the attached devices, with a check of their memory."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

import jax
import ml_collections

from resnet_rs.plan.cache import DoesNotFit
from resnet_rs.plan.program import compile_lowered, peak_bytes
from resnet_rs.plan.topology import GIB, HARDWARE
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
    config: ml_collections.ConfigDict, program: Program, devices: list[jax.Device]
) -> tuple[Program, str]:
    """Compiles the training and the evaluation step for `devices` without making an array.

    Returns the program with the compiled steps, and a line on their memory. Raises UserError for a
    step that needs more memory than is available.
    """
    memory = memory_of(devices)
    state = program.state
    training = program.train_step.lower(state, batch_shapes(config, 'train'), program.frozen)
    per_device = config.batch_size // len(devices)
    train_step, train_bytes = _compile_fitting(
        training,
        memory,
        f'a training step of {count_of(per_device, "image")}',
        'a smaller --config.batch_size, more --config.optimizer.accumulation_steps or more devices',
    )
    eval_step, eval_bytes = _compile_evaluation(
        config, program.eval_step, state.variables, batch_shapes(config, 'eval'), devices
    )
    return dataclasses.replace(program, train_step=train_step, eval_step=eval_step), (
        f'memory: {memory.describe(train_bytes)} of {memory.owner} for a training step, '
        f'{eval_bytes / GIB:.2f} for an evaluation step, by the compiler'
    )


def compile_evaluation(
    config: ml_collections.ConfigDict,
    eval_step: Callable,
    variables: dict,
    batch: dict,
    devices: list[jax.Device],
) -> tuple[jax.stages.Compiled, str]:
    """Compiles `eval_step` for shapes of `variables` and of a global batch without an array.

    Returns the compiled step and a line on its memory. Raises UserError for a step that needs more
    memory than is available.
    """
    compiled, needed = _compile_evaluation(config, eval_step, variables, batch, devices)
    memory = memory_of(devices)
    return compiled, (
        f'memory: {memory.describe(needed)} of {memory.owner} for an evaluation '
        'step, by the compiler'
    )


def _compile_evaluation(config, eval_step, variables, batch, devices):
    # Evaluation replicates both weights, however the state is sharded between steps.
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    per_device = config.eval.batch_size // len(devices)
    return _compile_fitting(
        eval_step.lower({'raw': shapes, 'ema': shapes}, batch),
        memory_of(devices),
        f'an evaluation step of {count_of(per_device, "image")}',
        'a smaller --config.eval.batch_size or more devices',
    )


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
