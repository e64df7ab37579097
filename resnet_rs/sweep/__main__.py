"""Runs or resumes a sweep: many configurations, one process each, one table (docs/sweeps.md).

    python -m resnet_rs.sweep --sweep=configs/sweeps/NAME.py --workdir=DIR [--parallel=N]
    python -m resnet_rs.sweep --sweep=... --workdir=DIR --hosts=tpu-1,tpu-2    # over ssh
    python -m resnet_rs.sweep --sweep=... --workdir=DIR --print=slurm          # a job array
    python -m resnet_rs.sweep --sweep=... --workdir=DIR --dry_run              # what it would cost

The same command again resumes: it skips finished runs and resumes interrupted ones. After Ctrl-C
the runs save before they end. The exit status is 0 when every run is finished (docs/tpu.md).
"""

import argparse
import contextlib
import errno
import os
import signal
import statistics
import sys

import tqdm

from resnet_rs.run.signals import INTERRUPTED, RESUMABLE
from resnet_rs.utils.errors import (
    CommandParser,
    UserError,
    count_of,
    first_of,
    one_line_errors,
    positive_integer,
)
from resnet_rs.utils.log_lines import log_for_people
from resnet_rs.utils.platforms import use_cpu


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    environment = dict(os.environ)
    use_cpu()  # the accelerators are left to the runs
    with one_line_errors(UserError, OSError), full_disk_as_user_error(options.workdir):
        status = sweep(options, environment)
    sys.exit(status)


def sweep(options: argparse.Namespace, environment: dict) -> int:
    """Runs, prints or estimates the sweep, as the options say; returns the exit status."""
    from resnet_rs.sweep.definition import check_runs, load_sweep

    workdir = options.workdir if '://' in options.workdir else os.path.abspath(options.workdir)
    pairs = load_sweep(options.sweep, workdir)
    if options.dry_run:
        from resnet_rs.sweep.dry_run import dry_run

        print(
            dry_run(
                pairs,
                options.topology,
                examples=options.examples,
                eval_examples=options.eval_examples,
            )
        )
        return 0
    if options.hosts and not all(options.hosts.split(',')):
        raise UserError(
            f'--hosts={options.hosts} has an empty name; write names with commas between'
        )
    if '://' in options.workdir and not options.print:
        raise UserError(
            f'--workdir={options.workdir} cannot be locked; use a directory that all '
            'hosts see, or --print a job array'
        )
    if options.print:
        from resnet_rs.sweep.schedulers import prepare, slurm

        runs = prepare(check_runs(pairs, workdir), workdir, options.sweep)
        print(slurm(runs, workdir) if runs else 'every run is finished')
        return 0
    return _execute(pairs, workdir, options, environment)


def _execute(pairs, workdir: str, options, environment: dict) -> int:
    from resnet_rs.run.lock import SWEEP_LOCK, locked
    from resnet_rs.sweep import directory, report
    from resnet_rs.sweep.definition import check_runs
    from resnet_rs.sweep.runner import Runner
    from resnet_rs.sweep.workers import Worker, shares_of_cores

    runs = check_runs(pairs, workdir)
    directory.claim(workdir, options.sweep)
    with locked(workdir, SWEEP_LOCK) as lock:
        for run in runs:
            directory.prepare(run)
        if options.hosts:
            places = [(host, None) for host in options.hosts.split(',')] * options.parallel
        else:
            places = [(None, cores) for cores in shares_of_cores(options.parallel)]
        workers = [
            Worker(host, environment=environment, lock=lock, cores=cores) for host, cores in places
        ]
        with tqdm.tqdm(
            total=len(runs),
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            bar_format='{percentage:3.0f}% |{bar:20}| {n} of '
            f'{count_of(len(runs), "run")}, {{elapsed}}',
        ) as bar:
            ended, seconds = [], []

            def done(outcome):
                if outcome.status == 'interrupted':
                    if outcome.seconds:  # the others never started
                        bar.write(describe(outcome), file=sys.stderr)
                    return
                bar.update()  # a bar without a terminal does not count
                ended.append(outcome)
                if outcome.status == 'finished' and outcome.seconds:
                    seconds.append(outcome.seconds)
                line = f'{len(ended)} of {len(runs)}: {describe(outcome)}'
                if seconds and len(ended) < len(runs):
                    left = statistics.mean(seconds) * (len(runs) - len(ended)) / len(workers)
                    line += f'; about {left / 60:.1f} min left'
                bar.write(line, file=sys.stderr)

            runner = Runner(workers, options.retries, lambda text: bar.write(text, sys.stderr))
            outcomes = runner.execute(runs, done)
        status = summarise(outcomes, runner.stop_signal)
        if rows := report.read([workdir]):
            for path in report.write(rows, workdir, with_runs=True):
                print(path)
    print(short_table(workdir))
    return status


