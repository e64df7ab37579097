"""Two sweeps on one directory, and directories of others."""

import os
import signal
import subprocess
import sys
import time

import pytest

from resnet_rs.errors import UserError
from resnet_rs.sweep import directory
from resnet_rs.sweep.__main__ import full_disk_told
from resnet_rs.sweep.lock import locked


def test_a_second_sweep_is_told_who_is_at_work(tmp_path):
    with locked(tmp_path):
        with pytest.raises(UserError, match=f'in use by a sweep, process {os.getpid()} on'):
            with locked(tmp_path):
                pass
    with locked(tmp_path):
        pass


def test_a_killed_sweep_leaves_the_lock_to_its_runs_and_then_to_nobody(tmp_path):
    program = (
        'import subprocess, sys, time\n'
        'from resnet_rs.sweep.lock import locked\n'
        f'with locked({str(tmp_path)!r}) as lock:\n'
        '    run = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))\n'
        '    print(run.pid, flush=True)\n'
        '    time.sleep(60)\n'
    )
    with subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE) as sweep:
        run = int(sweep.stdout.readline())
        sweep.kill()
    try:
        with pytest.raises(UserError, match=f'process {sweep.pid} on .* left behind'):
            with locked(tmp_path):
                pass
    finally:
        os.kill(run, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with locked(tmp_path):
                return
        except UserError:
            time.sleep(0.02)
    pytest.fail('the lock outlived its processes')


def test_a_full_disk_under_the_sweep_itself():
    with pytest.raises(UserError, match='the disk that holds runs is full; make room'):
        with full_disk_told('runs'), open('/dev/full', 'w') as file:
            file.write('x')
    with pytest.raises(FileNotFoundError), full_disk_told('runs'):
        open('/nowhere/at/all')


def test_a_directory_belongs_to_one_sweep_file(tmp_path):
    directory.claim(tmp_path, 'configs/sweeps/a.py')
    directory.claim(tmp_path, 'configs/sweeps/a.py')
    with pytest.raises(UserError, match='is of another sweep, configs/sweeps/a.py'):
        directory.claim(tmp_path, 'configs/sweeps/b.py')
    (tmp_path / 'sweep.json').write_text('{')
    with pytest.raises(UserError, match='sweep.json is damaged'):
        directory.claim(tmp_path, 'configs/sweeps/a.py')
