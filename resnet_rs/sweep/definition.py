"""The runs that a sweep file defines, checked together before any run starts."""

import collections
import dataclasses
import importlib.util
import os
import re
import sys
from collections.abc import Iterator

import ml_collections

from resnet_rs.config import mixture
from resnet_rs.config.command_line import file_problem
from resnet_rs.config.durations import to_steps
from resnet_rs.config.stored import CONFIG_FILE
from resnet_rs.run import preflight
from resnet_rs.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """A run of a sweep; its work directory is SWEEP/name."""

    name: str
    config: ml_collections.ConfigDict
    directory: str
    total_steps: int


def load_sweep(path: str | os.PathLike) -> list[tuple[str, ml_collections.ConfigDict]]:
    """Loads the (name, config) pairs that get_sweep() of the Python file `path` yields, in order.

    The file may import modules beside it, as a script may. Raises UserError for a file that fails
    or has no get_sweep, for an invalid pair and a repeated name.
    """
    if not os.path.isfile(path):
        raise UserError(f'--sweep={path} is not a file')
    beside = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, beside)
    try:
        pairs = _pairs(path)
    except UserError:
        raise
    except Exception as error:
        if problem := file_problem(os.fspath(path), error):
            raise UserError(problem) from error
        raise
    finally:
        sys.path.remove(beside)
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


def _pairs(path: str | os.PathLike) -> list[tuple[str, ml_collections.ConfigDict]]:
    spec = importlib.util.spec_from_file_location('sweep_file', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, 'get_sweep'):
        raise UserError(f'{path} has no get_sweep(); write one that yields (name, config)')
    return list(_numbered(path, module.get_sweep()))


def check_runs(pairs: list[tuple[str, ml_collections.ConfigDict]], workdir: str) -> list[SweepRun]:
    """Returns the runs of a sweep; raises UserError with the first error if any cannot start.

    Datasets, settings, networks and work directories are checked as by main.py. Whether a batch
    divides over the devices is checked on the machine that has them.
    """
    if os.path.exists(os.path.join(workdir, CONFIG_FILE)):
        raise UserError(f'{workdir} is the work directory of a run, not of a sweep; name another')
    runs, problems = [], []
    for number, (name, config) in enumerate(pairs, 1):
        try:
            runs.append(_checked(name, config, os.path.join(workdir, name)))
        except UserError as error:
            problems.append(f'run {number} of {len(pairs)}, {name}: {error}')
    if problems:
        others = len(problems) - 1
        more = f' ({others} more {"have errors" if others > 1 else "has an error"})'
        raise UserError(problems[0] + (more if others else ''))
    return runs


def _numbered(path, pairs: Iterator) -> Iterator[tuple[str, ml_collections.ConfigDict]]:
    pairs = iter(pairs)
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
            and isinstance(pair[1], ml_collections.ConfigDict)
        ):
            raise UserError(f'{path}, run {number} is {pair!r:.80}; yield (name, config)')
        if not re.fullmatch(r'[\w][\w.,=@+-]*', pair[0], re.ASCII):
            raise UserError(
                f'{path}, run {number}: the name {pair[0]!r} cannot be a directory; use letters, '
                'digits and . , = @ + - _'
            )
        yield pair


def _checked(name: str, config: ml_collections.ConfigDict, directory: str) -> SweepRun:
    from resnet_rs.training.networks import model_of  # takes seconds: after the checks of names

    config = preflight.with_sizes_of_data(config)
    info = preflight.check_config(config, directory)
    model_of(config)
    examples = info.split(config.data.train_split).num_examples
    examples = mixture.images_per_epoch(config, examples)
    steps = to_steps(config.duration, batch_size=config.batch_size, examples_per_epoch=examples)
    return SweepRun(name, config, directory, steps)