@contextlib.contextmanager
def full_disk_as_user_error(workdir: str):
    """Turns the error of a full disk into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f'the disk that holds {error.filename or workdir} is full; make room and '
            'give the same command again, it resumes'
        ) from error


def describe(outcome) -> str:
    """Describes an outcome in a line, with the end of the log for a run that failed."""
    from resnet_rs.sweep.directory import tail, top1

    minutes = f', {outcome.seconds / 60:.1f} min' if outcome.seconds else ''
    separator = ' ' if outcome.status == 'finished' else ': '
    reason = f'{separator}{outcome.reason}' if outcome.reason else ''
    has_score = outcome.status == 'finished' and not outcome.run.command
    score = f', top-1 {100 * top1(outcome.run):.2f} %' if has_score else ''
    line = f'{outcome.run.name} {outcome.status}{reason}{score}{minutes}'
    if outcome.status == 'failed':
        line += ''.join(f'\n    {text}' for text in tail(outcome.run).splitlines())
    return line


def summarise(outcomes, stop_signal: int | None) -> int:
    """Prints the number of runs by outcome; returns the exit status.

    `stop_signal` is the signal that stopped the sweep, None if no signal did.
    """
    counts = {
        status: [outcome for outcome in outcomes if outcome.status == status]
        for status in ('finished', 'interrupted', 'failed')
    }
    print(', '.join(f'{len(ended)} {status}' for status, ended in counts.items() if ended))
    for outcome in counts['failed']:
        print(f'failed: {outcome.run.name}: {outcome.reason} ({outcome.run.directory}/log.txt)')
    if counts['interrupted']:
        print('the same command resumes')
    if len(counts['finished']) == len(outcomes):
        return 0
    if counts['failed'] or stop_signal is None:
        return 1
    return INTERRUPTED if stop_signal == signal.SIGINT else RESUMABLE


def short_table(workdir: str) -> str:
    """Returns a line for each configuration of the finished runs: top-1 in percent.

    It has the means over the seeds, of raw and EMA weights, and the deviation of the EMA weights.
    """
    from resnet_rs.run.run_log import is_reported
    from resnet_rs.sweep import results

    rows = [row for row in results.collect(workdir)[0] if is_reported(row['workdir'])]
    networks = results.aggregate(rows)
    columns = ('network', 'width', 'pixels', 'epochs', 'top-1 EMA', 'raw', 'runs')
    rows = [columns if results.are_alike(networks) else columns[:-1]]
    for row in networks:
        rows.append(
            (
                row['config'],
                f'{row["width"]:g}',
                str(row['resolution']),
                '' if row['epochs'] is None else f'{row["epochs"]:g}',
                results.with_deviation(row['ema_top1'], row['ema_top1_deviation'], 100),
                results.with_deviation(row['raw_top1'], None, 100),
                first_of(row['runs'], most=1),
            )[: len(rows[0])]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return (
        '\n'.join('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)
        if len(rows) > 1
        else ''
    )


def _parser() -> CommandParser:
    parser = CommandParser(prog='python -m resnet_rs.sweep', description=__doc__)
    parser.add_argument('--sweep', required=True, metavar='FILE', help='has get_sweep()')
    parser.add_argument('--workdir', required=True, metavar='DIR', help='has a folder for each run')
    parser.add_argument(
        '--parallel',
        type=positive_integer,
        default=1,
        metavar='N',
        help='runs at once, on each host; here they share the cores (default: %(default)s)',
    )
    parser.add_argument(
        '--hosts',
        metavar='A,B',
        help='ssh names of hosts that see DIR, this checkout and its environment',
    )
    parser.add_argument(
        '--retries',
        type=int,
        default=1,
        metavar='N',
        help='more attempts for a run that fails (default: %(default)s)',
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        '--dry_run',
        action='store_true',
        help='list the runs and their estimated cost; start nothing',
    )
    instead.add_argument(
        '--print',
        choices=['slurm'],
        help='store the configurations and print a job array; start nothing',
    )
    parser.add_argument(
        '--topology',
        default='v3:2x2',
        metavar='SLICE',
        help="TPUs for --dry_run, '' for no plan (default: %(default)s)",
    )
    for split in ('', 'eval_'):
        parser.add_argument(
            f'--{split}examples',
            type=positive_integer,
            metavar='N',
            help='size of a dataset that is not here, for --dry_run',
        )
    return parser


if __name__ == '__main__':
    log_for_people()
    main()
