"""Plans as text, JSON and CSV."""

import csv
import dataclasses
import json
import os
import pathlib

from resnet_rs.plan.estimate import RunTime, StepTime, sent_bytes
from resnet_rs.plan.hlo import Operation
from resnet_rs.plan.program import CompiledStep
from resnet_rs.plan.topology import GIB, Topology
from resnet_rs.utils.errors import count_of

COSTLIEST = 10
ROOT = f'{pathlib.Path(__file__).resolve().parents[2]}{os.sep}'


@dataclasses.dataclass
class Plan:
    """The results for a topology, as plain values for JSON.

    steps: {name: step_record} of the steps that fit. run: run_record, None if the time is unknown.
    failures: fit_record of every step that does not fit. host: host.host_record, None without a
    training step.
    """

    topology: dict
    steps: dict[str, dict]
    run: dict | None = None
    failures: list[dict] = dataclasses.field(default_factory=list)
    host: dict | None = None

    @property
    def fit(self) -> dict | None:
        """Returns the failure of the training step, else the first one; None if all steps fit."""
        training = [each for each in self.failures if each['step'] == 'train']
        return next(iter(training + self.failures), None)


def topology_record(topology: Topology) -> dict:
    hardware = topology.hardware
    return {
        'name': topology.name,
        'device_kind': hardware.kind,
        'devices': len(topology.devices),
        'chips': topology.chips,
        'hosts': topology.hosts,
        'chips_per_host': topology.chips_per_host,
        'hbm_bytes': hardware.hbm_bytes,
        'clock_hz': hardware.clock_hz,
        'peak_flops': hardware.peak_flops,
    }


def step_record(step: CompiledStep, time: StepTime, topology: Topology) -> dict:
    """Returns all figures of a compiled step; bytes, seconds and FLOPs of one device."""
    kept, program = step.compilation, step.program
    hbm = topology.hardware.hbm_bytes
    return {
        'noun': time.noun,
        'images': time.images,
        'argument_bytes': kept.arguments,
        'output_bytes': kept.outputs,
        'aliased_bytes': kept.aliased,
        'temporary_bytes': kept.temporaries,
        'code_bytes': kept.code,
        'peak_bytes': step.peak_bytes,
        'headroom_bytes': hbm - step.peak_bytes,
        'flops': step.flops,
        'model_flops': time.model_flops,
        'hbm_bytes': step.hbm_bytes,
        'cycles': step.cycles,
        'teacher_cycles': program.cycles_in('teacher'),
        'unestimated_bytes': program.unestimated_bytes,
        'compute_seconds': time.compute_seconds,
        'collective_seconds': time.collective_seconds,
        'seconds': time.seconds,
        'images_per_second': time.images_per_second,
        'model_flops_utilisation': time.utilisation,
        'loops': [
            {'name': loop.name, 'trips': loop.trips, 'executions': loop.executions}
            for loop in program.loops
        ],
        'collectives': _collectives(program.collectives),
        'costliest': [_operation(each, step.cycles) for each in _costliest(program.operations)],
        'lower_seconds': step.lower_seconds,
        'compile_seconds': kept.compile_seconds,
        'from_cache': step.from_cache,
    }


def run_record(run: RunTime, duration: str) -> dict:
    return {
        'duration': duration,
        'steps': run.steps,
        'evaluations': run.evaluations,
        'train_seconds': run.train_seconds,
        'eval_seconds': run.eval_seconds,
        'days': run.days,
        'chip_hours': run.chip_hours,
        'without': list(run.without),
    }


def describe(plan: Plan, details: bool = False) -> str:
    """Returns a sentence on the plan, and remedies for steps that do not fit.

    `details` adds a table of all steps, the collectives and the costliest fusions.
    """
    lines = [sentence(plan), *(line for failure in plan.failures for line in _failure(failure))]
    return '\n'.join(lines + (_all_details(plan) if details else []))


def sentence(plan: Plan) -> str:
    """Returns whether the plan fits its topology, and the time of a run there.

    The figures are those of the training step, or of another step whose name they have; a training
    step that does not fit has none.
    """
    topology = plan.topology
    parts = ['does not fit' if plan.fit else 'fits']
    name = 'train' if 'train' in plan.steps else next(iter(plan.steps), None)
    if name and not (plan.fit and plan.fit['step'] == 'train'):
        step = plan.steps[name]
        of_it = '' if name == 'train' else f'the {name} step '
        parts[0] += (
            f', {of_it}{step["peak_bytes"] / GIB:.1f} of {topology["hbm_bytes"] / GIB:.1f} GiB'
        )
        if step['seconds']:
            parts += [
                f'{_milliseconds(step["seconds"])} a step',
                f'{_rate(step["images_per_second"])} {step["noun"]}s per second',
            ]
        else:
            parts.append(f'{step["cycles"]:,} cycles a step')
        if step.get('teacher_bytes'):
            share = step['teacher_cycles'] / step['cycles']
            parts.append(f'the teacher {share:.0%} of it and {step["teacher_bytes"] / GIB:.2f} GiB')
    if plan.run:
        parts += [_time(86400 * plan.run['days']), f'{_hours(plan.run["chip_hours"])} chip-hours']
    if plan.host and plan.host['bound_by_input']:
        parts.append(
            f'bound by input: at {plan.host["input_ms_per_image"]:g} CPU ms per image each host '
            f'needs {plan.host["vcpus_needed"]:,.0f} vCPUs and has {plan.host["vcpus"]}, so a step '
            f'takes at least {plan.host["slowdown"]:.2f} times as long'
        )
    return f'{_place(topology)}: {", ".join(parts)}'


