"""The directory of a sweep: whose it is, and how far each run is.

sweep.json   which sweep file it belongs to
sweep.lock   see resnet_rs/run/lock.py
NAME/        the work directory of a run, with log.txt, what its process wrote
"""

import json
import os
import pathlib

from etils import epath

from resnet_rs.run.run_log import is_reported, read_metrics
from resnet_rs.sweep.definition import SweepRun
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.files import replacing

SWEEP_FILE = 'sweep.json'
LOG_FILE = 'log.txt'
LOG_HEADER = '=== started by a sweep '  # begins the line that each process of a run starts with


def claim(workdir: str | os.PathLike, sweep: str) -> None:
    """Notes that `workdir` belongs to the sweep file `sweep`; UserError if it is of another."""
    path = pathlib.Path(workdir) / SWEEP_FILE
    if path.exists():
        try:
            owner = json.loads(path.read_text())['sweep']
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f'{path} is damaged ({error}); remove it if the directory is of {sweep}'
            ) from error
        if os.path.basename(owner) != os.path.basename(sweep):
            raise UserError(f'{workdir} is of another sweep, {owner}; use another --workdir')
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps({'sweep': str(sweep)}) + '\n')


def steps_done(run: SweepRun) -> int:
    """The last step whose checkpoint is whole; 0 before the first."""
    checkpoints = epath.Path(run.directory) / 'checkpoints'
    names = [path.name for path in checkpoints.iterdir()] if checkpoints.exists() else []
    steps = [int(name) for name in names if name.isdecimal()]
    return max(steps, default=0)


def is_finished(run: SweepRun) -> bool:
    """Whether the run has its last checkpoint, the evaluation of it and its report.

    Raises UserError for a damaged metrics file.
    """
    evaluated = [line['step'] for line in read_metrics(run.directory, 'eval')]
    return (
        run.total_steps in evaluated
        and steps_done(run) == run.total_steps
        and is_reported(run.directory)
    )


def top1(run: SweepRun) -> float:
    """Returns the top-1 of the EMA weights, a fraction, in the last evaluation of the run."""
    return read_metrics(run.directory, 'eval', ('ema_top1',))[-1]['ema_top1']


def tail(run: SweepRun, lines: int = 15) -> str:
    """The last lines of the run's log, of its latest process."""
    path = pathlib.Path(run.directory) / LOG_FILE
    if not path.exists():
        return ''
    with path.open('rb') as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 20_000, 0))
        text = file.read().decode(errors='replace')
    latest = text.rpartition(LOG_HEADER)[2].partition('\n')[2] if LOG_HEADER in text else text
    return '\n'.join(latest.strip().splitlines()[-lines:])
