"""Barriers between the processes of a run, and a watchdog that ends them together.

The processes of a pod slice (one per host) share the key-value store of JAX's coordination
service, which runs in process 0. This module uses the store alone and touches no device, so it
works before a backend exists and while the devices wait for a lost process.

A process that fails tells the others why; process 0 names a process that stops answering. In both
cases all processes end within seconds, with one line each, instead of waiting in a collective. If
process 0 itself is killed, JAX ends the others at once and prints lines of its own.
"""

import atexit
import collections
import contextlib
import itertools
import json
import os
import re
import socket
import sys
import threading
import time
import traceback

from jax._src.distributed import global_state  # JAX has no public door to its key-value store
from jax.errors import JaxRuntimeError

from resnet_rs.utils.errors import Stopped, UserError, count_of, print_line

BARRIER_SECONDS = 600  # the slowest host may read a dataset's metadata or restore a checkpoint
HOST_LOST_STATUS = os.EX_TEMPFAIL  # 75: the run itself has no error and can be resumed
BEAT_SECONDS = 1
# The first words of XLA's errors after the loss of a peer, as JaxRuntimeError or as ValueError.
FAILED_COLLECTIVE = re.compile(
    'UNKNOWN|UNAVAILABLE|ABORTED|CANCELLED|INTERNAL|DEADLINE_EXCEEDED|FAILED_PRECONDITION'
)
GRACE_SECONDS = 2  # lets a process end by its own error, and process 0 reach the others

_BEATS, _HOSTS, _END = 'resnet_rs/beat', 'resnet_rs/host', 'resnet_rs/end'
_DONE = 'done'

_watch = None
_uses = collections.defaultdict(itertools.count)


def count() -> int:
    """Returns the number of processes; unlike jax.process_count() it starts no backend."""
    return global_state.num_processes


def index() -> int:
    return global_state.process_id


def name(process: int) -> str:
    """Returns 'process 2 of 4 (HOSTNAME)'."""
    if process == index():
        return _name(process, socket.gethostname())
    try:
        host = global_state.client.key_value_try_get(f'{_HOSTS}/{process}')
    except JaxRuntimeError:  # the process has not stored its host yet
        host = 'host not known'
    return _name(process, host)


def _name(process: int, host: str) -> str:
    return f'process {process} of {count()} ({host})'


def gather(what: str, value: str, timeout_seconds: float = BARRIER_SECONDS) -> list[str]:
    """Waits for all processes at this call and returns the `value` of each, in their order.

    `what` describes the value in words; all processes must gather the same values in the same
    order. Raises UserError naming the processes that do not arrive within `timeout_seconds`.
    """
    if count() == 1:
        return [value]
    client = global_state.client
    place = f'resnet_rs/gather/{what}/{next(_uses[what])}'
    client.key_value_set(f'{place}/{index()}', value)
    try:
        client.wait_at_barrier(place, int(1000 * timeout_seconds))
    except JaxRuntimeError as error:
        came = _read(place)
        missing = [name(process) for process in range(count()) if process not in came]
        if not missing:
            raise
        raise UserError(
            f'{name(index())} waited {timeout_seconds:g} s at {what!r} for {", ".join(missing)}; '
            'see what those say, then start the same command on every host again'
        ) from error
    values = _read(place)
    return [values[process] for process in range(count())]


def barrier(what: str, timeout_seconds: float = BARRIER_SECONDS) -> None:
    """Waits for all processes; raises UserError naming those that do not arrive."""
    gather(what, '', timeout_seconds)


def agree_or_raise(what: str, problem: str, timeout_seconds: float = BARRIER_SECONDS) -> None:
    """Raises the same UserError on all processes if any of them has a `problem`."""
    problems = gather(what, problem, timeout_seconds)
    if found := [problem for problem in problems if problem]:
        more = f' (and {count_of(len(found) - 3, "more process")})' if len(found) > 3 else ''
        raise UserError('; '.join(found[:3]) + more)


def _read(place: str) -> dict[int, str]:
    entries = global_state.client.key_value_dir_get(place)
    return {int(key.rpartition('/')[2]): value for key, value in entries}


def start_watch(lost_after_seconds: float) -> None:
    """Starts a thread that ends this process when another one fails or stops answering."""
    global _watch
    if count() > 1:
        _watch = _Watch(lost_after_seconds)
        _watch.start()
        atexit.register(_watch.close)  # runs before JAX leaves the service


