"""The directory of a sweep: its sweep file and the state of each run.

sweep.json   the sweep file to which the directory belongs
sweep.lock   see resnet_rs/run/lock.py
NAME/        the work directory of a run, with the output of its processes in log.txt
"""

import json
import os
import pathlib

from resnet_rs.config.stored import write_config
from resnet_rs.run.preflight import last_checkpoint
from resnet_rs.run.run_log import is_reported, read_metrics
from resnet_rs.sweep.definition import SweepRun
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.files import replacing

SWEEP_FILE = 'sweep.json'
LOG_FILE = 'log.txt'
LOG_HEADER = '=== started by a sweep '  # start of the line before the output of each process


def claim(workdir: str | os.PathLike, sweep: str) -> None:
    """Assigns `workdir` to the sweep file `sweep`; raises UserError if another sweep owns it."""
    path = pathlib.Path(workdir) / SWEEP_FILE
    if path.exists():
        try:
            owner = json.loads(path.read_text())['sweep']
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f'{path} is damaged ({error}); remove it if the directory belongs to {sweep}'
            ) from error
        if os.path.basename(owner) != os.path.basename(sweep):
            raise UserError(f'{workdir} belongs to another sweep, {owner}; use another --workdir')
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps({'sweep': str(sweep)}) + '\n')


def steps_done(run: SweepRun) -> int:
    """Returns the step of the last complete checkpoint; 0 before the first."""
    return max(last_checkpoint(run.directory), 0)


def is_finished(run: SweepRun) -> bool:
    """Returns whether the run has its last checkpoint, its evaluation and its report.

    A command has only its output. Raises UserError for a damaged metrics file.
    """
    if run.command:
        return (pathlib.Path(run.directory) / run.command.output).exists()
    evaluated = [line['step'] for line in read_metrics(run.directory, 'eval')]
    return (
        run.total_steps in evaluated
        and steps_done(run) == run.total_steps
        and is_reported(run.directory)
    )


def prepare(run: SweepRun) -> None:
    """Makes the directory of a run and stores its configuration, if it has one."""
    if run.config is None:
        pathlib.Path(run.directory).mkdir(exist_ok=True)
    else:
        write_config(run.directory, run.config)


def top1(run: SweepRun) -> float:
    """Returns the top-1 of the EMA weights, a fraction, in the last evaluation of a training."""
    return read_metrics(run.directory, 'eval', ('ema_top1',))[-1]['ema_top1']


def tail(run: SweepRun, lines: int = 15) -> str:
    """Returns the last lines of the run's log from its latest process."""
    path = pathlib.Path(run.directory) / LOG_FILE
    if not path.exists():
        return ''
    with path.open('rb') as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 20_000, 0))
        text = file.read().decode(errors='replace')
    latest = text.rpartition(LOG_HEADER)[2].partition('\n')[2] if LOG_HEADER in text else text
    return '\n'.join(latest.strip().splitlines()[-lines:])
