"""A lock on a work directory, so that two runs or two sweeps never write to the same one.

On a file system it is a lock of the kernel (flock, also over NFS), which is released when its owner
ends for any reason. A bucket has no such lock; there the owner renews a file every RENEWAL_SECONDS,
and another process takes over a file that is STALE_SECONDS old. It waits for that, because an owner
that was killed, or ended at once when another host was lost, leaves a file of any age.
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from absl import logging
from etils import epath

from resnet_rs.utils.errors import UserError

RUN_LOCK = 'run.lock'
SWEEP_LOCK = 'sweep.lock'
RENEWAL_SECONDS = 20
STALE_SECONDS = 120
POLL_SECONDS = 2
# A file system without locks, or a network's without a server of locks.
_WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)


@contextlib.contextmanager
def locked(workdir: str | os.PathLike, file_name: str) -> Iterator[int | None]:
    """Holds the lock WORKDIR/file_name; yields its descriptor, or None on a bucket.

    A child process that inherits the descriptor also holds the lock. Raises UserError naming the
    owner's host and process if the lock is held, and for a file system that has no locks.
    """
    if '://' in os.fspath(workdir):
        with _renewed(epath.Path(workdir) / file_name):
            yield None
        return
    directory = pathlib.Path(workdir)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / file_name).open('a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _held(directory / file_name, file.read().strip()) from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            raise UserError(
                f'{directory} is on a file system without locks ({error.strerror}), where two runs '
                'could write to one directory; name a directory on another, or mount it with locks'
            ) from error
        file.truncate(0)
        file.write(_owner())
        file.flush()
        yield file.fileno()


def _held(path, owner: str) -> UserError:
    owner = f'{owner} or by a process that it started' if owner else 'a process that just started'
    return UserError(
        f'{path.parent} is locked by {owner} ({path.name}); wait for it, end it, or name another '
        'directory'
    )


def _owner() -> str:
    return f'process {os.getpid()} on {socket.gethostname()}'


@contextlib.contextmanager
def _renewed(path) -> Iterator[None]:
    """Holds a lock whose age shows whether its owner is alive.

    Two processes that start within a second of each other both write the file. The later one keeps
    the lock, because each reads the file again before it proceeds.
    """
    token = uuid.uuid4().hex

    def renew():
        path.write_text(json.dumps({'owner': _owner(), 'token': token, 'time': time.time()}))

    _wait_for_end_of_owner(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    renew()
    time.sleep(min(2, RENEWAL_SECONDS))
    _raise_if_held(path, token)
    ended = threading.Event()

    def keep_renewing():
        while not ended.wait(RENEWAL_SECONDS):
            try:
                renew()
            except Exception as error:  # of whichever library writes to the bucket
                logging.warning('%s was not renewed (%s); trying again', path, error)

    thread = threading.Thread(target=keep_renewing, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        found = _read_lock(path)
        if found and found.token == token:  # not expired and taken over
            path.unlink()


def _wait_for_end_of_owner(path) -> None:
    """Waits until the lock is gone or stale; raises UserError as soon as it is seen renewed."""
    first, since = _read_lock(path), time.monotonic()
    if first is None or first.age() >= STALE_SECONDS:
        return
    logging.info(
        '%s was renewed %.0f s ago by %s: waiting up to %.0f s to see whether that still runs',
        path,
        first.age(),
        first.owner,
        STALE_SECONDS - first.age(),
    )
    # Time since the first look counts as well, because the clocks of two hosts may differ.
    while first.age() < STALE_SECONDS and time.monotonic() - since < STALE_SECONDS:
        time.sleep(min(POLL_SECONDS, RENEWAL_SECONDS))
        now = _read_lock(path)
        if now is None:
            return
        if now != first:
            raise _held(path, now.owner)


def _raise_if_held(path, token: str) -> None:
    found = _read_lock(path)
    if found and found.token != token and found.age() < STALE_SECONDS:
        raise _held(path, found.owner)


@dataclasses.dataclass(frozen=True)
class _Lock:
    """The contents of the file of a lock: its owner in words, its token, when it was renewed."""

    owner: str
    token: str
    time: float

    def age(self) -> float:
        """Returns the seconds since it was renewed."""
        return time.time() - self.time


def _read_lock(path) -> _Lock | None:
    """Returns what the file of a lock holds, None where there is none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        held = json.loads(text)
        return _Lock(held['owner'], held['token'], float(held['time']))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is damaged ({error}); remove it if no run uses it') from error
