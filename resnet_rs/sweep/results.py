"""The table of evaluated runs: results.csv, results.parquet and results.md.

A row is a run; results.md has a row for each configuration and the step of its last evaluation,
with mean and standard deviation over the seeds. A run that has not ended therefore has a row of its
own.
"""

import itertools
import os
import pathlib
import re
import statistics
from collections.abc import Callable, Hashable

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from resnet_rs.config.dataset import dataset_name
from resnet_rs.config.stored import CONFIG_FILE, read_config
from resnet_rs.run.run_log import ENVIRONMENT_FILE, METRICS_FILE, read_metrics
from resnet_rs.sweep.columns import cost_of, depth_of, epochs_of, settings_digest
from resnet_rs.utils.errors import UserError, count_of, first_of
from resnet_rs.utils.files import read_json, replacing

SCORES = tuple(
    f'{weights}_{name}' for weights in ('raw', 'ema') for name in ('top1', 'top5', 'loss')
)
# Units are fractions, nats, seconds and bytes. top5 is null for five classes or fewer, epochs for a
# duration in another unit. step is the last evaluated step; seconds_per_step is the median over the
# logged lines; memory_bytes is the peak of a device, or of the process for CPUs; settings is a
# digest of the configuration without its seed.
SCHEMA = pa.schema(
    {
        'run': pa.string(),
        'config': pa.string(),
        'dataset': pa.string(),
        'depth': pa.int64(),
        'width': pa.float64(),
        'resolution': pa.int64(),
        'epochs': pa.float64(),
        'seed': pa.int64(),
        'step': pa.int64(),
        'parameters': pa.int64(),
        'multiply_adds': pa.int64(),
        **{name: pa.float64() for name in SCORES},
        'seconds_per_step': pa.float64(),
        'images_per_second': pa.float64(),
        'images_per_second_per_device': pa.float64(),
        'memory_bytes': pa.int64(),
        'devices': pa.string(),
        'commit': pa.string(),
        'workdir': pa.string(),
        'settings': pa.string(),
    }
)
TOP5 = {'raw_top5', 'ema_top5'}
MAY_BE_NULL = TOP5 | {'depth', 'epochs', 'memory_bytes', 'commit'}
IDENTITY = (
    'config',
    'dataset',
    'depth',
    'width',
    'resolution',
    'epochs',
    'step',
    'parameters',
    'multiply_adds',
    'settings',
)
SHOWN = ('config', 'dataset', 'width', 'resolution', 'epochs', 'step')
# Columns that are averaged over seeds.
AVERAGED = (
    *SCORES,
    'seconds_per_step',
    'images_per_second',
    'images_per_second_per_device',
    'memory_bytes',
)


def collect(directory: str | os.PathLike) -> tuple[list[dict], list[str]]:
    """Returns rows of the evaluated runs in a directory, by name, and the reasons to omit others.

    All runs without an evaluation share one reason with their number and the first names.
    """
    directory = pathlib.Path(directory)
    if (directory / CONFIG_FILE).exists():
        runs = [directory]
    else:
        runs = sorted(path.parent for path in directory.glob(f'*/{CONFIG_FILE}'))
    rows, problems, waiting = [], [], []
    for run in runs:
        try:
            row = row_of(run)
        except UserError as error:
            problems.append(f'{run.name}: {error}')
            continue
        if row is None:
            waiting.append(run.name)
        else:
            rows.append(row)
    if waiting:
        problems.append(f'{count_of(len(waiting), "run")} not evaluated yet: {first_of(waiting)}')
    return rows, problems


