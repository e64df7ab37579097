"""A lock on a work directory, so that two runs or two sweeps never write to the same one.

On a file system it is a lock of the kernel (flock, also over NFS), which is released when its owner
ends for any reason. A bucket has no such lock; there the owner renews a file every RENEWAL_SECONDS,
and another process takes over a file that is STALE_SECONDS old.
"""

import contextlib
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


@contextlib.contextmanager
def locked(workdir: str | os.PathLike, file_name: str) -> Iterator[int | None]:
    """Holds the lock WORKDIR/file_name; yields its descriptor, or None on a bucket.

    A child process that inherits the descriptor also holds the lock. Raises UserError naming the
    owner's host and process if the lock is held.
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
        file.truncate(0)
        file.write(_owner())
        file.flush()
        yield file.fileno()


def _held(path, owner: str) -> UserError:
    return UserError(
        f'{path.parent} is in use by {owner or "a process that has just started"}, or by a process '
        f'that it left behind ({path.name}); wait, stop it first, or name another directory'
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

    _raise_if_held(path, token)
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
        if path.exists() and _held_by(path)[1] == token:  # not expired and taken over
            path.unlink()


def _raise_if_held(path, token: str) -> None:
    if not path.exists():
        return
    owner, other, age = _held_by(path)
    if other != token and age < STALE_SECONDS:
        raise _held(path, owner)


def _held_by(path) -> tuple[str, str, float]:
    """Returns the owner in the file of a lock, its token, and the seconds since it was renewed."""
    try:
        held = json.loads(path.read_text())
        return held['owner'], held['token'], time.time() - held['time']
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is damaged ({error}); remove it if no run uses it') from error
