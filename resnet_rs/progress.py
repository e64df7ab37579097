"""How far a run is, how fast it goes, and when it will end."""

import concurrent.futures
import contextlib
import datetime
import sys
import time

import jax
import tqdm
from absl import logging


class Progress:
    """A progress bar on a terminal, a log line per logged step elsewhere.

    Rates leave out evaluation and checkpoints (`paused`); `elapsed_seconds` counts them, and goes
    on from the value restored with a checkpoint. The time a device takes for a step is known
    without holding the loop up: a thread of its own waits for each step's result.
    """

    def __init__(
        self, total_steps: int, first_step: int, batch_size: int, device_count: int,
        elapsed_seconds: float, shown: bool,
    ):
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._device_count = device_count
        self._shown = shown
        self._bar = tqdm.tqdm(
            total=total_steps, initial=first_step, unit='step', dynamic_ncols=True,
            disable=not (shown and sys.stderr.isatty()),
        )
        self._started = time.monotonic() - elapsed_seconds
        self._window_step = first_step
        self._window_started = time.monotonic()
        self._input_seconds = 0.0
        self._watcher = concurrent.futures.ThreadPoolExecutor(1)
        self._given_at = self._window_started
        self._completed_at = self._window_started
        self._steps = []

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self._started

    def advance(self, result: jax.Array) -> None:
        """Counts a step that the devices were given; `result` is an output of it that stays."""
        self._steps.append((self._given_at, self._watcher.submit(_completion, result)))
        self._bar.update()

    @contextlib.contextmanager
    def waiting_for_input(self):
        begin = time.monotonic()
        yield
        self._given_at = time.monotonic()
        self._input_seconds += self._given_at - begin

    def compiling(self):
        return self.paused('compiling')

    @contextlib.contextmanager
    def paused(self, what: str):
        """Names what is done beside training and leaves its time out of the rates.

        Devices first finish the steps that they were given before. That is training and belongs
        to the rates, so the pause is counted from when they have.
        """
        begin = time.monotonic()
        self._bar.set_description(what)
        yield
        self._bar.set_description('')
        if self._steps:
            _, last_completion = self._steps[-1]
            begin = max(begin, last_completion.result())
        self._given_at = time.monotonic()
        self._window_started += self._given_at - begin

    def close_window(self, step: int, metrics: dict[str, float]) -> dict[str, float]:
        """Shows `metrics` and returns the times since the last call.

        Keys: seconds_per_step, device_seconds_per_step (of it, until the step's result was there,
        from the end of the step before or from when the device got it, whichever was later),
        input_seconds_per_step (spent by the host waiting for a batch, be the devices busy or not),
        images_per_second, images_per_second_per_device, elapsed_seconds, remaining_seconds.
        """
        device_seconds = self._device_seconds()
        now = time.monotonic()
        steps = step - self._window_step
        seconds = max(now - self._window_started, 1e-9) / max(steps, 1)
        rate = self._batch_size / seconds
        times = {
            'seconds_per_step': seconds,
            'device_seconds_per_step': device_seconds / max(steps, 1),
            'input_seconds_per_step': self._input_seconds / max(steps, 1),
            'images_per_second': rate,
            'images_per_second_per_device': rate / self._device_count,
            'elapsed_seconds': self.elapsed_seconds,
            'remaining_seconds': seconds * (self._total_steps - step),
        }
        self._window_step, self._window_started, self._input_seconds = step, now, 0.0
        status = (
            f'loss {metrics["loss"]:.4f}, top-1 {100 * metrics["top1"]:.1f} %, '
            f'{rate:.0f} images/s, {rate / self._device_count:.0f} per device, '
            f'step {1000 * seconds:.1f} ms: {1000 * times["device_seconds_per_step"]:.1f} on the '
            f'device, {1000 * times["input_seconds_per_step"]:.1f} waiting for input'
        )
        self._bar.set_postfix_str(status)
        if self._shown and self._bar.disable:
            left = datetime.timedelta(seconds=round(times['remaining_seconds']))
            logging.info('step %d of %d: %s, %s left', step, self._total_steps, status, left)
        return times

    def note(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._shown:
            self._bar.write(text, file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._watcher.shutdown(wait=False, cancel_futures=True)
        self._bar.close()

    def _device_seconds(self) -> float:
        """The time the devices were at work on the steps since the last call."""
        busy = 0.0
        for given_at, completion in self._steps:
            completed_at = completion.result()
            busy += max(completed_at - max(given_at, self._completed_at), 0)
            self._completed_at = completed_at
        self._steps = []
        return busy


def _completion(result: jax.Array) -> float:
    result.block_until_ready()
    return time.monotonic()
