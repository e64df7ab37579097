"""The command: trains, evaluates or checks one configuration (see README.md)."""

# ruff: noqa: E402
from resnet_rs.run import signals

if __name__ == '__main__':
    signals.end_at_once()  # the imports below take half a second

import json

from absl import app, flags
from ml_collections import config_flags

from resnet_rs.config import command_line, evaluations
from resnet_rs.run import preflight
from resnet_rs.utils import log_lines, platforms
from resnet_rs.utils.errors import UserError, one_line_errors

CONFIG = config_flags.DEFINE_config_file('config', help_string='File that has get_config().')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept; found again to resume.')
MODE = flags.DEFINE_enum('mode', 'train', ['train', 'eval', 'check'], 'What to do.')
CHECKPOINT = flags.DEFINE_string('checkpoint', 'last', "For eval: 'last', 'best' or a step.")
IMAGE_SIZE = flags.DEFINE_integer('image_size', None, "For eval: pixels, else the config's.", 1)
EVALUATION = flags.DEFINE_string('evaluation', '', "For eval: NAME of config.evals, or 'eval'.")
PREDICTIONS = flags.DEFINE_string('predictions', '', 'For eval: new .npz file, a row per image.')
PROFILE_STEPS = flags.DEFINE_string('profile_steps', '', 'FIRST:LAST, steps to trace for XProf.')

MISTAKES = (UserError, FloatingPointError)  # one line each, no traceback


def main(arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise UserError(f'{arguments[1]!r} is not a flag; write --name=value')
    if not WORKDIR.value:
        raise UserError('--workdir is missing; name the directory of the run')
    if CONFIG.value is None:
        raise UserError('--config is missing; for instance --config=configs/resnet_rs.py:50@160')
    config, workdir = preflight.with_sizes_of_data(CONFIG.value), WORKDIR.value
    profile_steps = command_line.parse_steps(PROFILE_STEPS.value)
    if MODE.value == 'eval':
        config = evaluations.with_image_size(config, IMAGE_SIZE.value)
        preflight.check_evaluation(config, workdir, EVALUATION.value)
    else:
        preflight.check_config(config, workdir)

    platforms.skip_absent_tpu()
    platforms.import_tensorflow()
    import train_lib  # JAX and TensorFlow take seconds: after the checks that need neither
    from resnet_rs.multihost import connection, hosts
    from resnet_rs.utils import compilation_cache

    compilation_cache.enable()
    connection.connect(**config.hosts)

    with hosts.ending_together(*MISTAKES):
        if MODE.value == 'eval':
            result = train_lib.evaluate_checkpoint(
                config, workdir, CHECKPOINT.value, PREDICTIONS.value, EVALUATION.value
            )
            print(json.dumps(result, indent=2))
        elif MODE.value == 'check':
            print(train_lib.check(config, workdir))
        else:
            train_lib.train_and_evaluate(config, workdir, profile_steps)


def run(arguments: list[str]) -> None:
    log_lines.log_for_people()
    with one_line_errors(*MISTAKES):
        main(arguments)


def parse_flags(arguments: list[str]) -> list[str]:
    with one_line_errors(UserError, flags.Error):
        return command_line.parse_run_flags(flags.FLAGS, arguments)


if __name__ == '__main__':
    app.run(run, flags_parser=parse_flags)
