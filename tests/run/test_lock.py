"""Two processes on one work directory: the second one names its owner, and nothing is lost."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from etils import epath

from resnet_rs.run import lock
from resnet_rs.run.lock import RUN_LOCK, locked
from resnet_rs.utils.errors import UserError


def test_a_second_process_is_told_who_is_at_work(tmp_path):
    with locked(tmp_path, RUN_LOCK):
        with pytest.raises(UserError) as error:
            with locked(tmp_path, RUN_LOCK):
                pass
        assert str(error.value) == (
            f'{tmp_path} is locked by process {os.getpid()} on {socket.gethostname()} or by a '
            'process that it started (run.lock); wait for it, end it, or name another directory'
        )
        with locked(tmp_path, 'another.lock'):
            pass
    with locked(tmp_path, RUN_LOCK):
        pass


def test_a_killed_process_leaves_the_lock_to_its_children_and_then_to_nobody(tmp_path):
    program = (
        'import subprocess, sys, time, os\n'
        'from resnet_rs.run.lock import RUN_LOCK, locked\n'
        f'with locked({str(tmp_path)!r}, RUN_LOCK) as lock:\n'
        '    run = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))\n'
        '    print(run.pid, flush=True)\n'
        '    time.sleep(60)\n'
    )
    with subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE) as owner:
        child = int(owner.stdout.readline())
        owner.kill()
    try:
        with pytest.raises(UserError, match=f'process {owner.pid} on .* that it started'):
            with locked(tmp_path, RUN_LOCK):
                pass
    finally:
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with locked(tmp_path, RUN_LOCK):
                return
        except UserError:
            time.sleep(0.02)
    pytest.fail('the lock outlived its processes')


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, 'RENEWAL_SECONDS', 0.05)
    monkeypatch.setattr(lock, 'STALE_SECONDS', 1.0)
    read = lock._read_lock

    def read_whole(path):
        """A bucket shows no half-written file."""
        for _ in range(20):
            with contextlib.suppress(UserError):
                return read(path)
            time.sleep(0.01)
        return read(path)

    monkeypatch.setattr(lock, '_read_lock', read_whole)


def test_the_lock_of_a_bucket_is_renewed_and_ends_with_its_owner(tmp_path, quick):
    path = epath.Path(tmp_path) / 'run' / RUN_LOCK
    with lock._renewed(path):
        first = json.loads(path.read_text())['time']
        with pytest.raises(UserError, match=f'locked by process {os.getpid()} on'):
            with lock._renewed(path):
                pass
        deadline = time.monotonic() + 20
        while json.loads(path.read_text() or '{"time": 0}')['time'] <= first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not path.exists()


def test_the_lock_of_a_bucket_is_taken_over_when_its_owner_is_gone(tmp_path, quick):
    path = epath.Path(tmp_path) / RUN_LOCK
    path.write_text(json.dumps({'owner': 'process 1 on x', 'token': 'a', 'time': time.time() - 2}))
    with lock._renewed(path):
        assert json.loads(path.read_text())['owner'] == f'process {os.getpid()} on ' + (
            socket.gethostname()
        )
    path.write_text('{')
    with pytest.raises(UserError, match='is damaged .* remove it if no run uses it'):
        with lock._renewed(path):
            pass


def test_a_start_waits_until_the_lock_of_a_lost_owner_is_stale(tmp_path, quick, caplog):
    """A process that ends at once, as after the loss of another host, has just renewed its lock."""
    caplog.set_level('INFO', 'absl')
    path = epath.Path(tmp_path) / RUN_LOCK
    left = {'owner': 'process 1 on x', 'token': 'a', 'time': time.time()}
    path.write_text(json.dumps(left))
    with lock._renewed(path):
        assert time.time() - left['time'] >= 1
        assert json.loads(path.read_text())['token'] != 'a'
    assert 's ago by process 1 on x: waiting up to 1 s to see whether' in caplog.text


def test_a_start_waits_no_longer_than_that_for_an_owner_whose_clock_is_ahead(tmp_path, quick):
    path = epath.Path(tmp_path) / RUN_LOCK
    ahead = {'owner': 'process 1 on x', 'token': 'a', 'time': time.time() + 3600}
    path.write_text(json.dumps(ahead))
    begun = time.monotonic()
    lock._wait_for_end_of_owner(path)
    assert 1 <= time.monotonic() - begun < 30


@pytest.mark.parametrize('number', [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(number, tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, 'flock', flock)
    with pytest.raises(UserError, match=f'{tmp_path} is on a file system without locks .*; name a'):
        with locked(tmp_path, RUN_LOCK):
            pass


def test_an_error_of_a_bucket_does_not_end_the_renewal(tmp_path, quick):
    path, calls = epath.Path(tmp_path) / RUN_LOCK, []

    class Failing(type(path)):
        def write_text(self, text):
            calls.append(text)
            if len(calls) == 2:
                raise ConnectionError('the bucket does not answer')
            return super().write_text(text)

    with lock._renewed(Failing(path)):
        deadline = time.monotonic() + 20
        while len(calls) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not path.exists()


def test_a_lock_that_was_taken_over_stays(tmp_path, quick):
    path = epath.Path(tmp_path) / RUN_LOCK
    with lock._renewed(path):
        lock.RENEWAL_SECONDS = 60
        time.sleep(0.1)
        other = {'owner': 'process 1 on x', 'token': 'a', 'time': time.time()}
        path.write_text(json.dumps(other))
    assert json.loads(path.read_text()) == other
