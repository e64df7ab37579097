"""The stored configuration of a run, WORKDIR/config.json, and the names of its classes.

WORKDIR/class_names.txt has one name per line, in the order of the labels.
"""

import json
import os

import ml_collections
from etils import epath

from resnet_rs.config import SETTINGS, default_config, flatten, setting_of
from resnet_rs.config.validation import check_key
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.files import read_json, read_text, replacing

CONFIG_FILE = 'config.json'
CLASS_NAMES_FILE = 'class_names.txt'


def write_config(workdir: str | os.PathLike, config: ml_collections.ConfigDict) -> None:
    """Writes config.json; a reader sees the old file or the whole new one."""
    path = epath.Path(workdir) / CONFIG_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps(config.to_dict(), indent=2) + '\n')


def read_config(workdir: str | os.PathLike) -> ml_collections.ConfigDict | None:
    """Reads the configuration of the run in `workdir`, locked; returns None if there is no run.

    Settings that are newer than the run have their defaults. Raises UserError for a damaged file
    and for an invalid value.
    """
    path = epath.Path(workdir) / CONFIG_FILE
    if not path.exists():
        return None
    remedy = 'correct it, or use another --workdir'
    stored = read_json(path, remedy)
    config = default_config()
    try:
        stored = _tuples(stored)
        for name, value in flatten(stored).items():
            if setting := setting_of(name):
                setting.rule.check(name, value)
            elif name.partition('.')[0] == 'evals' and name.count('.') < 2:
                check_key(name)
        with config.ignore_type():
            config.update(stored)
        if missing := sorted(SETTINGS.keys() - flatten(config.to_dict()).keys()):
            raise UserError(f'it lacks the setting {missing[0]}')
    except UserError as error:
        raise UserError(f'{path} is damaged: {error}; {remedy}') from error
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f'{path} is not the configuration of a run ({error}); {remedy}') from error
    return config.lock()


def stored_config_of(workdir: str | os.PathLike) -> ml_collections.ConfigDict:
    """Returns the configuration of the run in `workdir`; raises UserError where there is none."""
    config = read_config(workdir)
    if config is None:
        raise UserError(
            f'no run is in {workdir}: it has no {CONFIG_FILE}; name the work directory '
            'of a run or of converted weights'
        )
    return config


def get_config(directory: str = '') -> ml_collections.ConfigDict:
    """Returns the configuration in `directory`, locked; makes this module usable as --config."""
    config = read_config(directory) if directory else None
    if config is None:
        raise UserError(
            f'{directory!r} holds no {CONFIG_FILE}; name the work directory of a run, as in '
            '--config=configs/stored.py:DIR'
        )
    return config


def read_class_names(workdir: str | os.PathLike) -> list[str]:
    """Reads the lines of class_names.txt; returns [] if there is no such file."""
    path = epath.Path(workdir) / CLASS_NAMES_FILE
    return read_text(path, 'correct the file or remove it').splitlines() if path.exists() else []


def _tuples(value):
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
