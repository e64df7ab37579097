"""Several processes as one run: they wait for each other by name, and end together.

The processes of a pod slice (one per host) share the key-value store of jax's coordination
service, which process 0 keeps. Everything here goes through it and no device is touched, so it
works before a backend is there and while the devices wait for a process that is gone.

A process that raises tells the others why; one that falls silent is named by process 0. Either
way all of them end within seconds, with one line each, instead of waiting in a collective. When
process 0 itself is killed jax ends the others at once, with lines of its own beside ours.
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

from jax._src.distributed import global_state
from jax.errors import JaxRuntimeError

from resnet_rs.utils.errors import Stopped, UserError, count_of, print_line

BARRIER_SECONDS = 600  # the slowest host may read a dataset's metadata or restore a checkpoint
HOST_LOST_STATUS = os.EX_TEMPFAIL  # 75: nothing is wrong with the run, start it again
BEAT_SECONDS = 1
# How XLA's errors begin when a peer is gone, as JaxRuntimeError or as ValueError.
FAILED_COLLECTIVE = re.compile(
    'UNKNOWN|UNAVAILABLE|ABORTED|CANCELLED|INTERNAL|DEADLINE_EXCEEDED|FAILED_PRECONDITION'
)
GRACE_SECONDS = 2  # for a process to end by its own error, and for process 0 to be heard

_BEATS, _HOSTS, _END = 'resnet_rs/beat', 'resnet_rs/host', 'resnet_rs/end'
_DONE = 'done'

_watch = None
_uses = collections.defaultdict(itertools.count)


def count() -> int:
    """Processes of this run; unlike jax.process_count() it starts no backend."""
    return global_state.num_processes


def index() -> int:
    return global_state.process_id


def name(process: int) -> str:
    """'process 2 of 4 (HOSTNAME)'."""
    if process == index():
        return _name(process, socket.gethostname())
    try:
        host = global_state.client.key_value_try_get(f'{_HOSTS}/{process}')
    except JaxRuntimeError:  # it has not said so yet
        host = 'host not known'
    return _name(process, host)


def _name(process: int, host: str) -> str:
    return f'process {process} of {count()} ({host})'


def gather(what: str, value: str, timeout_seconds: float = BARRIER_SECONDS) -> list[str]:
    """`value` of every process, in their order, when all of them have come to this place.

    `what` says in words what is gathered; the processes have to gather the same things in the
    same order. Raises UserError with the processes that did not come within `timeout_seconds`.
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
    """Returns when every process is here; raises UserError naming those that did not come."""
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
    """From now on, ends this process when another one ends by an error or stops answering."""
    global _watch
    if count() > 1:
        _watch = _Watch(lost_after_seconds)
        _watch.start()
        atexit.register(_watch.close)  # runs before jax leaves the service


@contextlib.contextmanager
def ending_together(*mistakes: type[Exception]):
    """An error in here ends every process, each with the reason.

    With one process errors pass through. With several, those of the kind `mistakes` are one line
    and status 2, as `one_line_errors` has it; others keep their traceback. A collective that
    failed is no error of this process until it is known that all the others are still there.
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
        is_mistake = isinstance(error, mistakes)
        if is_mistake:
            print_line(error)
        else:
            traceback.print_exc()
        status = 2 if is_mistake else 1
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
    """Ends the process at once: the usual way waits for processes that may be gone."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # nobody may be reading any more
        os._exit(status)


class _Watch(threading.Thread):
    """Beats in the key-value store, and waits there for the reason to end.

    Process 0 looks at all beats. The others only wait, so that the traffic grows with the number
    of hosts and not with its square.
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
            hint = '; the same command resumes from the last checkpoint'
            try:
                print_line(end['reason'] + hint * (end['status'] == HOST_LOST_STATUS))
            finally:
                _leave(end['status'])

    def wait_for_verdict(self):
        """Does not return if another process was lost: the watch ends this one."""
        if self._ending.wait(self.lost_after_seconds + 10 * BEAT_SECONDS):
            self.join()

    def close(self):
        """Says that this process is well and needs no answering for any more."""
        with self._beating:
            if not self._closing.is_set():
                self._closing.set()
                with contextlib.suppress(JaxRuntimeError):  # process 0 may have left already
                    self._beat(_DONE)
        # A thread that waits inside jax while Python ends aborts the process.
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
