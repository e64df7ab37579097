"""The runs that a sweep file defines, checked together before any run starts."""

import collections
import dataclasses
import importlib.util
import inspect
import os
import pathlib
import re
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections

from resnet_rs.config import mixture
from resnet_rs.config.command_line import file_problem
from resnet_rs.config.durations import to_steps
from resnet_rs.config.stored import CONFIG_FILE
from resnet_rs.config.validation import check_settings
from resnet_rs.run import preflight
from resnet_rs.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class Command:
    """A run of a sweep that trains nothing: `python -m resnet_rs.MODULE ARGUMENT...`.

    It gets --output=SWEEP/NAME/OUTPUT, and is finished when it has written that file.
    """

    module: str
    arguments: tuple[str, ...]
    output: str


Pair = tuple[str, ml_collections.ConfigDict | Command]


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """A run of a sweep; its work directory is SWEEP/name.

    needs: the names of the runs that must have finished before.
    command: what runs in place of a training; then there are no config and no steps.
    """

    name: str
    config: ml_collections.ConfigDict | None
    directory: str
    total_steps: int
    needs: tuple[str, ...] = ()
    command: Command | None = None


def load_sweep(path: str | os.PathLike, workdir: str = '') -> list[Pair]:
    """Loads the (name, config) pairs that get_sweep() of the Python file `path` yields, in order.

    A get_sweep with a parameter gets `workdir`, the directory of the sweep, for runs that start
    from others. The file may import modules beside it, as a script may. Raises UserError for a file
    that fails or has no get_sweep, for an invalid pair and a repeated name.
    """
    pairs = _of_file(path, lambda module: list(_numbered(path, _sweep(path, module, workdir))))
    if not pairs:
        raise UserError(f'get_sweep() of {path} yields no run')
    counts = collections.Counter(name for name, _ in pairs)
    if twice := [name for name, count in counts.items() if count > 1]:
        numbers = [number for number, (name, _) in enumerate(pairs, 1) if name == twice[0]]
        raise UserError(
            f'{path} gives the name {twice[0]!r} to the runs {", ".join(map(str, numbers))}; '
            'every run needs a name of its own'
        )
    return pairs


def load_attribute(path: str | os.PathLike, name: str) -> Any:
    """Returns a variable of a sweep file, None where it has none.

    Raises UserError as load_sweep does.
    """
    return _of_file(path, lambda module: getattr(module, name, None))


def _of_file(path: str | os.PathLike, read: Callable[[types.ModuleType], Any]) -> Any:
    """Returns `read` of the module in the file `path`."""
    if not os.path.isfile(path):
        raise UserError(f'--sweep={path} is not a file')
    if not os.fspath(path).endswith('.py'):
        raise UserError(f'--sweep={path} is not a Python file; name one of configs/sweeps')
    beside = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, beside)
    try:
        spec = importlib.util.spec_from_file_location('sweep_file', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return read(module)
    except UserError:
        raise
    except Exception as error:
        if problem := file_problem(os.fspath(path), error):
            raise UserError(problem) from error
        raise
    finally:
        sys.path.remove(beside)


def _sweep(path: str | os.PathLike, module: types.ModuleType, workdir: str) -> Iterator:
    if not hasattr(module, 'get_sweep'):
        raise UserError(f'{path} has no get_sweep(); write one that yields (name, config)')
    takes_workdir = inspect.signature(module.get_sweep).parameters
    return iter(module.get_sweep(workdir) if takes_workdir else module.get_sweep())


def _numbered(path: str | os.PathLike, pairs: Iterator) -> Iterator[Pair]:
    number = 0
    while True:
        number += 1
        try:
            pair = next(pairs)
        except StopIteration:
            return
        except UserError as error:
            raise UserError(f'{path}, run {number}: {error}') from error
        if not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], ml_collections.ConfigDict | Command)
        ):
            raise UserError(f'{path}, run {number} is {pair!r:.80}; yield (name, config)')
        if not re.fullmatch(r'[\w][\w.,=@+-]*', pair[0], re.ASCII):
            raise UserError(
                f'{path}, run {number}: the name {pair[0]!r} cannot be a directory; use letters, '
                'digits and . , = @ + - _'
            )
        yield pair


def check_runs(pairs: list[Pair], workdir: str) -> list[SweepRun]:
    """Returns the runs of a sweep; raises UserError with the first error if any cannot start.

    Datasets, settings, networks and work directories are checked as by main.py, and of a run that
    starts from another one what can be known before that has finished. Whether a batch divides over
    the devices is checked on the machine that has them.
    """
    if os.path.exists(os.path.join(workdir, CONFIG_FILE)):
        raise UserError(f'{workdir} is the work directory of a run, not of a sweep; name another')
    runs, problems = {}, []
    for number, (name, step) in enumerate(pairs, 1):
        directory = os.path.join(workdir, name)
        try:
            if not isinstance(step, Command):
                check_settings(step)
            needs = _needs(step, workdir, runs)
            if isinstance(step, Command):
                runs[name] = SweepRun(name, None, directory, 0, needs, step)
            else:
                runs[name] = _checked(name, step, directory, needs)
        except UserError as error:
            problems.append(f'run {number} of {len(pairs)}, {name}: {error}')
    if problems:
        others = len(problems) - 1
        more = f' ({others} more {"have errors" if others > 1 else "has an error"})'
        raise UserError(problems[0] + (more if others else ''))
    return list(runs.values())


def _needs(
    step: ml_collections.ConfigDict | Command, workdir: str, before: dict[str, SweepRun]
) -> tuple[str, ...]:
    """Returns the names of the runs whose directories a run reads; they must be among `before`."""
    if isinstance(step, Command):
        texts = [argument.partition('=')[2] for argument in step.arguments]
    else:
        texts = [step.init_from, step.distillation.teacher, step.pseudo_labels.file]
    here = pathlib.Path(os.path.abspath(workdir))
    paths = [pathlib.Path(text) for text in texts if os.path.isabs(text)]
    names = [path.relative_to(here).parts for path in paths if path.is_relative_to(here)]
    names = tuple(dict.fromkeys(parts[0] for parts in names if parts))
    if unknown := [name for name in names if name not in before]:
        raise UserError(
            f'it reads {here / unknown[0]}, which no run of the sweep before it makes; yield that '
            'run first'
        )
    return names


def _checked(
    name: str, config: ml_collections.ConfigDict, directory: str, needs: tuple[str, ...]
) -> SweepRun:
    from resnet_rs.training.networks import model_of  # takes seconds: after the checks of names

    config = preflight.with_sizes_of_data(config)
    if needs and not _sources_are_made(config):
        info = preflight.check_own_settings(config)
    else:
        info = preflight.check_config(config, directory)
    model_of(config)
    examples = info.split(config.data.train_split).num_examples
    examples = mixture.images_per_epoch(config, examples)
    steps = to_steps(config.duration, batch_size=config.batch_size, examples_per_epoch=examples)
    return SweepRun(name, config, directory, steps, needs)


def _sources_are_made(config: ml_collections.ConfigDict) -> bool:
    networks = [name for name in (config.init_from, config.distillation.teacher) if name]
    file = config.pseudo_labels.file
    return all(map(preflight.has_checkpoint, networks)) and (not file or os.path.exists(file))