def comparison(plans: list[Plan]) -> str:
    """Returns a table with a line for each topology, within 80 columns for names such as v5e:16x16.

    GiB: what the training step needs and a device has; vCPUs: the same of a host.
    """
    rows = [('slice', 'fits', 'GiB', 'images/s', 'run', 'chip-hours', 'vCPUs', 'bound by')]
    for plan in plans:
        topology, step, run = plan.topology, plan.steps.get('train'), plan.run
        host = plan.host or {}
        needed, vcpus = host.get('vcpus_needed'), host.get('vcpus')
        bound = {True: 'input', False: 'TPU', None: 'unknown'}[host.get('bound_by_input')]
        rows.append(
            (
                topology['name'],
                'no' if plan.fit else 'yes',
                f'{step["peak_bytes"] / GIB:.1f}/{topology["hbm_bytes"] / GIB:.1f}'
                if step
                else f'-/{topology["hbm_bytes"] / GIB:.1f}',
                f'{step["images_per_second"]:,.0f}' if step and step['seconds'] else '-',
                _time(86400 * run['days']) if run else '-',
                _hours(run['chip_hours']) if run else '-',
                f'{_brief(needed) if needed else "-"}/{vcpus or "-"}',
                bound,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _all_details(plan):
    topology, lines = plan.topology, []
    if plan.steps:
        lines += _table(plan.steps)
    if topology['clock_hz'] is None and plan.steps:
        lines.append(
            '  cycles only: sources disagree on the clock of this generation (docs/plan.md)'
        )
    for name, step in plan.steps.items():
        lines += _details(name, step)
    if plan.host:
        lines.append(host_line(plan.host))
    if plan.run:
        run = plan.run
        counts = [count_of(run['steps'], 'step')]
        if run['evaluations']:
            counts.append(count_of(run['evaluations'], 'evaluation'))
        *others, last = run['without']
        lines.append(
            f'  {run["duration"]}: {" and ".join(counts)}; {", ".join(others)} and {last} are not '
            'included'
        )
    return lines


def write(directory: str | os.PathLike, plans: list[Plan], settings: dict) -> list[pathlib.Path]:
    """Writes plan.json and plan.csv (a line per topology and step) into `directory`."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / 'plan.json', directory / 'plan.csv']
    content = {'config': settings, 'plans': [dataclasses.asdict(plan) for plan in plans]}
    paths[0].write_text(json.dumps(content, indent=2) + '\n')
    rows = [
        {f'topology_{key}': value for key, value in plan.topology.items()}
        | {'step': name}
        | {key: value for key, value in step.items() if not isinstance(value, list)}
        for plan in plans
        for name, step in plan.steps.items()
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))  # steps differ in some
    with open(paths[1], 'w', newline='') as file:
        writer = csv.DictWriter(file, columns or ['step'], lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
    return paths


def _table(steps):
    """Returns a table with a line per quantity and a column per step."""
    quantities = (
        ('images of all devices', 'images', '{:,}'.format),
        ('arguments', 'argument_bytes', _size),
        ('outputs', 'output_bytes', _size),
        ('  of them aliased', 'aliased_bytes', _size),
        ('temporaries', 'temporary_bytes', _size),
        ('code', 'code_bytes', _size),
        ('peak', 'peak_bytes', _size),
        ('headroom', 'headroom_bytes', _size),
        ('GFLOP of the program', 'flops', _giga),
        ('GFLOP of the network', 'model_flops', _giga),
        ('bytes to and from HBM', 'hbm_bytes', _size),
        ('estimated cycles', 'cycles', '{:,}'.format),
        ('estimated step', 'seconds', _milliseconds),
        ('  of it collectives, at least', 'collective_seconds', _milliseconds),
        ('images per second of all devices', 'images_per_second', '{:,.0f}'.format),
        ('model-FLOPs utilisation', 'model_flops_utilisation', '{:.1%}'.format),
        ('seconds to compile', 'compile_seconds', '{:.0f}'.format),
    )
    width = 2 + max(len(label) for label, _, _ in quantities)
    lines = [f'  {"each device":{width}}' + ''.join(f'{name:>14}' for name in steps)]
    for label, key, show in quantities:
        values = ['-' if step[key] is None else show(step[key]) for step in steps.values()]
        lines.append(f'  {label:{width}}' + ''.join(f'{value:>14}' for value in values))
    return lines


def _details(name, step):
    lines = []
    for each in step['collectives']:
        lines.append(
            f'  {name}: {each["count"]} x {each["kind"]} over '
            f'{count_of(each["group_size"], "device")}, '
            f'{each["bytes"] / 1e6:.2f} MB'
        )
    for loop in step['loops']:
        if loop['trips'] is None:
            lines.append(f'  {name}: how often loop {loop["name"]} runs is not known; counted once')
    if step['unestimated_bytes'] > 0.01 * step['hbm_bytes']:
        lines.append(
            f'  {name}: {_size(step["unestimated_bytes"])} are moved by operations for which the '
            'compiler gives no cycles; the step takes longer than estimated'
        )
    lines.append(f'  {name}: costliest fusions')
    for each in step['costliest']:
        times = f'({each["executions"]} times) ' if each['executions'] > 1 else ''
        lines.append(
            f'    {each["share"]:6.1%} {each["cycles"]:>12,} cycles {times}{each["source"]}  '
            f'{each["op_name"]}'
        )
    return lines


def host_line(host: dict) -> str:
    """Returns what the input pipeline of each host costs, needs and has."""
    rate, needed, vcpus = host['images_per_second'], host['vcpus_needed'], host['vcpus']
    cost = f'{host["input_ms_per_image"]:g} CPU ms per image ({host["input_source"]})'
    has = 'how many a TPU VM has is not known'
    if vcpus:
        has = (
            f'a TPU VM has {vcpus}, which deliver at most '
            f'{host["input_images_per_second"]:,.0f} images per second'
        )
    needs = 'how many vCPUs a host needs is not known without the time of a step'
    if needed:
        needs = f'{rate:,.0f} images per second need {needed:,.1f} vCPUs'
    return f'  input of each host: {cost}; {needs}; {has}'


def _failure(failure):
    lines = [f'  the {failure["step"]} step does not fit: {failure["missing"]}']
    if failure['largest_batch']:
        lines.append(
            f'  largest batch that does: {count_of(failure["largest_batch"], "image")} per device '
            f'(--batch_per_device={failure["largest_batch"]})'
        )
    elif failure['searched']:
        lines.append('  no smaller batch fits either')
    for name, settings in failure['options'].items():
        flags = ' '.join(f'--config.{key}={value}' for key, value in (settings or {}).items())
        lines.append(f'  {name}: {"fits, with " + flags if settings else "does not fit"}')
    return lines


def _collectives(collectives):
    groups = {}
    for each in collectives:
        entry = groups.setdefault(
            (each.kind, each.group_size),
            {
                'kind': each.kind,
                'group_size': each.group_size,
                'count': 0,
                'bytes': 0,
                'sent_bytes': 0.0,
            },
        )
        entry['count'] += each.executions
        entry['bytes'] += each.bytes * each.executions
        entry['sent_bytes'] += sent_bytes(each.kind, each.bytes, each.group_size) * each.executions
    return list(groups.values())


def _costliest(operations: tuple[Operation, ...]) -> list[Operation]:
    return sorted(operations, key=lambda each: -each.total_cycles)[:COSTLIEST]


def _operation(each, total):
    return {
        'name': each.name,
        'cycles': each.total_cycles,
        'share': each.total_cycles / max(total, 1),
        'executions': each.executions,
        'bytes': each.bytes,
        'flops': each.flops,
        'source': each.source.removeprefix(ROOT),
        'op_name': each.op_name,
    }


def _place(topology):
    return (
        f'{topology["name"]} ({topology["devices"]} x {topology["device_kind"]}, '
        f'{count_of(topology["chips"], "chip")}, {count_of(topology["hosts"], "host")})'
    )


def _brief(number):
    return f'{number:.1f}' if number < 100 else f'{number:.0f}'


def _rate(rate):
    return f'{rate:,.0f}' if rate >= 100 else f'{rate:.3g}'


def _hours(hours):
    if hours < 0.001:
        return 'under 0.001'
    return f'{hours:,.2f}' if hours >= 0.1 else f'{hours:.2g}'


def _time(seconds):
    for unit, length in (('day', 86400), ('hour', 3600), ('minute', 60)):
        if seconds >= length:
            return f'{seconds / length:.1f} {unit}s'
    return f'{seconds:.1f} seconds' if seconds >= 0.1 else 'under 0.1 seconds'


def _size(size):
    return f'{size / GIB:.2f} GiB' if abs(size) >= GIB / 10 else f'{size / 2**20:.2f} MiB'


def _giga(count):
    return f'{count / 1e9:,.2f}'


def _milliseconds(seconds):
    return f'{seconds * 1e3:.2f} ms'
