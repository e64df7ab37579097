"""How far a run is, how fast it goes, and when it will end."""

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
    """A progress bar on a terminal, a log line per logged step elsewhere.

    Rates leave out evaluation and checkpoints (`paused`); `elapsed_seconds` counts them, and goes
    on from the value restored with a checkpoint. The time a device takes for a step is known
    without holding the loop up: a thread of its own waits for each step's result.
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
        """Counts a step that the devices were given; `result` is an output of it that stays."""
        self._last_step += 1
        completion = self._watcher.submit(self._complete, result)
        self._steps.append((self._last_step, self._given_at, completion))
        seconds = time.monotonic() - self._window_started
        if not self._is_measured and self._completed and seconds > 0:
            self._bar.estimate(self._completed * self._batch_size / seconds)
        self._bar.update()

    def _complete(self, result: jax.Array) -> float:
        result.block_until_ready()
        self._completed += 1  # in the one thread of the watcher
        return time.monotonic()

    @contextlib.contextmanager
    def waiting_for_input(self):
        begin = time.monotonic()
        yield
        self._given_at = time.monotonic()
        self._input_seconds += self._given_at - begin

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
        self._bar.unpause()
        if self._steps:
            *_, last_completion = self._steps[-1]
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
        """A line of its own, above the bar."""
        if self._shown:
            self._bar.write(text, file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self._watcher.shutdown(wait=False, cancel_futures=True)
        self._bar.close()
        if isinstance(error, jax.errors.JaxRuntimeError):
            self._name_step(error)

    def _name_step(self, error: jax.errors.JaxRuntimeError) -> None:
        """Says which step failed; steps run while Python is elsewhere, so that no frame tells.

        Raises UserError for a want of memory; other failures keep their traceback.
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
            f'{place} found too little memory: {reason}; use a smaller '
            '--config.batch_size or --config.eval.batch_size, or more '
            '--config.optimizer.accumulation_steps'
        ) from error

    def _device_seconds(self) -> float:
        """The time the devices were at work on the steps since the last call."""
        busy = 0.0
        for _, given_at, completion in self._steps:
            completed_at = completion.result()
            busy += max(completed_at - max(given_at, self._completed_at), 0)
            self._completed_at = completed_at
        self._steps = []
        return busy


class Bar(tqdm.tqdm):
    """A progress bar whose line has what matters first and is never wider than the terminal.

    80 columns have no room for a bar, and only wide terminals for the parts of a step's time.
    """

    BAR_COLUMNS = 100
    PARTS_COLUMNS = 155

    def __init__(self, batch_size: int, **options):
        self._batch_size = batch_size
        self._scores = self._parts = ''
        self._rate = 0.0  # images per second
        super().__init__(**options)

    def show(self, scores: str, rate: float, parts: str) -> None:
        """Takes the numbers of a logged step: two texts, and images per second."""
        self._scores, self._rate, self._parts = scores, rate, parts
        self.refresh()

    def estimate(self, rate: float) -> None:
        """Takes the images per second so far; steps that wait for the device do not count."""
        self._rate = rate

    @property
    def format_dict(self) -> dict:
        """Values that tqdm fills into the line; their `bar_format` is the line itself."""
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
