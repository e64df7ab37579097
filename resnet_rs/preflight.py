"""Checks of a run that import neither JAX nor TensorFlow and write nothing."""

import difflib
import glob
import os
import pathlib
import re
import tempfile
import traceback

import ml_collections
from absl import flags
from etils import epath

from resnet_rs.config import SETTINGS, flatten, may_change_on_resume
from resnet_rs.datasets.file_cache import check_cache
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.splits import DatasetInfo
from resnet_rs.durations import to_steps
from resnet_rs.errors import UserError
from resnet_rs.stored_config import (
    CLASS_NAMES_FILE,
    CONFIG_FILE,
    read_class_names,
    read_config,
)


def check_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> DatasetInfo:
    """Raises UserError for whatever would stop this run later; returns what the dataset is."""
    info = check_evaluation(config)
    split = info.split(config.data.train_split)
    if split.label_set_feature:
        raise UserError(
            f'{info.name} has sets of labels ({split.label_set_feature}): it is for evaluation '
            'only; train on another data.name'
        )
    check_durations(config, split.num_examples)
    check_cache(info, config.data)
    if config.init_from and read_config(config.init_from) is None:
        raise UserError(
            f'init_from is {config.init_from!r}, which holds no {CONFIG_FILE}; name the work '
            'directory of a run or of converted weights'
        )
    check_workdir(config, workdir)
    return info


def check_settings(config: ml_collections.ConfigDict) -> None:
    """Raises UserError for an unknown setting, a value out of its rule and values that disagree."""
    settings = flatten(config.to_dict())
    for name, value in settings.items():
        check_key(name)
        SETTINGS[name].rule.check(name, value)
    if missing := sorted(SETTINGS.keys() - settings.keys()):
        raise UserError(
            f'the configuration lacks {missing[0]}; start from resnet_rs.config.default_config()'
        )
    for setting in SETTINGS.values():
        if setting.relation and (problem := setting.relation(settings)):
            raise UserError(problem)


def check_durations(config: ml_collections.ConfigDict, examples: int) -> None:
    """Raises UserError unless training lasts a step and longer than its warm-up."""
    lengths = dict(batch_size=config.batch_size, examples_per_epoch=examples)
    steps = to_steps(config.duration, **lengths)
    if steps < 1:
        raise UserError(
            f'duration is {config.duration!r}, less than one step of {config.batch_size} images; '
            'make it longer, or lower batch_size'
        )
    warmup = to_steps(config.optimizer.warmup, **lengths)
    if warmup >= steps:
        raise UserError(
            f'optimizer.warmup is {config.optimizer.warmup!r} or {warmup} steps, but the run has '
            f"{steps}; shorten it, for instance to --config.optimizer.warmup='{steps // 10} steps'"
        )


def parse_steps(text: str) -> tuple[int, int] | None:
    """'100:110' as (100, 110), None for ''. Raises UserError for what is no range of steps."""
    if not text:
        return None
    found = re.fullmatch(r'(\d+):(\d+)', text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(
            f'--profile_steps is {text!r}; write the first and the last step to trace, counted '
            'from 1: 100:110'
        )
    return int(found[1]), int(found[2])


def check_evaluation(config: ml_collections.ConfigDict) -> DatasetInfo:
    """Raises UserError unless the dataset is there and has the classes the network tells apart."""
    check_settings(config)
    info = find_dataset(config.data)
    info.split(config.data.eval_split)
    if info.num_classes != config.model.num_classes:
        raise UserError(
            f'model.num_classes is {config.model.num_classes}, but {info.name} has '
            f'{info.num_classes} classes; use --config.model.num_classes={info.num_classes}'
        )
    return info


def check_class_order(info: DatasetInfo, workdir: str | os.PathLike) -> None:
    """Raises UserError where the dataset numbers its classes otherwise than the run in `workdir`.

    Classes that are only numbers in either of them (folders of ImageNet-V2) cannot be compared.
    """
    path = epath.Path(workdir) / CLASS_NAMES_FILE
    names = read_class_names(workdir)
    if any(all(map(str.isdecimal, side)) for side in (names, info.class_names)):
        return
    for number, (trained, here) in enumerate(zip(names, info.class_names, strict=False)):
        if trained != here:
            raise UserError(
                f'class {number} is {trained!r} in {path}, but {here!r} in {info.name}: the '
                'network would be scored against wrong labels; name or order the classes alike'
            )


def parse_flags(values: flags.FlagValues, arguments: list[str]) -> list[str]:
    """Parses a command line that may have --config into `values`; returns the rest.

    Raises UserError for a wrong setting and for a config file that fails, flags.Error for a flag
    that does not exist.
    """
    check_command_line(arguments)
    try:
        return values(arguments)
    except UserError:
        raise
    except Exception as error:  # absl's own, or whatever the person's config file raises
        for file in _config_files_of(arguments):
            if problem := _config_file_problem(file, error):
                raise UserError(problem) from error
        raise


def _config_file_problem(file: str, error: BaseException | None) -> str:
    """Returns the line of `file` at which it failed and why; '' where the error is not its own."""
    while error is not None:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
                 if os.path.abspath(frame.filename) == os.path.abspath(file)]
        if isinstance(error, SyntaxError) and os.path.abspath(error.filename or '') == (
            os.path.abspath(file)
        ):
            lines = [error.lineno]
        if lines:
            reason = str(error).partition('\n')[0]
            return f'{file}, line {lines[-1]}: {type(error).__name__}: {reason}; correct the file'
        error = error.__cause__ or error.__context__
    return ''