def row_of(workdir: str | os.PathLike) -> dict | None:
    """Returns the row of a run; None before its first evaluation."""
    workdir = pathlib.Path(workdir)
    config = read_config(workdir)
    training = read_metrics(workdir, 'train', ('time.seconds_per_step',))
    evaluations = read_metrics(workdir, 'eval', tuple(name for name in SCORES if name not in TOP5))
    if not evaluations:
        return None
    last = evaluations[-1]
    times = [line['time'] for line in training]
    environment = _read_environment(workdir)
    parameters, multiply_adds = cost_of(config)
    step_time = statistics.median([time['seconds_per_step'] for time in times] or [0])
    if not step_time > 0:
        raise UserError(
            f'{workdir / METRICS_FILE} is damaged (no step took any time); move the '
            'run away to make the table without it'
        )
    row = {
        'run': workdir.name,
        'config': config.model.name,
        'dataset': dataset_name(config),
        'depth': depth_of(config),
        'width': config.model.width_multiplier,
        'resolution': config.data.image_size,
        'epochs': epochs_of(config),
        'seed': config.seed,
        'step': last['step'],
        'parameters': parameters,
        'multiply_adds': multiply_adds,
        **{name: last.get(name) for name in SCORES},
        'seconds_per_step': step_time,
        'images_per_second': config.batch_size / step_time,
        'images_per_second_per_device': config.batch_size
        / step_time
        / int(environment['devices'].split()[0]),
        'memory_bytes': max((time.get('memory_bytes', 0) for time in times), default=0) or None,
        'devices': environment['devices'],
        'commit': environment['commit'],
        'workdir': _relative(workdir),
        'settings': settings_digest(config),
    }
    try:
        pa.Table.from_pylist([row], schema=SCHEMA)
    except (pa.ArrowException, OverflowError) as error:
        raise UserError(
            f'{workdir / METRICS_FILE}, {CONFIG_FILE} or {ENVIRONMENT_FILE} is damaged: '
            f'{error}; move the run away to make the table without it'
        ) from error
    return row


def _relative(path: pathlib.Path) -> str:
    """Returns `path` relative to the current directory if below it, for tables to share."""
    path = path.absolute()
    here = pathlib.Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _read_environment(workdir: pathlib.Path) -> dict:
    path = workdir / ENVIRONMENT_FILE
    remedy = 'move the run away to make the table without it'
    environment = read_json(path, remedy)
    try:
        devices = int(environment['devices'].split()[0])
        if devices < 1 or not isinstance(environment['commit'], str | None):
            raise ValueError(f'devices {environment["devices"]!r}')
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UserError(f'{path} is damaged ({error!r:.80}); {remedy}') from error
    return environment


def read_table(path: str | os.PathLike) -> list[dict]:
    """Reads the rows of a .csv or .parquet table; raises UserError for any other file."""
    path = pathlib.Path(path)
    try:
        if path.suffix == '.parquet':
            table = pyarrow.parquet.read_table(path)
        else:
            options = pyarrow.csv.ConvertOptions(
                column_types=SCHEMA, strings_can_be_null=True, null_values=['']
            )
            table = pyarrow.csv.read_csv(path, convert_options=options)
        if missing := sorted(set(SCHEMA.names) - set(table.column_names)):
            raise UserError(f'{path} is not a table of results: it has no column {missing[0]!r}')
        table = table.select(SCHEMA.names).cast(SCHEMA)
        table.validate(full=True)
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read as a table ({error})') from error
    for name in set(SCHEMA.names) - MAY_BE_NULL:
        if any(row[name] is None for row in rows):
            raise UserError(f'{path} is damaged: a row has no {name!r}')
    return rows


def merge(tables: list[list[dict]]) -> list[dict]:
    """Returns all rows once; raises UserError if two tables disagree on a run.

    Rows with the same run name, settings and seed belong to the same run.
    """
    merged = {}
    for table in tables:
        for row in table:
            key = (row['run'], row['settings'], row['seed'])
            known = merged.setdefault(key, row)
            scores = [[each[name] for name in ('step', *SCORES)] for each in (known, row)]
            # In text NaN equals itself.
            if str(scores[0]) != str(scores[1]):
                raise UserError(
                    f'run {row["run"]} (seed {row["seed"]}) has ema_top1 {known["ema_top1"]} at '
                    f'step {known["step"]} in {known["workdir"]} and {row["ema_top1"]} at step '
                    f'{row["step"]} in {row["workdir"]}; leave one of them out'
                )
    return list(merged.values())


def aggregate(rows: list[dict]) -> list[dict]:
    """Returns a row for each configuration and step, in the order of its first run.

    Runs of one configuration and one seed differ in something that is no setting of the experiment,
    such as their pseudo-labels; their configuration then has a row for each name without '-seedN'.

    A row has the columns IDENTITY, 'seeds' (number of runs), 'runs' (their names) and, for each
    NAME of AVERAGED, the mean and the sample standard deviation NAME_deviation, which is None for a
    single run.
    """
    aggregated = []
    for members in _grouped(rows):
        row = {name: members[0][name] for name in IDENTITY}
        row |= {'seeds': len(members), 'runs': [member['run'] for member in members]}
        for name in AVERAGED:
            numbers = [member[name] for member in members if member[name] is not None]
            row[name] = statistics.mean(numbers) if numbers else None
            row[f'{name}_deviation'] = statistics.stdev(numbers) if len(numbers) > 1 else None
        aggregated.append(row)
    return aggregated


