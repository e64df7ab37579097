"""The command: trains, evaluates or checks one configuration (see README.md)."""

# ruff: noqa: E402
from resnet_rs import interruption

if __name__ == '__main__':
    interruption.end_at_once()  # the imports below take half a second

import json
import logging as standard_logging

from absl import app, flags, logging
from ml_collections import config_flags

from resnet_rs import platforms, preflight
from resnet_rs.errors import UserError, one_line_errors
from resnet_rs.stored_config import read_config

CONFIG = config_flags.DEFINE_config_file('config', help_string='File that has get_config().')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept; found again to resume.')
MODE = flags.DEFINE_enum('mode', 'train', ['train', 'eval', 'check'], 'What to do.')
CHECKPOINT = flags.DEFINE_string('checkpoint', 'last', "For --mode=eval: 'last', 'best', a step.")
PROFILE_STEPS = flags.DEFINE_string(
    'profile_steps', '', 'Steps to trace into WORKDIR for TensorBoard or XProf: FIRST:LAST.'
)

MISTAKES = (UserError, FloatingPointError)  # one line each, no traceback


def main(arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise UserError(f'{arguments[1]!r} is not a flag; write --name=value')
    if not WORKDIR.value:
        raise UserError('--workdir is missing; name the directory of the run')
    config = CONFIG.value or (read_config(WORKDIR.value) if MODE.value == 'eval' else None)
    if config is None:
        raise UserError('--config is missing; for instance --config=configs/resnet_rs.py:50@160')
    profile_steps = preflight.parse_steps(PROFILE_STEPS.value)
    if MODE.value == 'eval':
        preflight.check_evaluation(config)
    else:
        preflight.check_config(config, WORKDIR.value)

    platforms.skip_absent_tpu()
    import train_lib  # JAX and TensorFlow take seconds: after the checks that need neither
    from resnet_rs import compilation_cache, distributed, hosts

    compilation_cache.enable()
    distributed.connect(**config.hosts)

    with hosts.ending_together(*MISTAKES):
        if MODE.value == 'eval':
            evaluation = train_lib.evaluate_checkpoint(config, WORKDIR.value, CHECKPOINT.value)
            print(json.dumps({'examples': evaluation.examples, **evaluation.metrics}, indent=2))
        elif MODE.value == 'check':
            print(train_lib.check(config, WORKDIR.value))
        else:
            train_lib.train_and_evaluate(config, WORKDIR.value, profile_steps)


def run(arguments: list[str]) -> None:
    logging.get_absl_handler().addFilter(is_for_people)
    with one_line_errors(*MISTAKES):
        main(arguments)


def parse_flags(arguments: list[str]) -> list[str]:
    with one_line_errors(UserError, flags.Error):
        return preflight.parse_flags(flags.FLAGS, arguments)


def is_for_people(record) -> bool:
    """Returns False for what libraries say of each file and backend below a warning."""
    quiet = record.levelno <= standard_logging.INFO
    return not (quiet and any(name in record.pathname for name in ('orbax', 'xla_bridge')))


if __name__ == '__main__':
    app.run(run, flags_parser=parse_flags)
