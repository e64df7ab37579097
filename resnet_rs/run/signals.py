"""Requests to stop: Ctrl-C, and SIGTERM (from a scheduler or a machine about to be preempted).

This module imports JAX only when a run uses it, because main.py imports the module first.
"""

import os
import signal
import threading

from resnet_rs.utils.errors import print_line

INTERRUPTED = 130  # the exit status that shells give Ctrl-C
RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: the same command resumes the run


def end_at_once() -> None:
    """Makes Ctrl-C end this process at once, with one line and status 130.

    A thread handles the signal, because Python runs handlers only between two bytecodes of the main
    thread, and importing and compiling block that thread for seconds.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch():
        while signal.SIGINT not in os.read(reader, 1):
            pass
        print_line('by Ctrl-C; the same command starts or resumes the run', 'stopped')
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, name='waits for Ctrl-C', daemon=True).start()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, lambda number, frame: None)


class StopRequest:
    """Context manager that records the first SIGTERM or Ctrl-C instead of ending the process.

    JAX's coordination service passes the request to all processes, so that they stop after the same
    step. A second Ctrl-C ends the process at once.
    """

    def __enter__(self):
        import jax

        self._received = None
        # JAX's service handles SIGTERM once the processes are connected.
        numbers = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
        self._wakeup = signal.set_wakeup_fd(-1)
        self._previous = {number: signal.signal(number, self._remember) for number in numbers}
        return self

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)

    @property
    def status(self) -> int:
        """The exit status of a run that stops now."""
        return INTERRUPTED if self._received == signal.SIGINT else RESUMABLE

    def reached(self, step: int) -> bool:
        """Returns whether every process should save and stop after this step."""
        import jax
        from jax.experimental import multihost_utils

        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received is not None

    def _remember(self, number, frame):
        import jax

        del frame
        self._received = number
        signal.signal(number, self._end)
        if jax.process_count() > 1:  # the service of JAX knows SIGTERM alone
            os.kill(os.getpid(), signal.SIGTERM)

    def _end(self, number, frame):
        del frame
        print_line(
            'at once, without saving; the same command resumes the last checkpoint', 'stopped'
        )
        os._exit(128 + number)