def _grouped(rows: list[dict]) -> list[list[dict]]:
    """Returns the runs of each row of `aggregate`."""
    groups = _split(rows, lambda row: tuple(row[name] for name in IDENTITY))
    finer_keys = (
        lambda row: re.sub(r'-seed\d+$', '', row['run']),
        lambda row: (row['run'], row['workdir']),
    )
    for key in finer_keys:
        parts = [_split(group, key) if _repeats_a_seed(group) else [group] for group in groups]
        groups = list(itertools.chain(*parts))
    return groups


def _split(rows: list[dict], key: Callable[[dict], Hashable]) -> list[list[dict]]:
    """Returns the rows of each key, in the order of its first row."""
    parts: dict[Hashable, list[dict]] = {}
    for row in rows:
        parts.setdefault(key(row), []).append(row)
    return list(parts.values())


def _repeats_a_seed(rows: list[dict]) -> bool:
    return len({row['seed'] for row in rows}) < len(rows)


def are_alike(networks: list[dict]) -> bool:
    """Returns whether configurations of `aggregate` differ in other settings than those shown.

    A table then needs the names of their runs to tell its rows apart.
    """
    shown = {tuple(row[name] for name in SHOWN) for row in networks}
    return len(shown) < len(networks)


def write_tables(rows: list[dict], directory: str | os.PathLike) -> list[pathlib.Path]:
    """Writes results.csv, results.parquet and results.md; returns their paths."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    writers = {
        'results.csv': lambda path: pyarrow.csv.write_csv(
            table, path, pyarrow.csv.WriteOptions(quoting_style='needed')
        ),
        'results.parquet': lambda path: pyarrow.parquet.write_table(table, path),
        'results.md': lambda path: path.write_text(markdown(rows)),
    }
    for name, write in writers.items():
        with replacing(directory / name) as partial:
            write(partial)
    return [directory / name for name in writers]


def markdown(rows: list[dict]) -> str:
    """Returns the aggregated table in Markdown: percent, mean ± standard deviation over seeds."""
    header = (
        'config',
        'depth',
        'width',
        'resolution',
        'epochs',
        'step',
        'parameters',
        'multiply-adds',
        'seeds',
        'top-1 EMA',
        'top-1 raw',
        'top-5 EMA',
        'top-5 raw',
        'loss EMA',
        'loss raw',
        'ms/step',
        'images/s',
        'memory',
        'settings',
    )
    networks = aggregate(rows)
    header = (*header, 'runs') if are_alike(networks) else header
    lines = [header, ['---'] * len(header)]
    for row in networks:

        def number(name, scale=1.0, digits=2, row=row):
            return with_deviation(row[name], row[f'{name}_deviation'], scale, digits)

        lines.append(
            (
                row['config'],
                '' if row['depth'] is None else row['depth'],
                f'{row["width"]:g}',
                row['resolution'],
                '' if row['epochs'] is None else f'{row["epochs"]:g}',
                f'{row["step"]:,}',
                f'{row["parameters"]:,}',
                f'{row["multiply_adds"]:,}',
                row['seeds'],
                *(number(name, 100) for name in ('ema_top1', 'raw_top1', 'ema_top5', 'raw_top5')),
                *(number(name, digits=3) for name in ('ema_loss', 'raw_loss')),
                number('seconds_per_step', 1000, 1),
                number('images_per_second', digits=0),
                '' if row['memory_bytes'] is None else f'{row["memory_bytes"] / 2**30:.2f} GiB',
                f'`{row["settings"]}`',
                first_of(row['runs'], most=1),
            )[: len(header)]
        )
    return ''.join(f'| {" | ".join(map(str, line))} |\n' for line in lines)


def with_deviation(
    mean: float | None, deviation: float | None, scale: float = 1.0, digits: int = 2
) -> str:
    """Returns '78.80 ± 0.12', or '78.80' without a deviation."""
    if mean is None:
        return ''
    text = f'{scale * mean:.{digits}f}'
    return text if deviation is None else f'{text} ± {scale * deviation:.{digits}f}'
