"""The command: trains, evaluates or checks one configuration (see README.md)."""

import json
import logging as standard_logging
import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from resnet_rs import preflight
from resnet_rs.errors import UserError
from resnet_rs.stored_config import read_config

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # before TensorFlow is first imported

CONFIG = config_flags.DEFINE_config_file('config', help_string='File that has get_config().')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept; found again to resume.')
MODE = flags.DEFINE_enum('mode', 'train', ['train', 'eval', 'check'], 'What to do.')
CHECKPOINT = flags.DEFINE_string('checkpoint', 'last', "For --mode=eval: 'last', 'best', a step.")


def main(arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise UserError(f'{arguments[1]!r} is not a flag; write --name=value')
    if not WORKDIR.value:
        raise UserError('--workdir is missing; name the directory of the run')
    config = CONFIG.value or (read_config(WORKDIR.value) if MODE.value == 'eval' else None)
    if config is None:
        raise UserError('--config is missing; for instance --config=configs/resnet_rs.py:50@160')
    if MODE.value == 'eval':
        preflight.check_evaluation(config)
    else:
        preflight.check_config(config, WORKDIR.value)

    import train_lib  # JAX and TensorFlow take seconds: after the checks that need neither
    from resnet_rs import compilation_cache

    compilation_cache.enable()

    if MODE.value == 'eval':
        evaluation = train_lib.evaluate_checkpoint(config, WORKDIR.value, CHECKPOINT.value)
        print(json.dumps({'examples': evaluation.examples, **evaluation.metrics}, indent=2))
    elif MODE.value == 'check':
        print(train_lib.check(config, WORKDIR.value))
    else:
        train_lib.train_and_evaluate(config, WORKDIR.value)


def run(arguments: list[str]) -> None:
    """Runs main; a mistake of the user's is one line and exit status 2."""
    logging.get_absl_handler().addFilter(is_for_people)
    try:
        main(arguments)
    except (UserError, FloatingPointError) as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


def is_for_people(record) -> bool:
    """False for what checkpointing says of each file it writes."""
    return record.levelno > standard_logging.INFO or 'orbax' not in record.pathname


if __name__ == '__main__':
    app.run(run)
