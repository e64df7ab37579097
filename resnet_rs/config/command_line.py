"""The command line of main.py and of the other commands that take --config."""

import glob
import os
import pathlib
import re
import traceback

from absl import flags
from etils import epath

from resnet_rs.config import SETTINGS, setting_of
from resnet_rs.config.stored import stored_config_of
from resnet_rs.config.validation import check_key
from resnet_rs.utils.errors import UserError, with_home

STORED = pathlib.Path(__file__).with_name('stored.py')


def parse_flags(values: flags.FlagValues, arguments: list[str]) -> list[str]:
    """Parses a command line that may have --config into `values`; returns the rest.

    Raises UserError for a wrong setting and for a config file that fails, flags.Error for a flag
    that does not exist.
    """
    arguments = with_home(arguments)
    check_command_line(arguments)
    try:
        return values(arguments)
    except UserError:
        raise
    except Exception as error:  # absl's own, or any that the user's config file raises
        if problem := _explanation(error, arguments):
            raise UserError(problem) from error
        raise


def _explanation(error: Exception, arguments: list[str]) -> str:
    """Returns what is wrong with a flag or a line of the config file; '' where it is unknown."""
    for file in _config_files_of(arguments):
        if problem := file_problem(file, error):
            return problem
    if isinstance(error, flags.UnrecognizedFlagError | AttributeError | KeyError):
        for argument in arguments:
            name = argument.lstrip('-').partition('=')[0]
            keys = name.removeprefix('config.evals.').split('.')
            if name.startswith('config.evals.') and any(key in str(error) for key in keys):
                return f'--{name} is not set in the config file; write {name} = ... there'
    if isinstance(error, flags.UnrecognizedFlagError):
        known = [name for name in SETTINGS if error.flagname in (name, name.rpartition('.')[2])]
        meant = ' or '.join(f'--config.{name}' for name in known)
        return f'--{error.flagname} is not a flag; did you mean {meant}?' if meant else ''
    return ''


def with_stored_config(arguments: list[str]) -> list[str]:
    """Returns the command line with the configuration of the run in --workdir as its --config.

    A command line that has --config stays unchanged. Raises UserError if --workdir holds no run.
    """
    if values_of('config', arguments):
        return arguments
    workdirs = values_of('workdir', arguments)
    if not workdirs:
        raise UserError('--workdir is missing; name the directory of the run')
    stored_config_of(workdirs[-1])
    return [arguments[0], f'--config={STORED}:{workdirs[-1]}', *arguments[1:]]


def parse_run_flags(values: flags.FlagValues, arguments: list[str]) -> list[str]:
    """Parses the command line of main.py into `values`, as `parse_flags` does.

    --mode=eval starts from the configuration of the run. Raises UserError also for a flag of
    --mode=eval in another mode, and for a file of predictions that cannot be written.
    """
    arguments = with_home(arguments)
    if values_of('mode', arguments)[-1:] == ['eval']:
        arguments = with_stored_config(arguments)
    rest = parse_flags(values, arguments)
    instead = {'image_size': '; the size of a run is --config.data.image_size'}
    for name in ('checkpoint', 'evaluation', 'image_size', 'predictions'):
        if values.mode != 'eval' and values[name].present:
            raise UserError(
                f'--{name} is for --mode=eval, not for --mode={values.mode}{instead.get(name, "")}'
            )
    if values.mode != 'train' and values['profile_steps'].present:
        raise UserError(f'--profile_steps is for --mode=train, not for --mode={values.mode}')
    if values.predictions:
        check_predictions_file(values.predictions)
    return rest


def file_problem(file: str, error: BaseException | None) -> str:
    """Returns the line of `file` that raised `error` and why; '' if another file raised it."""
    while error is not None:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if os.path.abspath(frame.filename) == os.path.abspath(file)
        ]
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
    return [value.partition(':')[0] for value in values_of('config', arguments)]


def values_of(name: str, arguments: list[str]) -> list[str]:
    """Returns VALUE of every --NAME=VALUE and --NAME VALUE of a command line, unless empty."""
    values = []
    for argument, following in zip(arguments[1:], [*arguments[2:], ''], strict=True):
        if argument in (f'--{name}', f'-{name}'):
            values.append(following)
        elif argument.startswith((f'--{name}=', f'-{name}=')):
            values.append(argument.partition('=')[2])
    return list(filter(None, values))


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
        if not values_of('config', arguments):
            raise UserError(
                f'--{flag} changes a setting of a configuration, but --config is '
                'missing; add for instance --config=configs/resnet_rs.py:50@160'
            )
        rule = setting_of(name).rule
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


def parse_steps(text: str) -> tuple[int, int] | None:
    """Parses '100:110' to (100, 110) and '' to None; raises UserError for any other text."""
    if not text:
        return None
    found = re.fullmatch(r'(\d+):(\d+)', text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(
            f'--profile_steps is {text!r}; write the first and the last step to trace, counted '
            'from 1: 100:110'
        )
    return int(found[1]), int(found[2])


def check_predictions_file(path: str) -> None:
    """Raises UserError unless `path` is a new .npz file in a directory that exists."""
    file = epath.Path(path)
    if file.suffix != '.npz':
        raise UserError(f'--predictions={path} does not end in .npz; name an .npz file')
    if file.exists():
        raise UserError(f'--predictions={path} exists already; name another file')
    if not file.parent.is_dir():
        raise UserError(
            f'the directory of --predictions={path} does not exist; make it, or name another file'
        )
