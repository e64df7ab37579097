"""scripts/tpu.sh against a stand-in gcloud that runs what the workers are sent."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
SCRIPT = ROOT / 'scripts' / 'tpu.sh'
TPU = ('--zone=us-central1-a', '--type=v3-32', '--version=tpu-ubuntu2204-base')

# Writes down its arguments, then ends with the next status of ~/ends, or 0.
COMMAND = """
import json, pathlib, sys
home = pathlib.Path.home()
with (home / 'arguments').open('a') as file:
    file.write(json.dumps(sys.argv[1:]) + '\\n')
print('loss 2.5')
ends = home / 'ends'
statuses = ends.read_text().split() if ends.exists() else []
ends.write_text(' '.join(statuses[1:]))
sys.exit(int(statuses[0]) if statuses else 0)
"""
# A worker's python3.13: its venv has a pip that writes down what it is asked to install.
PYTHON = """#!/bin/bash
mkdir -p "$3/bin"
printf '#!/bin/bash\\necho "$@" >> ~/pip\\n' > "$3/bin/pip"
chmod +x "$3/bin/pip"
"""


class Cloud:
    def __init__(self, path):
        self.path = path
        self.homes = [path / f'worker-{number}' for number in range(3)]
        for home in self.homes:
            home.mkdir()
        (path / 'bin').mkdir()
        shutil.copy(HERE / 'gcloud', path / 'bin')
        for name, text in (('python3.13', PYTHON), ('command.py', COMMAND)):
            (path / 'bin' / name).write_text(text)
            (path / 'bin' / name).chmod(0o755)
        self.command = (sys.executable, str(path / 'bin' / 'command.py'))

    def run(self, *arguments, timeout=60):
        environment = {**os.environ, 'CLOUD': str(self.path)}
        environment['PATH'] = f'{self.path / "bin"}:{environment["PATH"]}'
        return subprocess.run(
            [SCRIPT, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def calls(self, *verbs):
        lines = (self.path / 'calls.jsonl').read_text().splitlines()
        calls = [json.loads(line)[2:] for line in lines]
        return [call for call in calls if not verbs or call[1] in verbs]

    def install(self):
        (self.path / 'vm').write_text('READY')
        for home in self.homes:
            (home / 'resnet-rs' / '.venv').mkdir(parents=True)

    def finished(self):
        deadline = time.monotonic() + 30
        while not all((home / 'resnet-rs' / 'run.status').exists() for home in self.homes):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)


def test_shellcheck_finds_nothing():
    shellcheck = pathlib.Path(sys.executable).with_name('shellcheck')
    subprocess.run([shellcheck, SCRIPT], check=True)


def test_create_waits_until_ready(cloud):
    result = cloud.run('create', 'slice-1', *TPU, '--poll=0')
    assert result.returncode == 0, result.stderr
    assert cloud.calls('create') == [
        [
            'tpu-vm',
            'create',
            'slice-1',
            '--zone=us-central1-a',
            '--accelerator-type=v3-32',
            '--version=tpu-ubuntu2204-base',
        ]
    ]
    assert (cloud.path / 'vm').read_text() == 'READY'


def test_create_waits_for_its_turn_in_the_queue(cloud):
    result = cloud.run('create', 'slice-1', *TPU, '--poll=0', '--queued', '--spot')
    assert result.returncode == 0, result.stderr
    assert cloud.calls('create') == [
        [
            'queued-resources',
            'create',
            'slice-1',
            '--zone=us-central1-a',
            '--node-id=slice-1',
            '--accelerator-type=v3-32',
            '--runtime-version=tpu-ubuntu2204-base',
            '--spot',
        ]
    ]
    assert 'WAITING_FOR_RESOURCES' in result.stdout and 'PROVISIONING' in result.stdout
    deleted = cloud.run('delete', 'slice-1', '--zone=us-central1-a', '--queued')
    assert deleted.returncode == 0
    assert cloud.calls('delete') == [
        [
            'queued-resources',
            'delete',
            'slice-1',
            '--zone=us-central1-a',
            '--force',
            '--quiet',
        ]
    ]


def test_install_copies_the_commit_to_every_worker(cloud):
    (cloud.path / 'vm').write_text('READY')
    result = cloud.run('install', 'slice-1', '--zone=us-central1-a')
    assert result.returncode == 0, result.stderr
    committed = subprocess.run(
        ['git', 'show', 'HEAD:main.py'],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for home in cloud.homes:
        assert (home / 'resnet-rs' / 'main.py').read_bytes() == committed
        assert (home / 'pip').read_text().split() == [
            'install',
            '--quiet',
            '-r',
            'requirements-tpu.txt',
        ]


def test_a_command_reaches_every_worker_unharmed(cloud, tmp_path):
    cloud.install()
    awkward = [
        '--workdir=gs://bucket/a run',
        "it's",
        '"double"',
        '$HOME `date` $(date)',
        'a\nb',
        '*',
        '',
        '\\',
        'semi;colon & more',
        '--config.data.crop_area=(0.25, 1.0)',
        'Zürich',
    ]
    started = cloud.run('start', 'slice-1', '--zone=us-central1-a', '--', *cloud.command, *awkward)
    assert started.returncode == 0, started.stderr
    cloud.finished()
    for home in cloud.homes:
        assert json.loads((home / 'arguments').read_text()) == awkward
        assert (home / 'resnet-rs' / 'run.status').read_text() == '0\n'
    output = tmp_path / 'collected logs'
    assert (
        cloud.run('logs', 'slice-1', '--zone=us-central1-a', f'--output={output}').returncode == 0
    )
    assert [path.name for path in sorted(output.iterdir())] == [
        'worker-0.log',
        'worker-1.log',
        'worker-2.log',
    ]
    assert (output / 'worker-2.log').read_text() == 'loss 2.5\n'


def test_a_command_is_not_started_beside_itself(cloud):
    cloud.install()
    start = ('start', 'slice-1', '--zone=us-central1-a', '--', 'sleep', '4')
    assert cloud.run(*start).returncode == 0
    again = cloud.run(*start)
    assert again.returncode == 1
    assert again.stderr.count('a command is already running') == 3


def test_a_worker_that_cannot_be_reached_is_named(cloud):
    cloud.install()
    (cloud.path / 'broken-worker-1').touch()
    result = cloud.run('start', 'slice-1', '--zone=us-central1-a', '--', *cloud.command)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        'error: worker 1 of slice-1: ssh: connect to host 10.0.0.1 port 22: Connection timed out',
        'error: start failed on worker(s) 1 of 3',
    ]


def test_watch_makes_a_preempted_slice_anew(cloud):
    cloud.install()
    (cloud.path / 'vm').write_text('PREEMPTED')
    result = cloud.run('watch', 'slice-1', *TPU, '--spot', '--poll=1', '--', *cloud.command, 'a b')
    assert result.returncode == 0, result.stderr
    assert [call[1] for call in cloud.calls('create', 'delete')] == ['delete', 'create']
    assert cloud.calls('create')[0][-1] == '--spot'
    for home in cloud.homes:
        assert (home / 'arguments').read_text() == '["a b"]\n'
    assert 'slice-1 is PREEMPTED; creating it again' in result.stdout


def test_watch_makes_a_suspended_queued_resource_anew(cloud):
    cloud.install()
    (cloud.path / 'queue').write_text('SUSPENDED')
    result = cloud.run('watch', 'slice-1', *TPU, '--queued', '--poll=1', '--', *cloud.command)
    assert result.returncode == 0, result.stderr
    assert [call[:2] for call in cloud.calls('create', 'delete')] == [
        ['queued-resources', 'delete'],
        ['queued-resources', 'create'],
    ]


def test_watch_starts_again_after_a_lost_host(cloud):
    cloud.install()
    for home, ends in zip(cloud.homes, ('75', '75', '137'), strict=True):
        (home / 'ends').write_text(ends)
    result = cloud.run('watch', 'slice-1', *TPU, '--poll=1', '--', *cloud.command)
    assert result.returncode == 0, result.stderr
    assert 'workers ended with status 137 75 ; restarting' in result.stdout
    for home in cloud.homes:
        assert (home / 'arguments').read_text() == '[]\n[]\n'
    assert not cloud.calls('create', 'delete')


@pytest.mark.parametrize('broken', ['create', 'delete', 'scp'])
def test_watch_survives_an_action_that_fails(cloud, broken):
    (cloud.path / 'vm').write_text('PREEMPTED')
    (cloud.path / f'broken-{broken}').write_text('1')
    result = cloud.run('watch', 'slice-1', *TPU, '--poll=1', '--', *cloud.command)
    assert result.returncode == 0, result.stderr
    failed = 'install' if broken == 'scp' else broken
    assert f'{failed} failed; retrying' in result.stderr
    for home in cloud.homes:
        assert (home / 'arguments').read_text() == '[]\n'


def test_watch_gives_up_a_command_that_always_ends_soon(cloud):
    cloud.install()
    for home in cloud.homes:
        (home / 'ends').write_text('75 1 1 1 1')
    result = cloud.run('watch', 'slice-1', *TPU, '--poll=0', '--', *cloud.command)
    assert result.returncode == 1
    assert 'ended 3 times soon after its start, with status 1' in result.stderr
    assert (cloud.homes[0] / 'arguments').read_text() == '[]\n' * 4


def test_watch_stops_at_a_mistake(cloud):
    cloud.install()
    for home in cloud.homes:
        (home / 'ends').write_text('2')
    result = cloud.run('watch', 'slice-1', *TPU, '--poll=1', '--', *cloud.command)
    assert result.returncode == 1
    assert 'an error in the command (status 2)' in result.stderr
    assert (cloud.homes[0] / 'arguments').read_text() == '[]\n'


@pytest.mark.parametrize(
    'arguments, message',
    [
        ((), 'an action is missing'),
        (('reboot', 'slice-1'), "there is no action 'reboot'"),
        (('create', '--zone=a'), "'--zone=a' is no name"),
        (('create', 'slice-1', '--zone=a'), 'create takes --type and --version'),
        (('start', 'slice-1', '--zone=a'), 'start takes -- and a command'),
        (('start', 'slice-1', '--', 'true'), '--zone is missing'),
        (('start', 'slice-1', '--zone=a', 'true'), "there is no option 'true'"),
        (('watch', 'slice-1', *TPU, '--poll=soon', '--', 'true'), '--poll=soon is no number'),
    ],
)
def test_misuse_is_one_line_and_the_usage(cloud, arguments, message):
    result = cloud.run(*arguments)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[0] and 'usage:' in result.stderr
    assert not (cloud.path / 'calls.jsonl').exists()
