"""One sweep at a time in one directory."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from resnet_rs.errors import UserError

LOCK_FILE = 'sweep.lock'


@contextlib.contextmanager
def locked(workdir: str | os.PathLike) -> Iterator[int]:
    """Holds the directory for this sweep; yields the lock's descriptor, for the runs to inherit.

    The kernel frees the lock when the last process that holds it has ended, so a sweep that was
    killed leaves none behind, but a run that outlived it does. Raises UserError when it is held.
    """
    path = pathlib.Path(workdir) / LOCK_FILE
    with path.open('a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f'{workdir} is in use by a sweep, {file.read().strip() or "just started"}, or by '
                'a run that it left behind; wait, or stop it first'
            ) from None
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        os.set_inheritable(file.fileno(), True)
        yield file.fileno()
