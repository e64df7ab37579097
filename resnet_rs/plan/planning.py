"""The plan of a topology: compilation, estimates, and a search for settings that fit."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence

import ml_collections

from resnet_rs.config.evaluations import (
    deciding_setting,
    evaluation_config,
    evaluation_names,
)
from resnet_rs.plan import estimate, fit, report
from resnet_rs.plan.cache import DoesNotFit, PlanCache
from resnet_rs.plan.program import compile_step, teacher_bytes
from resnet_rs.plan.topology import GIB, Topology
from resnet_rs.training.sharding import check_divides
from resnet_rs.utils.errors import count_of


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a plan.

    steps: the steps to compile, of program.STEP_KINDS.
    cache_dir: the directory of cached compilations; None for no cache.
    search: whether to search for settings with which a training step fits.
    hlo_dump: the directory for the HLO text of every step, if any.
    verbose: whether to print the compiler's message of a step that does not fit.
    """

    steps: Sequence[str] = ('train',)
    cache_dir: str | None = None
    search: bool = False
    hlo_dump: str | None = None
    verbose: bool = False


def make_plan(
    config: ml_collections.ConfigDict,
    topology: Topology,
    sizes: tuple[int, int],
    options: Options,
    stage: Callable[[str], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> report.Plan:
    """Makes the plan of `config` on `topology`.

    sizes: training and evaluation examples. stage(text) returns a context manager that shows the
    current work. Raises UserError for batches that do not divide over the devices.
    """
    devices = len(topology.devices)
    check_divides('batch_size', config.batch_size, devices, count_of(devices, 'device'))
    for name in evaluation_names(config):
        size = evaluation_config(config, name).eval.batch_size
        setting = deciding_setting(config, name, 'batch_size')
        check_divides(setting, size, devices, count_of(devices, 'device'))
    cache = PlanCache(options.cache_dir)
    plan = report.Plan(report.topology_record(topology), {})

    def compile_one(config, which, what):
        with stage(f'{topology.name} {what}: compiling'):
            return compile_step(config, topology, which, examples_per_epoch=sizes[0], cache=cache)

    times = {}
    for which in options.steps:
        try:
            step = compile_one(config, which, which)
        except DoesNotFit as error:
            if options.verbose:
                print(error.message, file=sys.stderr)
            plan.failures.append(fit_record(which, error))
            if which == 'train' and options.search:
                look_for_fit(plan.failures[-1], config, devices, error, compile_one)
            continue
        times[which] = estimate.step_time(config, topology, step)
        plan.steps[which] = report.step_record(step, times[which], topology)
        if options.hlo_dump:
            dump(options.hlo_dump, topology, which, step)
    if 'train' in times:
        plan.steps['train']['teacher_bytes'] = teacher_bytes(config, topology)
        run = estimate.run_time(config, topology, *sizes, times['train'], times.get('eval'))
        plan.run = run and report.run_record(run, config.duration)
    return plan


def fit_record(which: str, error: DoesNotFit) -> dict:
    """Returns the missing memory by the compiler's message, with empty entries for remedies."""
    missing = 'the compiler ran out of HBM; --verbose shows its message'
    if error.needed:
        missing = (
            f'{error.needed / GIB:.2f} GiB are needed, {error.available / GIB:.2f} GiB are there, '
            f'{(error.needed - error.available) / GIB:.2f} GiB are missing'
        )
    return {
        'step': which,
        'missing': missing,
        'needed_bytes': error.needed,
        'available_bytes': error.available,
        'searched': False,
        'largest_batch': None,
        'options': {},
    }


def look_for_fit(record: dict, config, devices: int, error: DoesNotFit, compile_one) -> None:
    def attempt(changed, what):
        return compile_one(changed, 'train', what)

    record['searched'] = True
    record['largest_batch'] = fit.largest_batch(config, devices, error, attempt)
    record['options'] = fit.options_that_fit(config, devices, attempt)


def dump(directory: str, topology: Topology, which: str, step) -> None:
    path = pathlib.Path(directory) / f'{topology.name.replace(":", "_")}_{which}.hlo'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(step.compilation.text)
