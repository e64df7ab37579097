"""Calls in a separate process, for libraries that a damaged file can crash or block for ever."""

import concurrent.futures
import concurrent.futures.process
import importlib
import multiprocessing
import os
import pathlib
import resource
from collections.abc import Callable

GIB = 2**30
SECONDS = 10  # CPU time for a small file
BYTES_PER_SECOND = 50e6  # bytes of a large file that add a second


class BrokenDown(Exception):
    """The end of a process before its result, by a crash or a limit of memory or time."""


def call_apart(function: Callable, *arguments, size: int, library: str):
    """Returns function(*arguments) from another process, or raises its exception.

    The process may use four times `size`, the bytes of the file, plus a GiB, in addition to the
    memory of `library`, and SECONDS of CPU time, more for a large file. Raises BrokenDown if the
    process ends without a result.
    """
    processes = multiprocessing.get_context('forkserver')
    processes.set_forkserver_preload([library])
    limits = 4 * size + GIB, SECONDS + int(size / BYTES_PER_SECOND)
    with concurrent.futures.ProcessPoolExecutor(
        1, processes, _prepare_process, (library, *limits)
    ) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise BrokenDown(f'{library} broke down over a number in it') from error


def _prepare_process(library: str, room: int, seconds: int) -> None:
    """Sets the limits, and silences stderr, because a crashing process prints to it."""
    importlib.import_module(library)  # its own memory is in addition to `room`

    used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(spent.ru_utime + spent.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