def _config_files_of(arguments: list[str]) -> list[str]:
    """Returns FILE of every --config=FILE:VARIANT and --config FILE:VARIANT."""
    values = []
    for argument, following in zip(arguments[1:], [*arguments[2:], ''], strict=True):
        if argument in ('--config', '-config'):
            values.append(following)
        elif argument.startswith(('--config=', '-config=')):
            values.append(argument.partition('=')[2])
    return [value.partition(':')[0] for value in values if value]


def check_command_line(arguments: list[str]) -> None:
    """Raises UserError for a --config file that is missing and for a wrong --config.NAME=VALUE."""
    for file in _config_files_of(arguments):
        check_config_file(file)
    for position, argument in enumerate(arguments[1:], start=1):
        flag, has_value, value = argument.lstrip('-').partition('=')
        if not argument.startswith('-') or not flag.startswith('config.'):
            continue
        name = flag.removeprefix('config.')
        check_key(name)
        rule = SETTINGS[name].rule
        if not has_value:
            if rule.kind is bool:  # --config.data.flip alone
                continue
            value = arguments[position + 1] if position + 1 < len(arguments) else ''
        rule.check(name, rule.parse(name, value))


def check_config_file(path: str) -> None:
    """Raises UserError unless `path` is a Python file."""
    if not os.path.isfile(path):
        raise UserError(f'--config={path} is not a file; there are {", ".join(_config_files())}')
    if not path.endswith('.py'):
        raise UserError(
            f'--config={path} is not a Python file; the configuration of the run in DIR is '
            '--config=configs/stored.py:DIR'
        )


def _config_files() -> list[str]:
    paths = glob.glob('configs/**/*.py', recursive=True)
    return sorted(path for path in paths if '__' not in path)


def check_key(name: str) -> None:
    """Raises UserError for a setting that does not exist.

    The message has the setting that is meant, else those of the same group, else all.
    """
    if name in SETTINGS:
        return
    group, _, key = name.rpartition('.')
    inside = [known for known in SETTINGS if group and known.startswith(f'{group}.')]
    meant = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.75)
    if not inside:  # the right setting in no group or in another one
        meant = [known for known in SETTINGS if known.rpartition('.')[2] == key] or meant
    elif meant and difflib.SequenceMatcher(None, key, meant[0].rpartition('.')[2]).ratio() < 0.6:
        meant = []  # alike in their group alone
    if meant:
        hint = f'did you mean {meant[0]!r}?'
    else:
        hint = f'there are: {", ".join(inside or SETTINGS)}'
    raise UserError(f'the configuration has no setting {name!r}; {hint}')


def check_workdir(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> None:
    """Raises UserError unless this run can start or resume in `workdir`; writes nothing.

    The configuration of a run binds from its first checkpoint on.
    """
    directory = epath.Path(workdir)
    stored = read_config(directory) if has_checkpoint(directory) else None
    if stored is not None:
        here, there = flatten(config.to_dict()), flatten(stored.to_dict())
        for name in sorted(here.keys() | there.keys()):
            if here.get(name) != there.get(name) and not may_change_on_resume(name):
                raise UserError(
                    f'{directory} holds a run with {name}={there.get(name)!r}, which cannot '
                    f'become {here.get(name)!r} on a resume; give --config.{name}='
                    f'{there.get(name)}, or another --workdir '
                    f'(--config.init_from={directory} starts it from these weights)'
                )
    if '://' in os.fspath(workdir):
        return  # a bucket's permissions show at the first write
    existing = pathlib.Path(workdir).absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise UserError(
            f'--workdir={directory} cannot be written ({error.strerror}); name another'
        ) from error


def has_checkpoint(workdir: str | os.PathLike) -> bool:
    """Returns whether `workdir` holds a complete checkpoint; orbax names partial ones otherwise."""
    checkpoints = epath.Path(workdir) / 'checkpoints'
    return checkpoints.is_dir() and any(path.name.isdecimal() for path in checkpoints.iterdir())