@contextlib.contextmanager
def ending_together(*types: type[Exception]):
    """Ends all processes, each with the reason, when an error is raised in this context.

    In a run of one process errors pass through. With several processes, errors of one of the
    `types` print one line and have status 2, as in `one_line_errors`; others keep their
    traceback. A failed collective is blamed on this process only after the watchdog has seen all
    other processes alive.
    """
    try:
        yield
    except Stopped:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if _watch is None:
            raise
        if FAILED_COLLECTIVE.match(str(error)):
            print_line(f'to see if a process was lost, after {_first_line(error)}', 'waiting')
            _watch.wait_for_verdict()
        is_user_error = isinstance(error, types)
        if is_user_error:
            print_line(error)
        else:
            traceback.print_exc()
        status = 2 if is_user_error else 1
        _watch.close()
        _tell(f'{name(index())} ended: {_first_line(error)}', status)
        time.sleep(2 * GRACE_SECONDS)
        _leave(status)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or ['']
    return f'{type(error).__name__}: {lines[0]}' if lines[0] else type(error).__name__


def _tell(reason: str, status: int) -> None:
    try:
        global_state.client.key_value_set(_END, json.dumps({'reason': reason, 'status': status}))
    except JaxRuntimeError:  # another reason was there first, or process 0 is gone
        return


def _leave(status: int) -> None:
    """Ends the process at once, because a normal exit waits for processes that may be lost."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # the pipes may be closed
        os._exit(status)


class _Watch(threading.Thread):
    """Watchdog thread: stores heartbeats, and waits for a reason to end.

    Process 0 checks the heartbeats of all processes. The others only wait, so that the traffic
    grows linearly with the number of hosts.
    """

    def __init__(self, lost_after_seconds: float):
        super().__init__(name='watch over the other processes', daemon=True)
        self.lost_after_seconds = lost_after_seconds
        self._client = global_state.client
        self._closing, self._ending = threading.Event(), threading.Event()
        self._beating = threading.Lock()
        self._last = {process: (None, time.monotonic()) for process in range(count())}
        self._client.key_value_set(f'{_HOSTS}/{index()}', socket.gethostname())

    def run(self):
        for beat in itertools.count():
            try:
                with self._beating:
                    if not self._closing.is_set():
                        self._beat(str(beat))
                if index() == 0 and (silent := self._silent()):
                    _tell(
                        f'{", ".join(map(name, silent))} stopped answering, '
                        f'{self.lost_after_seconds:g} s ago or more',
                        HOST_LOST_STATUS,
                    )
                end = json.loads(self._client.blocking_key_value_get(_END, 1000 * BEAT_SECONDS))
            except JaxRuntimeError as error:
                if self._closing.is_set():
                    return
                if str(error).startswith('DEADLINE_EXCEEDED'):  # no reason to end
                    continue
                end = {
                    'reason': f'process 0 of {count()} at {global_state.coordinator_address} '
                    'stopped answering',
                    'status': HOST_LOST_STATUS,
                }
                self._ending.set()
            else:
                self._ending.set()
                time.sleep(GRACE_SECONDS * (2 if index() == 0 else 1))
            if self._closing.is_set():
                return
            line = end['reason']
            if end['status'] == HOST_LOST_STATUS:
                line += '; the same command resumes from the last checkpoint'
            try:
                print_line(line)
            finally:
                _leave(end['status'])

    def wait_for_verdict(self):
        """Waits until all processes have been seen alive; never returns if one was lost."""
        if self._ending.wait(self.lost_after_seconds + 10 * BEAT_SECONDS):
            self.join()

    def close(self):
        """Marks this process as finished, so that it need not answer any more, and stops."""
        with self._beating:
            if not self._closing.is_set():
                self._closing.set()
                with contextlib.suppress(JaxRuntimeError):  # process 0 may have left already
                    self._beat(_DONE)
        # A thread that waits inside JAX while Python exits aborts the process.
        self.join(10 * BEAT_SECONDS)

    def _beat(self, value: str):
        self._client.key_value_set(f'{_BEATS}/{index()}', value, allow_overwrite=True)

    def _silent(self) -> list[int]:
        now = time.monotonic()
        beats = _read(_BEATS)
        for process, (beat, _) in self._last.items():
            if beats.get(process) != beat:
                self._last[process] = (beats[process], now)
        return [
            process
            for process, (beat, since) in self._last.items()
            if beat != _DONE and now - since > self.lost_after_seconds
        ]
