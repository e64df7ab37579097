"""Counts the reactions of the commands to damaged files (docs/convert.md).

    python benchmarks/hostile_files.py [--kind=.h5 ...] [--mutations=500] [--seed=0] [--csv=FILE]

The benchmark damages good files in many seeded ways (benchmarks/hostile/mutations.py), and the
commands read each (benchmarks/hostile/kinds.py). A worker process reads each kind. A mutation that
takes longer than 10 s or more memory than the limit, or that ends the process, is counted, and the
worker is restarted. The benchmark prints a table and every mutation that was neither read nor
refused with one line that names the file; the exit status is then 1.
"""

import argparse
import collections
import csv
import json
import os
import pathlib
import resource
import select
import subprocess
import sys
import tempfile
import time

from hostile.attempts import OUTCOMES, Attempts, memory
from hostile.kinds import KINDS

HEADINGS = (
    'read all the same',
    'refused, file named',
    'refused, file not named',
    'traceback',
    'pickle run',
    'hang',
    'crash',
    'memory',
)
SECONDS = 10  # CPU time, because wall time depends on other work
OF_A_WORKER = 20  # mutations; TensorFlow keeps threads and addresses of a failed pipeline
PATIENCE = 120  # seconds of wall time, for a mutation that waits without computing
MIB = 2**20
ADDRESS_SPACE = 4 * 2**30  # limit of allocations while damaged files are read


def main() -> int:
    flags = parse_flags()
    if flags.worker:
        return work(flags)
    rows, failures = [], []
    for kind in flags.kind:
        started = time.monotonic()
        counts, details, peak = measure(kind, flags)
        rows.append(
            [
                kind,
                flags.mutations,
                *(counts[name] for name in OUTCOMES),
                peak // MIB,
                round(time.monotonic() - started),
            ]
        )
        failures += details
        print(*rows[-1], sep=', ', flush=True)
    heading = ['kind', 'mutations', *HEADINGS, 'most memory, MiB', 'seconds']
    for row in [heading, ['---'] * len(heading), *rows]:
        print(f'| {" | ".join(map(str, row))} |')
    print(*failures, sep='\n')
    if flags.csv:
        with open(flags.csv, 'w', newline='') as file:
            csv.writer(file).writerows([heading, *rows])
    return 1 if failures else 0


def measure(kind: str, flags) -> tuple[collections.Counter, list[str], int]:
    """Returns (number of mutations with each outcome, lines on the bad ones, most bytes of one)."""
    counts, details, peak = collections.Counter(), [], 0
    with tempfile.TemporaryDirectory() as directory:
        number = 0
        while number < flags.mutations:
            for record in watch(kind, number, directory, flags):
                number = record['number'] + 1
                counts[record['outcome']] += 1
                peak = max(peak, record['memory'])
                if record['outcome'] not in ('read', 'refused'):
                    details.append(
                        f'{kind} {record["number"]}: {record["outcome"]}: {record["detail"]}'
                    )
    return counts, details, peak


def watch(kind: str, first: int, directory: str, flags):
    """Yields the records of a worker's mutations from `first` on, until it ends or is killed."""
    command = [
        sys.executable,
        __file__,
        '--worker',
        f'--kind={kind}',
        f'--first={first}',
        f'--mutations={flags.mutations}',
        f'--seed={flags.seed}',
        f'--directory={directory}',
        f'--memory_mib={flags.memory_mib}',
    ]
    environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
    with (
        tempfile.TemporaryFile('w+') as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            bufsize=1,
            env=environment,
        ) as worker,
    ):
        begun = None  # the record and the time of the mutation in progress
        outcome = 'crash'
        while line := next_line(worker.stdout, begun, flags.memory_mib):
            if not line.startswith('{'):
                outcome = line
                break
            record = json.loads(line)
            if 'outcome' in record:
                yield record
                begun = None
            else:
                begun = record | {
                    'time': time.monotonic(),
                    'pid': worker.pid,
                    'cpu': cpu_seconds(worker.pid),
                }
        worker.kill()
        worker.wait()
        errors.seek(0)
        said = errors.read()
    if begun:
        yield {
            'number': begun['number'],
            'outcome': outcome,
            'memory': 0,
            'detail': f'status {worker.returncode}: {" / ".join(said.splitlines()[-4:])[-800:]}',
        }
    elif worker.returncode and worker.returncode != -9:
        raise RuntimeError(f'the worker of {kind} failed:\n{said[-3000:]}')


def next_line(stream, begun: dict | None, memory_mib: int) -> str:
    """Reads the worker's next line; returns '' at its end, 'hang' or 'memory' beyond a limit."""
    while not select.select([stream], [], [], 0.02)[0]:
        if begun and (
            time.monotonic() > begun['time'] + PATIENCE
            or cpu_seconds(begun['pid']) > begun['cpu'] + SECONDS
        ):
            return 'hang'
        if begun and memory(begun['pid'])['VmRSS'] > begun['memory'] + memory_mib * MIB:
            return 'memory'
    return stream.readline()


def cpu_seconds(process: int) -> float:
    """Returns the seconds of CPU that all threads of a process have used."""
    fields = pathlib.Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def work(flags) -> int:
    """Runs the worker: prints each mutation as a line of JSON, then its outcome."""
    report = os.fdopen(os.dup(1), 'w', buffering=1)
    attempts = Attempts(
        KINDS[flags.kind[0]], pathlib.Path(tempfile.mkdtemp(dir=flags.directory)), flags.seed
    )
    room = memory()['VmSize'] + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    for number in range(flags.first, min(flags.first + OF_A_WORKER, flags.mutations)):
        attempts.damage(number)
        print(json.dumps({'number': number, 'memory': memory()['VmRSS']}), file=report)
        print(json.dumps({'number': number, **attempts.read()}), file=report)
    report.close()
    os._exit(0)  # without waiting for threads of TensorFlow and JAX


def parse_flags():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kind', nargs='*', choices=KINDS, default=list(KINDS))
    parser.add_argument('--mutations', type=int, default=500, help='of each kind')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--memory_mib',
        type=int,
        default=1024,
        help='that a mutation may take more than the process has',
    )
    parser.add_argument('--csv', help='where the table is written too')
    for name in ('first', 'directory', 'worker'):
        form = {'action': 'store_true'} if name == 'worker' else {}
        parser.add_argument(f'--{name}', help=argparse.SUPPRESS, **form)
    flags = parser.parse_args()
    flags.first = int(flags.first or 0)
    return flags


if __name__ == '__main__':
    sys.exit(main())
