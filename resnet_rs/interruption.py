"""Requests to stop: SIGTERM (a preempted machine, a scheduler) and Ctrl-C."""

import signal

import jax
from jax.experimental import multihost_utils


class StopRequest:
    """While open, the first SIGTERM or Ctrl-C is remembered instead of ending the process.

    With several processes jax's coordination service spreads the request, so that all of them
    stop after the same step. A second Ctrl-C ends the process at once.
    """

    def __enter__(self):
        self._received = False
        # jax's own service listens for SIGTERM once the processes are connected.
        numbers = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
        self._previous = {number: signal.signal(number, self._remember) for number in numbers}
        return self

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number, frame):
        del frame
        self._received = True
        signal.signal(number, self._previous[number])

    def reached(self, step: int) -> bool:
        """True after the step at which every process should save and stop."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received
