"""Workers that execute runs: processes here, or on another host that sees the same files."""

import contextlib
import datetime
import itertools
import os
import pathlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

from resnet_rs.config.command_line import STORED
from resnet_rs.sweep.definition import SweepRun
from resnet_rs.sweep.directory import LOG_FILE, LOG_HEADER
from resnet_rs.utils.errors import UserError

MAIN = pathlib.Path(__file__).parents[2] / 'main.py'
# Environment variables that a run on another host inherits.
FORWARDED = ('TFDS_DATA_DIR', 'JAX_COMPILATION_CACHE_DIR', 'JAX_PLATFORMS', 'XLA_FLAGS')
# The remote shell starts the run and sends it SIGTERM when the connection's input ends: when the
# sweep closes it, and also when the sweep, ssh or the network fails.
LIFELINE = (
    'exec 3<&0; {command} </dev/null 3<&- & run=$!; '
    '(cat <&3; kill -TERM $run) >/dev/null 2>&1 & wait $run'
)
UNREACHABLE = 255  # ssh's own exit status


def command(directory: str) -> list[str]:
    """Returns the command that executes the run whose configuration is stored in `directory`.

    Raises UserError if the package is not part of a checkout with main.py.
    """
    if not MAIN.exists():
        raise UserError(
            f'a sweep runs {MAIN}, which does not exist; start it in a checkout of the '
            'repository, not with the installed package alone'
        )
    return [
        sys.executable,
        str(MAIN),
        f'--config={STORED}:{directory}',
        f'--workdir={directory}',
    ]


def command_of(run: SweepRun) -> list[str]:
    """Returns the command of a run: a training, or what it has in place of one."""
    if not run.command:
        return command(run.directory)
    step = run.command
    output = os.path.join(run.directory, step.output)
    return [sys.executable, '-m', f'resnet_rs.{step.module}', *step.arguments, f'--output={output}']


def shares_of_cores(parallel: int) -> list[set[int]]:
    """Divides the cores that this process may use among `parallel` runs; each gets one or more.

    Runs that all have as many threads as there are cores wait for each other.
    """
    cores = sorted(os.sched_getaffinity(0))
    ends = [place * len(cores) // parallel for place in range(parallel + 1)]
    shares = (cores[begin:end] for begin, end in itertools.pairwise(ends))
    return [set(share) or set(cores) for share in shares]


class Worker:
    """A worker that executes one run at a time, on this machine or on `host` by ssh.

    A run on this machine uses the `cores` alone, or those of this process where they are None.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        environment: dict,
        lock: int,
        cores: set[int] | None = None,
    ):
        self.host = host
        self._cores = cores
        self._environment = environment
        self._lock = lock
        self._process = None

    def start(self, run: SweepRun) -> None:
        """Starts the run in a session of its own, so that Ctrl-C reaches the sweep alone."""
        arguments = command_of(run)
        if self.host:
            arguments = ['ssh', '-o', 'BatchMode=yes', self.host, self._remote(arguments)]
        now = datetime.datetime.now().isoformat(' ', 'seconds')
        path = pathlib.Path(run.directory) / LOG_FILE
        with path.open('ab') as log, _cores_of_new_processes(self._cores):
            log.write(f'{LOG_HEADER}{now} {shlex.join(arguments)}\n'.encode())
            log.flush()
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE if self.host else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=(self._lock,),
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Returns the exit status of the run, negative for a signal; None while it runs."""
        status = self._process.poll()
        remote_signal = self.host and status and 128 < status < UNREACHABLE
        return 128 - status if remote_signal else status

    def stop(self) -> None:
        """Asks the run to save and end."""
        if self.host:
            self._process.stdin.close()
        else:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()

    def _remote(self, arguments: list[str]) -> str:
        settings = [
            f'{name}={self._environment[name]}' for name in FORWARDED if name in self._environment
        ]
        line = shlex.join(['env', *settings, *arguments])
        script = f'cd {shlex.quote(os.getcwd())} || exit; {LIFELINE.format(command=line)}'
        return shlex.join(['sh', '-c', script])


@contextlib.contextmanager
def _cores_of_new_processes(cores: set[int] | None) -> Iterator[None]:
    """Restricts the processes that this thread starts to `cores`, unless they are None."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or own)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)
