"""Measures a configuration on the attached accelerator by the paper's protocol (docs/latency.md).

    python -m resnet_rs.latency --config=configs/resnet_rs.py:50@160 [--output=FILE.csv]
    python -m resnet_rs.latency --workdir=DIR --image_size=224         # the network of a run

The command uses one device and a batch of 128, halved until it fits, and states times per 128
images; dtypes are bfloat16 on a TPU and float32 elsewhere. It measures the run's training step and
inference (EMA weights to logits) on one synthetic batch that stays on the device, without the input
pipeline, and appends rows to the CSV file. --config.KEY=VALUE works as in main.py.
"""

import csv
import dataclasses
import datetime
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np
from absl import flags
from ml_collections import config_flags

from resnet_rs.config import command_line, validation
from resnet_rs.config.clips import example_noun
from resnet_rs.datasets.locate import KNOWN_SIZES
from resnet_rs.run import preflight
from resnet_rs.utils import platforms
from resnet_rs.utils.environment import describe_environment
from resnet_rs.utils.errors import UserError, count_of, one_line_errors, with_home
from resnet_rs.utils.log_lines import log_for_people

PAPER_BATCH = 128
STEP_KINDS = ('inference', 'train')  # the smaller first: peaks of memory never fall
EXAMPLES_PER_EPOCH = KNOWN_SIZES['imagenet2012']['train']  # sets only the learning-rate schedule


DEFAULT_OUTPUT = 'runs/latency.csv'


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A row of the CSV file. Times in ms are those of a step with `batch_size` images.

    The quartiles are taken over blocks of `steps_per_block` steps. device_ms is the median step of
    one more block by the device's profiler, None without one. peak_bytes is the process's peak on
    the device so far, None if the device does not report it.
    """

    date: str
    config: str
    step: str
    device_kind: str
    jax: str
    commit: str | None
    dtype: str
    image_size: int
    batch_size: int
    blocks: int
    steps_per_block: int
    median_ms: float
    minimum_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    device_ms: float | None
    median_ms_per_128_images: float
    images_per_second: float
    compile_seconds: float
    peak_bytes: int | None


def measure(
    config: ml_collections.ConfigDict,
    step: str,
    *,
    name: str = '',
    batch_size: int = PAPER_BATCH,
    warm_up_steps: int = 10,
    blocks: int = 20,
    steps_per_block: int = 10,
) -> Measurement:
    """Times one of STEP_KINDS of `config` on the first device, halving the batch until it fits.

    Raises UserError if not even one image of each micro-batch fits.
    """
    import jax  # takes seconds

    least = config.optimizer.accumulation_steps
    while batch_size >= least:
        try:
            run, compile_seconds, _ = prepare(config, step, batch_size)
            for _ in range(warm_up_steps):
                result = run()
            jax.block_until_ready(result)
            seconds = time_blocks(run, blocks, steps_per_block)
            break
        except jax.errors.JaxRuntimeError as error:
            if 'RESOURCE_EXHAUSTED' not in str(error):
                raise
            note(f'{step}: a batch of {batch_size} does not fit')
            batch_size //= 2
    else:
        raise UserError(
            f'{name}: the {step} step does not fit into the memory of '
            f'{jax.devices()[0].device_kind}, not even for {count_of(least, example_noun(config))}'
        )
    environment = describe_environment()
    median = statistics.median(seconds)
    lower, _, upper = np.quantile(seconds, (0.25, 0.5, 0.75))
    return Measurement(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        config=name,
        step=step,
        device_kind=jax.devices()[0].device_kind,
        jax=environment['packages']['jax'],
        commit=environment['commit'],
        dtype=config.model.dtype,
        image_size=config.data.image_size,
        batch_size=batch_size,
        blocks=blocks,
        steps_per_block=steps_per_block,
        median_ms=1000 * median,
        minimum_ms=1000 * min(seconds),
        lower_quartile_ms=1000 * float(lower),
        upper_quartile_ms=1000 * float(upper),
        device_ms=device_milliseconds(run, steps_per_block),
        median_ms_per_128_images=1000 * median * PAPER_BATCH / batch_size,
        images_per_second=batch_size / median,
        compile_seconds=compile_seconds,
        peak_bytes=(jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use'),
    )


def prepare(
    config: ml_collections.ConfigDict, step: str, batch_size: int
) -> tuple[Callable, float, Any]:
    """Compiles a step; returns a function that dispatches it, the seconds, the program.

    The function returns arrays that are ready when the step is done.
    """
    import jax

    from resnet_rs.training.sharding import create_mesh, replicated, to_global
    from resnet_rs.training.steps import create_inference_step, create_program

    config = ml_collections.ConfigDict(config)
    config.batch_size = config.eval.batch_size = batch_size
    mesh = create_mesh(jax.local_devices()[:1])
    program = create_program(config, mesh, EXAMPLES_PER_EPOCH)
    batch = to_global(synthetic_batch(config), mesh)
    state = program.init()
    if step == 'inference':
        arguments = jax.device_put(state.ema, replicated(mesh)), batch['image']
        function = create_inference_step(config, mesh)
    else:
        # Zeros in place of a teacher's weights: the time does not depend on them.
        frozen = jax.tree.map(
            lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding),
            program.frozen,
        )
        arguments = state, batch, frozen
        function = program.train_step
    begin = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    compile_seconds = time.perf_counter() - begin

    def infer():
        return compiled(*arguments)

    def train():
        nonlocal state
        state, metrics = compiled(state, *arguments[1:])
        return metrics

    return {'inference': infer, 'train': train}[step], compile_seconds, compiled


def synthetic_batch(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
    """Returns a training batch of random images and labels (see steps.batch_shapes)."""
    from resnet_rs.training.steps import batch_shapes

    random = np.random.default_rng(0)
    shapes = batch_shapes(config, 'train')
    batch = {name: np.ones(array.shape, array.dtype) for name, array in shapes.items()}
    for name, bound in (('image', 256), ('label', config.model.num_classes)):
        batch[name] = random.integers(0, bound, batch[name].shape, batch[name].dtype)
    return batch


def time_blocks(run: Callable, blocks: int, steps: int) -> list[float]:
    """Returns the seconds per step of every block; the host waits for the device once per block."""
    import jax

    seconds = []
    for _ in range(blocks):
        begin = time.perf_counter()
        for _ in range(steps):
            result = run()
        jax.block_until_ready(result)
        seconds.append((time.perf_counter() - begin) / steps)
    return seconds


def device_milliseconds(run: Callable, steps: int) -> float | None:
    """Returns the median time of a step by the device's profiler; None without one."""
    import jax

    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            time_blocks(run, 1, steps)
        (trace,) = pathlib.Path(directory).rglob('*.xplane.pb')
        times = module_milliseconds(jax.profiler.ProfileData.from_file(str(trace)))
    return statistics.median(times) if times else None


