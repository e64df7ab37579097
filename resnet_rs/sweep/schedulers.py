"""A Slurm job array for a sweep: one job of the array is one run.

The configurations are stored first, each in the work directory of its run; a job reads its own.
Finished runs are left out, so printing again after failures gives the remaining jobs. The command
submits nothing. Accelerators and time limit differ between sites: the user replaces the text in
<angle brackets>.
"""

import shlex

from resnet_rs.config.stored import write_config
from resnet_rs.sweep.definition import SweepRun
from resnet_rs.sweep.directory import claim, is_finished
from resnet_rs.utils.errors import UserError


def prepare(runs: list[SweepRun], workdir: str, sweep: str) -> list[SweepRun]:
    """Stores every configuration and returns the runs that are not finished.

    Raises UserError for runs that start from others: the jobs of an array have no order.
    """
    if dependent := [run for run in runs if run.needs or run.command]:
        raise UserError(
            f'the run {dependent[0].name} starts from others, and the jobs of an array have no '
            'order; run this sweep with --parallel or --hosts'
        )
    if '://' not in workdir:
        claim(workdir, sweep)
    for run in runs:
        write_config(run.directory, run.config)
    return [run for run in runs if not is_finished(run)]


def slurm(runs: list[SweepRun], workdir: str) -> str:
    """Returns a batch script for sbatch; runs get SIGTERM, and save, before the time limit."""
    names = ' '.join(shlex.quote(run.name) for run in runs)
    # Slurm writes no file into a bucket, and reads spaces in a comment only in double quotes.
    output = '.' if '://' in workdir else workdir
    return f"""#!/bin/bash
#SBATCH --job-name=sweep
#SBATCH --array=0-{len(runs) - 1}
#SBATCH --output="{output}/slurm-%A_%a.txt"
#SBATCH --time=<HH:MM:SS>
#SBATCH --gres=<ACCELERATORS>
#SBATCH --signal=TERM@120
#SBATCH --requeue
runs=({names})
directory={shlex.quote(workdir)}/${{runs[$SLURM_ARRAY_TASK_ID]}}
exec srun python main.py --config=configs/stored.py:"$directory" --workdir="$directory"
"""
