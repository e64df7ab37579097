"""The execution of a sweep: it skips, resumes and retries runs, and stops without losing work."""

import collections
import dataclasses
import errno
import signal
import time
from collections.abc import Callable

from resnet_rs.run.signals import INTERRUPTED, RESUMABLE
from resnet_rs.sweep.definition import SweepRun
from resnet_rs.sweep.directory import is_finished, steps_done, tail
from resnet_rs.sweep.workers import UNREACHABLE, Worker
from resnet_rs.utils.errors import UserError, count_of

POLL_SECONDS = 0.2
USER_ERROR = 2  # exit status of main.py for an error that a retry cannot correct


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a run: 'finished', 'failed' or 'interrupted', and the reason."""

    run: SweepRun
    status: str
    reason: str = ''
    seconds: float = 0.0


class SignalCounter:
    """Context manager that counts SIGTERM and Ctrl-C instead of ending the process."""

    def __enter__(self):
        self.count = 0
        self.signal = None
        self._previous = {
            number: signal.signal(number, self._add) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _add(self, number, frame):
        del frame
        self.count += 1
        self.signal = number


class Runner:
    """A scheduler that gives runs to workers until none is left; `note(text)` reports events.

    A run waits for those that it needs, and fails if one of them does. A run that ends unfinished
    is resumed up to `retries` times from its last checkpoint. Invalid settings, a damaged metrics
    file and a full disk are reported at once. A host that cannot be reached is left out.

    Attributes:
      stop_signal: the number of the signal that stopped `execute`; None if no signal did.
    """

    def __init__(self, workers: list[Worker], retries: int, note: Callable[[str], None]):
        self._idle = list(workers)
        self._busy: dict[Worker, tuple[SweepRun, float]] = {}
        self._retries = retries
        self._note = note
        self._attempts = collections.Counter()
        self._outcomes: list[Outcome] = []
        self.stop_signal: int | None = None

    def execute(
        self, runs: list[SweepRun], done: Callable[[Outcome], None] = lambda outcome: None
    ) -> list[Outcome]:
        """Executes the runs; returns an outcome for each, in the order of their ends."""
        self._done = done
        self._waiting = collections.deque(runs)
        with SignalCounter() as stop:
            forwarded = 0
            while self._busy or (self._waiting and self._idle and not stop.count):
                while self._idle and not stop.count and (run := self._next_ready()):
                    self._start(run)
                time.sleep(POLL_SECONDS)
                if stop.count > forwarded:
                    self._pass_on(forwarded)
                    forwarded = stop.count
                for worker in list(self._busy):
                    status = worker.poll()
                    if status is not None:
                        self._ended(worker, status, stopping=stop.count > 0)
        self.stop_signal = stop.signal
        why = 'stopped' if stop.count else 'no host is left'
        for run in self._waiting:
            self._end(Outcome(run, 'interrupted', f'{why} before it could start'))
        return self._outcomes

    def _next_ready(self) -> SweepRun | None:
        """Takes the first waiting run whose needs have finished; ends those that lack one."""
        status = {outcome.run.name: outcome.status for outcome in self._outcomes}
        for run in list(self._waiting):
            lacking = [name for name in run.needs if status.get(name) == 'failed']
            if lacking:
                self._waiting.remove(run)
                self._end(Outcome(run, 'failed', f'it needs {lacking[0]}, which failed'))
                return self._next_ready()
            if all(status.get(name) == 'finished' for name in run.needs):
                self._waiting.remove(run)
                return run
        return None

    def _start(self, run: SweepRun) -> None:
        try:
            if is_finished(run):
                self._end(Outcome(run, 'finished', 'earlier'))
                return
            worker = self._idle[0]
            step = steps_done(run)  # a quick run is further once it has started
            worker.start(run)
        except (UserError, OSError) as error:
            self._end(Outcome(run, 'failed', _describe(error)))
            return
        self._idle.remove(worker)
        self._busy[worker] = (run, time.monotonic())
        where = f' on {worker.host}' if worker.host else ''
        how = f'resumes from step {step} of {run.total_steps}' if step else 'starts'
        self._note(f'{run.name} {how}{where}')

    def _pass_on(self, earlier: int) -> None:
        if not earlier:
            self._note(
                f'stopping: waiting for {count_of(len(self._busy), "run")} to save; '
                'Ctrl-C again ends at once'
            )
        for worker in self._busy:
            worker.kill() if earlier else worker.stop()

    def _ended(self, worker: Worker, status: int, stopping: bool) -> None:
        run, started = self._busy.pop(worker)
        seconds = time.monotonic() - started
        if worker.host and status == UNREACHABLE:
            self._note(f'{worker.host} cannot be reached and is left out: {tail(run, 1)}')
            self._waiting.appendleft(run)
            return
        self._idle.append(worker)
        try:
            finished = is_finished(run)
        except UserError as error:
            self._end(Outcome(run, 'failed', _describe(error), seconds))
            return
        if finished:
            self._end(Outcome(run, 'finished', '', seconds))
        elif stopping:
            step = steps_done(run)
            reason = f'saved at step {step} of {run.total_steps}' if step else 'nothing to save yet'
            self._end(Outcome(run, 'interrupted', reason, seconds))
        else:
            self._retry(run, status, seconds)

    def _retry(self, run: SweepRun, status: int, seconds: float) -> None:
        self._attempts[run.name] += 1
        reason, final = explain(run, status)
        if final or self._attempts[run.name] > self._retries:
            attempts = self._attempts[run.name]
            times = f' (attempt {attempts})' if attempts > 1 else ''
            self._end(Outcome(run, 'failed', reason + times, seconds))
            return
        self._note(f'{run.name}: {reason}; it is retried')
        self._waiting.append(run)

    def _end(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._done(outcome)


def explain(run: SweepRun, status: int) -> tuple[str, bool]:
    """Returns why a process ended before its run, and whether a retry is useless."""
    log = tail(run)
    if 'No space left on device' in log:
        return f'the disk that holds {run.directory} is full', True
    if status < 0:
        name = signal.Signals(-status).name
        memory = ', as when memory runs out' if name == 'SIGKILL' else ''
        return f'killed by {name}{memory}', False
    if status == USER_ERROR:
        return log.rpartition('error: ')[2] or 'exit status 2', True
    if status in (INTERRUPTED, RESUMABLE):
        return f'stopped at step {steps_done(run)} of {run.total_steps}', False
    return f'exit status {status}', False


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f'the disk that holds {error.filename} is full'
    return str(error)
