"""The steps of a configuration, compiled for a topology."""

import dataclasses
import re
import time

import jax
import jax.numpy as jnp
import ml_collections

from resnet_rs.plan.hlo import CompiledProgram, read_program
from resnet_rs.plan.topology import Topology, first_line
from resnet_rs.sharding import create_mesh, replicated, split_by_batch
from resnet_rs.steps import create_program, model_of, normalise

STEPS = ('train', 'eval', 'inference')


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device while the program runs."""

    arguments: int
    outputs: int
    aliased: int  # outputs that take the place of arguments
    temporaries: int
    code: int

    @property
    def peak(self) -> int:
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A step on one device of a topology; `text` is its optimised HLO.

    flops and hbm_bytes are XLA's cost analysis, with the bodies of loops as often as they run.
    """

    which: str
    memory: Memory
    program: CompiledProgram
    flops: float
    hbm_bytes: float
    lower_seconds: float
    compile_seconds: float
    text: str

    @property
    def cycles(self) -> int:
        return self.program.cycles


class DoesNotFit(Exception):
    """The compiler found no way to fit the step; bytes as it says them, None if it does not."""

    def __init__(self, message: str, needed: int | None, available: int | None):
        super().__init__(message)
        self.needed, self.available = needed, available


def compile_step(
    config: ml_collections.ConfigDict, topology: Topology, which: str = 'train', *,
    examples_per_epoch: int = 1281167,
) -> CompiledStep:
    """Compiles one of STEPS over all devices of `topology`; batch sizes are those of `config`.

    'train' is the training step, 'eval' the evaluation step (raw and EMA weights, per-example
    results), 'inference' the EMA weights alone: images to float32 logits, eval.batch_size images.
    Raises DoesNotFit, and UserError for a batch that does not divide over the devices.
    """
    start = time.monotonic()
    lowered = lower_step(config, topology, which, examples_per_epoch=examples_per_epoch)
    between = time.monotonic()
    compiled = compile_lowered(lowered)
    return measure(compiled, which, between - start, time.monotonic() - between)


def lower_step(
    config: ml_collections.ConfigDict, topology: Topology, which: str, *,
    examples_per_epoch: int = 1281167,
):
    """The jax.stages.Lowered of one of STEPS; no array is made."""
    mesh = create_mesh(list(topology.devices))
    program = create_program(config, mesh, examples_per_epoch)
    state = jax.eval_shape(program.init)
    if which == 'train':
        return program.train_step.lower(state, _batch(config, config.batch_size, 'train'))
    batch = _batch(config, config.eval.batch_size, 'eval')
    if which == 'eval':
        return program.eval_step.lower({'raw': state.variables, 'ema': state.ema}, batch)
    model = model_of(config, batch_norm_group_size=None)

    def infer(variables, images):
        return model.apply(variables, normalise(images, config), False)

    split = split_by_batch(mesh)
    step = jax.jit(infer, in_shardings=(replicated(mesh), split), out_shardings=split)
    return step.lower(state.ema, batch['image'])


def compile_lowered(lowered) -> jax.stages.Compiled:
    """Raises DoesNotFit where the program needs more memory than the device has."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise does_not_fit(str(error)) from error


def does_not_fit(message: str) -> DoesNotFit:
    """The error of a RESOURCE_EXHAUSTED message."""
    size = r'([\d.]+)([BKMGT])'
    found = re.search(rf'Used {size} of {size}', message) or re.search(
        rf'\({size}\) exceeds available \w+ \({size}\)', message
    )
    if not found:
        return DoesNotFit(first_line(Exception(message)), None, None)
    needed, available = (
        int(float(found[index]) * 1024 ** 'BKMGT'.index(found[index + 1])) for index in (1, 3)
    )
    return DoesNotFit(message, needed, available)


def measure(compiled, which: str, lower_seconds: float, compile_seconds: float) -> CompiledStep:
    """Reads a jax.stages.Compiled."""
    text = compiled.as_text()
    program = read_program(text)
    stats, cost = compiled.memory_analysis(), compiled.cost_analysis()
    repeated = program.bytes / max(program.bytes_without_loops, 1)
    return CompiledStep(
        which=which,
        memory=Memory(
            arguments=stats.argument_size_in_bytes,
            outputs=stats.output_size_in_bytes,
            aliased=stats.alias_size_in_bytes,
            temporaries=stats.temp_size_in_bytes,
            code=stats.generated_code_size_in_bytes,
        ),
        program=program,
        flops=cost.get('flops', 0.0),
        hbm_bytes=cost.get('bytes accessed', 0.0) * repeated,
        lower_seconds=lower_seconds,
        compile_seconds=compile_seconds,
        text=text,
    )


def _batch(config, size, which):
    """Shapes of a batch of input_pipeline."""
    pixels = config.data.image_size
    if which == 'eval':
        pixels = config.eval.image_size or pixels
    return {
        'image': jax.ShapeDtypeStruct((size, pixels, pixels, 3), jnp.uint8),
        'label': jax.ShapeDtypeStruct((size,), jnp.int32),
        'mask': jax.ShapeDtypeStruct((size,), jnp.float32),
        'index': jax.ShapeDtypeStruct((size,), jnp.int32),
    }
