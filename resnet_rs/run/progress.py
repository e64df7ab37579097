"""The progress of a run: its step, its speed and the remaining time."""

import concurrent.futures
import contextlib
import datetime
import sys
import time

import jax
import tqdm
from absl import logging

from resnet_rs.utils.errors import UserError

# Words of XLA's messages, on an accelerator and on a CPU.
WANT_OF_MEMORY = ('RESOURCE_EXHAUSTED', 'Out of memory')


class Progress:
    """A progress bar in a terminal, or else a log line per logged step.

    Rates exclude evaluation and checkpoints (`paused`); `elapsed_seconds` includes them and
    continues from the value restored with a checkpoint. A thread waits for the result of each step,
    so that measuring the device's time does not block the loop.
    """

    def __init__(
        self,
        total_steps: int,
        first_step: int,
        batch_size: int,
        device_count: int,
        elapsed_seconds: float,
        shown: bool,
    ):
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._device_count = device_count
        self._shown = shown
        self._bar = Bar(
            batch_size,
            total=total_steps,
            initial=first_step,
            dynamic_ncols=True,
            disable=not (shown and sys.stderr.isatty()),
        )
        self._started = time.monotonic() - elapsed_seconds
        self._window_step = self._last_step = first_step
        self._window_started = time.monotonic()
        self._input_seconds = 0.0
        self._watcher = concurrent.futures.ThreadPoolExecutor(1)
        self._given_at = self._window_started
        self._completed_at = self._window_started
        self._steps = []
        self._completed = 0
        self._is_measured = False  # a window was closed

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self._started

    def advance(self, result: jax.Array) -> None:
        """Registers a dispatched step; `result`, one of its outputs, must not be donated."""
        self._last_step += 1
        completion = self._watcher.submit(self._complete, result)
        self._steps.append((self._last_step, self._given_at, completion))
        seconds = time.monotonic() - self._window_started
        if not self._is_measured and self._completed and seconds > 0:
            self._bar.estimate(self._completed * self._batch_size / seconds)
        self._bar.update()

    def _complete(self, result: jax.Array) -> float:
        result.block_until_ready()
        self._completed += 1  # only the watcher's thread writes it
        return time.monotonic()

    @contextlib.contextmanager
    def waiting_for_input(self):
        begin = time.monotonic()
        yield
        self._given_at = time.monotonic()
        self._input_seconds += self._given_at - begin

    @contextlib.contextmanager
    def paused(self, what: str):
        """Excludes the time of this context from the rates; `what` names it in the progress bar.

        The devices first finish the dispatched steps. That time is training and counts for the
        rates, so the pause starts after it.
        """
        begin = time.monotonic()
        self._bar.set_description(what)
        yield
        self._bar.set_description('')
        self._bar.unpause()
        if self._steps:
            *_, last_completion = self._steps[-1]
            begin = max(begin, last_completion.result())
        self._given_at = time.monotonic()
        self._window_started += self._given_at - begin

    def close_window(self, step: int, metrics: dict[str, float]) -> dict[str, float]:
        """Shows `metrics` and returns the times since the last call.

        Keys: seconds_per_step, device_seconds_per_step (completion minus the later of dispatch and
        previous completion), input_seconds_per_step (the host's wait for batches, whether devices
        are busy or not), images_per_second, images_per_second_per_device, elapsed_seconds,
        remaining_seconds.
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
        scores = f'loss {metrics["loss"]:.4f}, top-1 {100 * metrics["top1"]:.1f} %'
        parts = (
            f'{1000 * seconds:.1f} ms a step: {1000 * times["device_seconds_per_step"]:.1f} on the '
            f'device, {1000 * times["input_seconds_per_step"]:.1f} waiting for input'
        )
        self._is_measured = True
        self._bar.show(scores, rate, parts)
        if self._shown and self._bar.disable:
            per_device = ''
            if self._device_count > 1:
                per_device = f' ({rate / self._device_count:.0f} per device)'
            logging.info(
                'step %d of %d: %s, %.0f images/s%s, %s, %s left',
                step,
                self._total_steps,
                scores,
                rate,
                per_device,
                parts,
                _duration(times['remaining_seconds']),
            )
        return times

    def note(self, text: str) -> None:
        """Prints lines above the bar; without a bar they are lines of the log, with their time."""
        if self._shown and self._bar.disable:
            for line in text.splitlines():
                logging.info('%s', line)
        elif self._shown:
            self._bar.write(text, file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self._watcher.shutdown(wait=False, cancel_futures=True)
        self._bar.close()
        if isinstance(error, jax.errors.JaxRuntimeError):
            self._name_step(error)

    def _name_step(self, error: jax.errors.JaxRuntimeError) -> None:
        """Logs which step failed; the traceback does not show it, because steps run asynchronously.

        Raises UserError if memory was exhausted; other failures keep their traceback.
        """
        failed = [
            step
            for step, _, completion in self._steps
            if completion.done() and not completion.cancelled() and completion.exception()
        ]
        place = f'training step {failed[0]}' if failed else f'what follows step {self._last_step}'
        reason = str(error).partition('\n')[0]
        if not any(sign in reason for sign in WANT_OF_MEMORY):
            error.add_note(f'in {place}')
            return
        raise UserError(
            f'{place} ran out of memory: {reason}; use a smaller '
            '--config.batch_size or --config.eval.batch_size, or more '
            '--config.optimizer.accumulation_steps'
        ) from error

    def _device_seconds(self) -> float:
        """Returns the time that the devices spent on steps since the last call."""
        busy = 0.0
        for _, given_at, completion in self._steps:
            completed_at = completion.result()
            busy += max(completed_at - max(given_at, self._completed_at), 0)
            self._completed_at = completed_at
        self._steps = []
        return busy


class Bar(tqdm.tqdm):
    """A progress bar whose line starts with the main figures and never exceeds the terminal.

    80 columns have no room for a bar, and only wide terminals show the parts of a step's time.
    """

    BAR_COLUMNS = 100
    PARTS_COLUMNS = 155

    def __init__(self, batch_size: int, **options):
        self._batch_size = batch_size
        self._scores = self._parts = ''
        self._rate = 0.0  # images per second
        super().__init__(**options)

    def show(self, scores: str, rate: float, parts: str) -> None:
        """Shows the figures of a logged step: two texts, and images per second."""
        self._scores, self._rate, self._parts = scores, rate, parts
        self.refresh()

    def estimate(self, rate: float) -> None:
        """Updates the images per second so far; steps that wait for the device do not count."""
        self._rate = rate

    @property
    def format_dict(self) -> dict:
        """The values that tqdm fills into the line; their `bar_format` is the line itself."""
        values = super().format_dict
        columns = values['ncols'] or 80
        parts = [f'step {self.n}/{self.total}', self._scores]
        if self._rate:
            left = (self.total - self.n) * self._batch_size / self._rate
            parts += [f'{self._rate:.0f} images/s', f'{_duration(left)} left']
        if columns >= self.PARTS_COLUMNS:
            parts.append(self._parts)
        line = '{desc}' + ', '.join(filter(None, parts)).replace('{', '{{').replace('}', '}}')
        if columns >= self.BAR_COLUMNS:
            line = '{percentage:3.0f}% |{bar:10}| ' + line
        return values | {'bar_format': line}


def _duration(seconds: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=round(seconds))