def module_milliseconds(profile) -> list[float]:
    """Returns the duration of each execution of a compiled program in a jax.profiler.ProfileData.

    TPUs record it, CPUs do not.
    """
    return [
        event.duration_ns / 1e6
        for plane in profile.planes
        if plane.name.startswith('/device:')
        for line in plane.lines
        if line.name == 'XLA Modules'
        for event in line.events
    ]


def check_file(path: pathlib.Path) -> None:
    """Raises UserError unless rows can be appended to `path`."""
    header = ','.join(field.name for field in dataclasses.fields(Measurement))
    if path.exists():
        with path.open('ab+') as file:
            file.seek(0)
            if file.readline().rstrip(b'\r\n') != header.encode():
                raise UserError(f'--output={path} is a file with other columns; name another')
    if not path.absolute().parent.is_dir():
        raise UserError(
            f'the directory of --output={path} does not exist; make it, or name another file'
        )


def append(path: pathlib.Path, measurement: Measurement) -> None:
    """Adds a row to the CSV file, and the header to a new one."""
    row = dataclasses.asdict(measurement)
    is_new = not path.exists()
    with path.open('a', newline='') as file:
        writer = csv.DictWriter(file, row, lineterminator='\n')
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def main(arguments: list[str]) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    with one_line_errors(UserError, flags.Error, OSError):
        options, given = _flags(), with_home(arguments)
        if command_line.values_of('workdir', given):
            if command_line.values_of('config', given):
                raise UserError('--workdir and --config both name a network; leave one of them out')
            given = command_line.with_stored_config(given)
        if extra := command_line.parse_flags(options, given)[1:]:
            raise UserError(f'{extra[0]!r} is not a flag; write --name=value')
        if options.config is None:
            raise UserError(
                '--config is missing; for instance --config=configs/resnet_rs.py:50@160'
            )
        if unknown := sorted(set(options.steps) - set(STEP_KINDS)):
            raise UserError(f'--steps has {unknown[0]!r}; there are {" and ".join(STEP_KINDS)}')
        if not options.steps:
            raise UserError(f'--steps is empty; there are {" and ".join(STEP_KINDS)}')
        if options.image_size:
            options.config.data.image_size = options.image_size
        validation.check_settings(options.config)
        options.config = preflight.with_sizes_of_data(options.config)
        output = pathlib.Path(options.output)
        if options.output == DEFAULT_OUTPUT:
            output.parent.mkdir(exist_ok=True)
        check_file(output)
    platforms.skip_absent_tpu()
    import jax

    jax.config.update('jax_enable_compilation_cache', False)  # compiling is timed
    config = ml_collections.ConfigDict(options.config).unlock()
    is_tpu = jax.default_backend() == 'tpu'
    config.model.dtype = options.dtype or ('bfloat16' if is_tpu else 'float32')
    name = options.workdir or command_line.values_of('config', given)[-1]
    for step in sorted(set(options.steps), key=STEP_KINDS.index):
        note(f'compiling and timing {step} of {name}')
        with one_line_errors(UserError):
            measurement = measure(
                config,
                step,
                name=name,
                batch_size=options.batch_size,
                blocks=options.blocks,
                warm_up_steps=options.warm_up_steps,
                steps_per_block=options.steps_per_block,
            )
        print(describe(measurement, example_noun(config)))
        with one_line_errors(OSError):
            append(output, measurement)
    print(f'appended to {output}')


