"""Device time and input wait against a timeline written out by hand."""

import io
import threading
import types

import jax
import numpy as np
import pytest

from resnet_rs.run import progress as progress_module
from resnet_rs.run.progress import Bar, Progress
from resnet_rs.utils.errors import UserError


class Clock(threading.local):
    """A clock for every thread: the main one is moved by the test, the watcher by results."""

    now = 0.0

    def monotonic(self):
        return self.now


class Result:
    def __init__(self, clock, ready_at):
        self.clock, self.ready_at = clock, ready_at

    def block_until_ready(self):
        self.clock.now = max(self.clock.now, self.ready_at)


# Per step: when the host asks for the batch, has it, and when the device has finished the step.
FAST_INPUT = [(0, 1, 11), (1, 2, 21), (2, 3, 31)]  # 10 s a step; the device is never idle
SLOW_INPUT = [(0, 15, 25), (15, 30, 40), (30, 45, 55)]  # 10 s a step after 15 s of waiting


@pytest.mark.parametrize(
    ('timeline', 'step', 'device', 'waiting'),
    [
        (FAST_INPUT, 31 / 3, 10, 1),
        (SLOW_INPUT, 55 / 3, 10, 15),
    ],
)
def test_device_time_is_told_from_input_wait(monkeypatch, timeline, step, device, waiting):
    clock = Clock()
    monkeypatch.setattr(progress_module, 'time', types.SimpleNamespace(monotonic=clock.monotonic))
    lines = []
    monkeypatch.setattr(
        progress_module.logging, 'info', lambda text, *values: lines.append(text % values)
    )
    with Progress(100, 0, 8, 2, 0.0, shown=True) as progress:
        for asked, given, ready in timeline:
            clock.now = asked
            with progress.waiting_for_input():
                clock.now = given
            progress.advance(Result(clock, ready))
        clock.now = timeline[-1][2]
        times = progress.close_window(3, {'loss': 1.0, 'top1': 0.5})
    assert times['seconds_per_step'] == pytest.approx(step)
    assert times['device_seconds_per_step'] == pytest.approx(device)
    assert times['input_seconds_per_step'] == pytest.approx(waiting)
    assert f'{1000 * device:.1f} on the device, {1000 * waiting:.1f} waiting for input' in lines[0]


def test_a_pause_begins_when_the_device_has_finished_its_step(monkeypatch):
    """Evaluation is asked for at 2 s and done at 20 s, but the step before it runs until 11 s.

    So 9 s are no part of the 31 s, and of the others the device works on the two steps 10 s each.
    """
    clock = Clock()
    monkeypatch.setattr(progress_module, 'time', types.SimpleNamespace(monotonic=clock.monotonic))
    with Progress(100, 0, 8, 2, 0.0, shown=False) as progress:
        for asked, given, ready, pause_end in ((0, 1, 11, 20), (20, 21, 31, None)):
            clock.now = asked
            with progress.waiting_for_input():
                clock.now = given
            progress.advance(Result(clock, ready))
            if pause_end:
                clock.now = 2
                with progress.paused('evaluating'):
                    clock.now = pause_end
        clock.now = 31
        times = progress.close_window(2, {'loss': 1.0, 'top1': 0.5})
    assert times['seconds_per_step'] == pytest.approx((31 - 9) / 2)
    assert times['device_seconds_per_step'] == pytest.approx(10)
    assert times['input_seconds_per_step'] == pytest.approx(1)


@pytest.mark.parametrize('seed', range(20))
def test_no_part_of_a_step_is_longer_than_the_step(monkeypatch, seed):
    """Timelines drawn at random: a device that lags behind the host, pauses, windows of any length.

    The work of a pause runs on the device after the steps that were dispatched.
    """
    random = np.random.default_rng(seed)
    clock = Clock()
    monkeypatch.setattr(progress_module, 'time', types.SimpleNamespace(monotonic=clock.monotonic))
    ready = 0.0
    with Progress(100, 0, 8, 2, 0.0, shown=False) as progress:
        for step in range(1, 41):
            with progress.waiting_for_input():
                clock.now += random.exponential()
            ready = max(ready, clock.now) + random.exponential(2)
            progress.advance(Result(clock, ready))
            clock.now += random.exponential(0.1)
            if random.random() < 0.3:
                with progress.paused('evaluating'):
                    clock.now = max(clock.now, ready) + random.exponential(3)
            if random.random() < 0.3:
                clock.now = max(clock.now, ready)  # the metrics are fetched
                times = progress.close_window(step, {'loss': 1.0, 'top1': 0.5})
                most = times['seconds_per_step'] * (1 + 1e-9)
                assert 0 < times['device_seconds_per_step'] <= most
                assert 0 < times['input_seconds_per_step'] <= most


