"""Ctrl-C before the first step is one line and status 130, whatever the process is doing."""

import signal
import subprocess
import sys

import jax
import pytest

from resnet_rs.run.signals import INTERRUPTED, RESUMABLE, StopRequest


@pytest.mark.parametrize(
    'work',
    (
        'import time; time.sleep(60)',
        'while True: pass',
        # One call into C that takes minutes, as compiling does; it lets other threads run.
        'import hashlib; hashlib.pbkdf2_hmac("sha512", b"", b"", 2**31 - 1)',
    ),
)
def test_ctrl_c_ends_the_process_at_once(work):
    program = (
        'from resnet_rs.run import signals\n'
        'signals.end_at_once()\n'
        'print("ready", flush=True)\n' + work
    )
    with subprocess.Popen(
        [sys.executable, '-c', program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED == 130
    assert errors == 'stopped: by Ctrl-C; the same command starts or resumes the run\n'


@pytest.mark.parametrize(
    'number, status',
    (
        (signal.SIGINT, INTERRUPTED),
        (signal.SIGTERM, RESUMABLE),
    ),
)
def test_a_request_is_remembered_until_the_step_has_ended(number, status):
    assert jax.process_count() == 1
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.reached(1)
        signal.raise_signal(number)
        assert stop.reached(2) and stop.status == status
    assert signal.getsignal(number) is before


def test_ctrl_c_reaches_the_service_of_several_processes(monkeypatch):
    """JAX's service, which stops all processes after one step, handles SIGTERM alone."""
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGINT)
            assert received == [signal.SIGTERM] and stop.status == INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