def note(text: str) -> None:
    """Prints a line to stderr, apart from the measurements."""
    print(text, file=sys.stderr, flush=True)


def describe(measurement: Measurement, noun: str = 'image') -> str:
    """Describes a measurement in three lines, or four with the time on the device.

    `noun` is an example, 'image' or 'clip'.
    """
    m = measurement
    rate = f'{m.images_per_second:,.{0 if m.images_per_second >= 10 else 2}f}'
    on_device = '' if m.device_ms is None else f'\n  {m.device_ms:.2f} ms of it on the device'
    return (
        f'{m.step} of {m.config}: batch {m.batch_size}, {m.dtype} on {m.device_kind}\n'
        f'  {m.median_ms_per_128_images:,.1f} ms per {PAPER_BATCH} {noun}s, '
        f'{rate} {noun}s/s; compiled in {m.compile_seconds:.1f} s\n'
        f'  a step: median {m.median_ms:.2f} ms, quartiles {m.lower_quartile_ms:.2f} and '
        f'{m.upper_quartile_ms:.2f}, minimum {m.minimum_ms:.2f}{on_device}'
    )


def _flags():
    values = flags.FlagValues()
    config_flags.DEFINE_config_file('config', help_string='What to measure.', flag_values=values)
    options = dict(flag_values=values)
    flags.DEFINE_string('output', DEFAULT_OUTPUT, 'CSV file to which rows are appended.', **options)
    flags.DEFINE_string('workdir', None, 'A run whose configuration replaces --config.', **options)
    flags.DEFINE_integer(
        'image_size',
        None,
        "Side of an image in pixels; by default the configuration's data.image_size.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_list('steps', [*STEP_KINDS], 'Which steps to time.', **options)
    flags.DEFINE_enum(
        'dtype',
        None,
        ['bfloat16', 'float32'],
        'Dtype of activations; bfloat16 on a TPU, float32 elsewhere.',
        **options,
    )
    for name, default, meaning in (
        ('batch_size', PAPER_BATCH, 'Images, halved until they fit.'),
        ('warm_up_steps', 10, 'Steps before the first block.'),
        ('blocks', 20, 'Blocks, each timed as a whole.'),
        ('steps_per_block', 10, 'Steps of a block.'),
    ):
        flags.DEFINE_integer(name, default, meaning, lower_bound=1, **options)
    return values


if __name__ == '__main__':
    log_for_people()
    main(sys.argv)
