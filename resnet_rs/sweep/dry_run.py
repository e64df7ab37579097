"""The estimated cost of a sweep."""

import dataclasses
from collections.abc import Callable

import ml_collections

from resnet_rs.config import flatten, validation
from resnet_rs.plan import topology as topologies
from resnet_rs.run import preflight
from resnet_rs.sweep.definition import Command, Pair
from resnet_rs.utils.errors import UserError, count_of

HEADER = ('run', 'parameters', 'multiply-adds', 'HBM (GiB)', 'ms/step', 'chip-hours')


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The estimate of a run: bytes of a device and seconds of a step, or why it cannot run."""

    peak_bytes: int | None = None
    step_seconds: float | None = None
    chip_hours: float | None = None
    problem: str = ''


def dry_run(
    pairs: list[Pair],
    topology: str,
    *,
    examples: int | None = None,
    eval_examples: int | None = None,
) -> str:
    """Returns a line for each run and for their sum, planned for `topology`; '' skips the plan.

    The datasets need not exist if their sizes are known or given. Runs that differ in the seed
    alone share a plan. Commands, which train nothing, are counted. Raises UserError for invalid
    settings.
    """
    given = [pair for pair in pairs if not isinstance(pair[1], Command)]
    commands, pairs = len(pairs) - len(given), []
    for number, (name, config) in enumerate(given, 1):
        try:
            validation.check_settings(config)
            pairs.append((name, preflight.with_sizes_of_data(config)))
        except UserError as error:
            raise UserError(f'run {number} of {len(given)}, {name}: {error}') from error
    topologies.prepare_environment()  # before results imports JAX
    from resnet_rs.sweep.columns import cost_of

    estimate = planner(topology, examples, eval_examples) if topology else lambda config: Estimate()
    estimates: dict[str, Estimate] = {}
    rows, hours = [], []
    for name, config in pairs:
        settings = str(flatten(config.to_dict()) | {'seed': None})
        if settings not in estimates:
            estimates[settings] = estimate(config)
        rows.append(_row(name, cost_of(config), estimates[settings]))
        hours.append(estimates[settings].chip_hours)
    known = [each for each in hours if each is not None]
    lines = _aligned([HEADER, *rows])
    if topology:
        lines.append(
            f'{topology}: {sum(known):,.2f} chip-hours of training for {len(known)} of '
            f'{count_of(len(pairs), "run")}, without evaluation, compiling and waiting for data'
        )
    if commands:
        lines.append(f'and {count_of(commands, "command")} between the trainings, not estimated')
    return '\n'.join(lines)


def planner(
    name: str, examples: int | None, eval_examples: int | None
) -> Callable[[ml_collections.ConfigDict], Estimate]:
    """Returns a function that compiles a configuration's training step for the slice `name`."""
    slice_ = topologies.open_topology(name)
    from resnet_rs.plan.__main__ import Stage, split_sizes
    from resnet_rs.plan.planning import Options, make_plan

    options = Options(cache_dir=topologies.CACHE_DIRECTORY)

    def estimate(config):
        try:
            sizes = split_sizes(config, examples, eval_examples)
            plan = make_plan(config, slice_, sizes, options, Stage)
        except UserError as error:
            return Estimate(problem=str(error))
        if plan.fit:
            return Estimate(plan.fit['needed_bytes'], problem=plan.fit['missing'])
        step = plan.steps['train']
        hours = plan.run and plan.run['chip_hours']
        return Estimate(step['peak_bytes'], step['seconds'], hours)

    return estimate


def _row(name: str, cost: tuple[int, int], estimate: Estimate) -> tuple[str, ...]:
    def show(value, scale, digits):
        return '-' if value is None else f'{value * scale:,.{digits}f}'

    row = (
        name,
        f'{cost[0]:,}',
        f'{cost[1]:,}',
        show(estimate.peak_bytes, 2**-30, 2),
        show(estimate.step_seconds, 1000, 1),
        show(estimate.chip_hours, 1, 2),
    )
    return (*row, estimate.problem) if estimate.problem else row


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)]
        lines.append('  '.join([*cells, *row[len(HEADER) :]]))
    return lines