def test_the_first_estimate_counts_finished_steps(monkeypatch):
    """One step of 80 images was done after 10 s; three more only wait for the device."""
    clock = Clock()
    monkeypatch.setattr(progress_module, 'time', types.SimpleNamespace(monotonic=clock.monotonic))
    finish = threading.Event()
    waiting = types.SimpleNamespace(block_until_ready=finish.wait)
    bar = Bar(80, total=100, ncols=80, file=io.StringIO())
    with Progress(100, 0, 80, 1, 0.0, shown=False) as progress:
        progress._bar = bar
        progress.advance(Result(clock, 10))
        progress._steps[0][2].result()
        clock.now = 10
        for _ in range(3):
            progress.advance(waiting)
        finish.set()
    assert 'step 4/100, 8 images/s, 0:16:00 left' in str(bar)


def test_what_goes_wrong_on_the_device_is_raised():
    class Broken:
        def block_until_ready(self):
            raise RuntimeError('the device is gone')

    with Progress(100, 0, 8, 2, 0.0, shown=False) as progress:
        progress.advance(Broken())
        with pytest.raises(RuntimeError, match='the device is gone'):
            progress.close_window(1, {'loss': 1.0, 'top1': 0.5})


@pytest.mark.parametrize(
    ('columns', 'line'),
    [
        (80, 'step 49263/109475, loss 2.1234, top-1 56.1 %, 12345 images/s, 5:32:57 left'),
        (
            100,
            ' 45% |####4     | step 49263/109475, loss 2.1234, top-1 56.1 %, '
            '12345 images/s, 5:32:57 left',
        ),
        (
            160,
            ' 45% |####4     | step 49263/109475, loss 2.1234, top-1 56.1 %, '
            '12345 images/s, 5:32:57 left, 331.8 ms a step: 330.1 on the device, '
            '0.2 waiting for input',
        ),
    ],
)
def test_the_line_fits_the_terminal(columns, line):
    """Expects 19,978 s, 5 h 32 min 58 s, for 60,212 steps of 4,096 images at 12,345 a second."""
    bar = Bar(4096, total=109475, initial=49263, ncols=columns, file=io.StringIO())
    bar.show(
        'loss 2.1234, top-1 56.1 %',
        12345.4,
        '331.8 ms a step: 330.1 on the device, 0.2 waiting for input',
    )
    assert str(bar).rstrip() == line and len(line) <= columns
    bar.close()


def test_a_step_without_enough_memory_is_named():
    class TooLarge:
        def block_until_ready(self):
            raise jax.errors.JaxRuntimeError('INTERNAL: Out of memory allocating 9999 bytes')

    class Good:
        def block_until_ready(self):
            pass

    with pytest.raises(UserError, match=r'training step 4 ran out of memory: .* 9999'):
        with Progress(100, 2, 8, 1, 0.0, shown=False) as progress:
            progress.advance(Good())
            progress.advance(TooLarge())
            progress.advance(TooLarge())
            progress.close_window(5, {'loss': 1.0, 'top1': 0.5})


def test_another_failure_keeps_its_traceback_and_says_where():
    with pytest.raises(jax.errors.JaxRuntimeError, match='halted') as failure:
        with Progress(100, 2, 8, 1, 0.0, shown=False):
            raise jax.errors.JaxRuntimeError('INTERNAL: the core halted')
    assert failure.value.__notes__ == ['in what follows step 2']


def test_notes_are_lines_of_the_log_where_there_is_no_bar(caplog):
    caplog.set_level('INFO', 'absl')
    with Progress(10, 0, 8, 1, 0.0, shown=True) as progress:
        progress.note('raw: 1\nema: 2')
    with Progress(10, 0, 8, 1, 0.0, shown=False) as progress:
        progress.note('of another process')
    assert [record.getMessage() for record in caplog.records] == ['raw: 1', 'ema: 2']
