"""Compilation of a configuration's steps for a topology."""

import dataclasses
import re
import time

import jax
import ml_collections

from resnet_rs.datasets.locate import KNOWN_SIZES
from resnet_rs.plan.cache import Compilation, DoesNotFit, PlanCache
from resnet_rs.plan.hlo import CompiledProgram, read_program
from resnet_rs.plan.topology import Topology
from resnet_rs.training.objectives import create_objective
from resnet_rs.training.sharding import bytes_per_device, create_mesh, place_part
from resnet_rs.training.steps import batch_shapes, create_inference_step, create_program

STEP_KINDS = ('train', 'eval', 'inference')
IMAGENET_EXAMPLES = KNOWN_SIZES['imagenet2012']['train']  # sets only the learning-rate schedule


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A step on one device of a topology; sizes in bytes.

    flops and hbm_bytes are XLA's cost analysis, corrected for the trips of loops. from_cache says
    that the compilation came from the cache.
    """

    which: str
    compilation: Compilation
    program: CompiledProgram
    lower_seconds: float
    from_cache: bool

    @property
    def cycles(self) -> int:
        return self.program.cycles

    @property
    def peak_bytes(self) -> int:
        return self.compilation.peak

    @property
    def flops(self) -> float:
        return self.compilation.flops * self.program.loop_factor('flops')

    @property
    def hbm_bytes(self) -> float:
        return self.compilation.bytes_accessed * self.program.loop_factor('bytes')


def compile_step(
    config: ml_collections.ConfigDict,
    topology: Topology,
    which: str = 'train',
    *,
    examples_per_epoch: int = IMAGENET_EXAMPLES,
    cache: PlanCache | None = None,
) -> CompiledStep:
    """Compiles one of STEP_KINDS over all devices of `topology`; batch sizes are those of `config`.

    'train' is the training step, 'eval' the evaluation step (raw and EMA weights, per-example
    results), 'inference' the step from eval.batch_size images to float32 logits by the EMA weights.
    Raises DoesNotFit, and UserError for a batch that does not divide over the devices.
    """
    cache = cache or PlanCache(None)
    start = time.monotonic()
    lowered = lower_step(config, topology, which, examples_per_epoch=examples_per_epoch)
    lower_seconds = time.monotonic() - start
    compilation, from_cache = compile_or_load(lowered, topology, cache)
    program = read_program(compilation.text)
    return CompiledStep(which, compilation, program, lower_seconds, from_cache)


def compile_or_load(
    lowered: jax.stages.Lowered, topology: Topology, cache: PlanCache
) -> tuple[Compilation, bool]:
    """Returns a compiled program, and whether `cache` had it; stores a new one there.

    Raises DoesNotFit, which the cache keeps too.
    """
    key = cache.key(lowered, topology)
    if kept := cache.load(key):
        return kept, True
    try:
        compilation = compilation_of(lowered)
    except DoesNotFit as error:
        cache.store(key, error)
        raise
    cache.store(key, compilation)
    return compilation, False


def lower_step(
    config: ml_collections.ConfigDict,
    topology: Topology,
    which: str,
    *,
    examples_per_epoch: int = IMAGENET_EXAMPLES,
) -> jax.stages.Lowered:
    """Traces one of STEP_KINDS on shapes, without an array."""
    mesh = create_mesh(list(topology.devices), config.sharding.slices)
    program = create_program(config, mesh, examples_per_epoch)
    state = jax.eval_shape(program.init)
    if which == 'train':
        return program.train_step.lower(state, batch_shapes(config, 'train'), program.frozen)
    batch = batch_shapes(config, 'eval')
    if which == 'eval':
        return program.eval_step.lower({'raw': state.variables, 'ema': state.ema}, batch)
    return create_inference_step(config, mesh).lower(state.ema, batch['image'])


def teacher_bytes(config: ml_collections.ConfigDict, topology: Topology) -> int:
    """Returns the bytes of a teacher's weights on each device, 0 without a teacher."""
    mesh = create_mesh(list(topology.devices), config.sharding.slices)
    frozen = create_objective(config).frozen
    return bytes_per_device(place_part('variables', frozen, mesh, config.sharding))


def compile_lowered(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles a step; raises DoesNotFit if it exceeds the memory of a device."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' in str(error):
            raise does_not_fit(str(error)) from error
        raise


def peak_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the most bytes of a device's memory that a program uses at once, with its code.

    Only TPU compilers report the memory in use at once; for others it is the sum of all
    allocations.
    """
    sizes = compiled.memory_analysis()
    allocated = (
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
        + sizes.temp_size_in_bytes
    )
    devices = jax.tree.leaves(compiled.input_shardings)[0].device_set
    if next(iter(devices)).platform == 'tpu':
        # The compiler's own peak seems to count on-chip memory too (v5e, a small program).
        allocated = min(allocated, sizes.peak_memory_in_bytes)
    return allocated + sizes.generated_code_size_in_bytes


def compilation_of(lowered: jax.stages.Lowered) -> Compilation:
    """Compiles a step and returns its cached form; raises DoesNotFit like `compile_lowered`."""
    start = time.monotonic()
    compiled = compile_lowered(lowered)
    sizes, cost = compiled.memory_analysis(), compiled.cost_analysis()
    return Compilation(
        arguments=sizes.argument_size_in_bytes,
        outputs=sizes.output_size_in_bytes,
        aliased=sizes.alias_size_in_bytes,
        temporaries=sizes.temp_size_in_bytes,
        code=sizes.generated_code_size_in_bytes,
        peak=peak_bytes(compiled),
        flops=cost.get('flops', 0.0),
        bytes_accessed=cost.get('bytes accessed', 0.0),
        compile_seconds=time.monotonic() - start,
        text=compiled.as_text(),
    )


def does_not_fit(message: str) -> DoesNotFit:
    """Returns the error for a RESOURCE_EXHAUSTED message, with the sizes in it."""
    size = r'([\d.]+)([BKMGT])'
    found = re.search(rf'Used {size} of {size}', message) or re.search(
        rf'\({size}\) exceeds available \w+ \({size}\)', message
    )
    if not found:
        return DoesNotFit(message, None, None)
    needed, available = (
        int(float(found[index]) * 1024 ** 'BKMGT'.index(found[index + 1])) for index in (1, 3)
    )
    return DoesNotFit(message, needed, available)
