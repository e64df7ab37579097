"""Calls in a process of their own, for libraries that a damaged file can end or keep for ever."""

import concurrent.futures
import concurrent.futures.process
import importlib
import multiprocessing
import os
import pathlib
import resource
from collections.abc import Callable

GIB = 2**30
SECONDS = 10  # of CPU
BYTES_PER_SECOND = 50e6  # so many more bytes of a file are a second more


class BrokenDown(Exception):
    """The end of a process before its result: by a fault, or at a limit of memory or of time."""


def call_apart(function: Callable, *arguments, size: int, library: str):
    """Returns function(*arguments) from another process, or raises what it raises there.

    The process may take four times `size`, in bytes of the file, and a GiB beyond what `library`
    takes, and SECONDS of CPU and more for a large file. Raises BrokenDown where it has no result.
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
    """Sets the limits, and lets the process say nothing on stderr while it breaks down."""
    importlib.import_module(library)  # what it needs itself comes on top

    used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(spent.ru_utime + spent.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
