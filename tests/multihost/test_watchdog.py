"""Processes wait by name, agree and end together; host_scenarios.py is what they do."""

import shutil

import prepared
import processes
import pytest

from resnet_rs.multihost import connection
from resnet_rs.utils.errors import UserError

SCENARIOS = 'tests/host_scenarios.py'


def run(count, *arguments):
    started = processes.start(count, SCENARIOS, *arguments)
    return processes.finish(started, timeout=200)


def error_lines(errors):
    return [line for line in errors.splitlines() if line.startswith('error:')]


def test_processes_wait_by_name_and_a_killed_one_ends_the_others():
    *survivors, killed = run(3, 'barriers_then_kill_2')
    assert killed[0] == -9
    for index, (status, output, errors) in enumerate(survivors):
        squares, again, disks, lunch = output.splitlines()
        assert squares == "['0', '1', '4']" and again == "['0', '1', '2']"
        assert disks == 'UserError: disk full on 1'
        assert lunch.startswith(f'UserError: process {index} of 3 (')
        assert "waited 1.5 s at 'lunch' for process 2 of 3 (" in lunch
        (line,) = error_lines(errors)
        assert 'process 2 of 3 (' in line and 'stopped answering' in line
        assert 'the same command resumes' in line
        assert status == 75 and 'Traceback' not in errors


def test_a_process_killed_in_a_collective_is_named_not_the_collective():
    survivor, killed = run(2, 'kill_1_in_a_collective')
    assert killed[0] == -9 and survivor[0] == 75
    (line,) = error_lines(survivor[2])
    assert 'process 1 of 2' in line and 'stopped answering' in line


def test_process_0_killed_ends_the_others():
    killed, survivor = run(2, 'kill_0')
    assert killed[0] == -9
    assert survivor[0] in (75, -6)  # whichever is first: ours, or the abort of jax's own watch
    if survivor[0] == 75:
        assert 'process 0 of 2 at localhost' in error_lines(survivor[2])[0]
    else:
        assert 'coordination service' in survivor[2]


def test_processes_that_end_well_say_nothing():
    for status, _, errors in run(2, 'end_well'):
        assert status == 0, errors
        assert not error_lines(errors)


def test_a_mistake_in_one_process_is_told_to_all():
    (status_0, _, errors_0), (status_1, _, errors_1) = run(2, 'mistake_on_1')
    assert status_0 == status_1 == 2
    assert error_lines(errors_1) == ['error: image 17 cannot be decoded']
    (line,) = error_lines(errors_0)
    assert 'process 1 of 2 (' in line and 'UserError: image 17 cannot be decoded' in line


def test_a_bug_in_one_process_keeps_its_traceback_and_ends_all():
    (status_0, _, errors_0), (status_1, _, errors_1) = run(2, 'bug_on_0')
    assert status_0 == status_1 == 1
    assert 'Traceback' in errors_0 and 'ZeroDivisionError: a bug' in errors_0
    (line,) = error_lines(errors_1)
    assert 'process 0 of 2 (' in line and 'ZeroDivisionError: a bug' in line


def test_hosts_that_differ_are_named(tmp_path):
    other = tmp_path / 'other checkout'
    other.mkdir()
    for name in ('main.py', 'train_lib.py', 'input_pipeline.py', 'resnet_rs'):
        copy = shutil.copytree if name == 'resnet_rs' else shutil.copy
        copy(processes.ROOT / name, other / name)
    with (other / 'resnet_rs' / 'training' / 'steps.py').open('a') as file:
        file.write('# changed on one host\n')
    ended = run(2, 'agreement', tmp_path, prepared.data_dir('digits', 'array_record'))
    for status, output, errors in ended:
        assert status == 0, errors
        same, shared, own, unwritable, left, config, data, code = output.splitlines()
        assert same == shared == 'no error'
        assert 'is another directory on process 1 of 2 (' in own and 'bucket' in own
        assert 'process 1 of 2 (' in unwritable and 'cannot be written' in unwritable
        assert left == '[]'
        assert 'process 1 of 2 (' in config
        assert 'config.optimizer.weight_decay is 0.002 here and 0.001 on process 0' in config
        assert 'split train is' in data and 'process 1 of 2 (' in data
        assert 'file resnet_rs/training/steps.py is' in code and 'process 1 of 2 (' in code


@pytest.mark.parametrize(
    'environment, message',
    [
        ({'JAX_NUM_PROCESSES': '2'}, 'JAX_PROCESS_ID not; set all three'),
        ({'JAX_NUM_PROCESSES': 'two', 'JAX_PROCESS_ID': '0'}, "JAX_NUM_PROCESSES is 'two'"),
        ({'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '2'}, 'processes count from 0'),
    ],
)
def test_an_environment_that_contradicts_itself_is_named(environment, message):
    with pytest.raises(UserError, match=message):
        connection.find_process({'JAX_COORDINATOR_ADDRESS': 'host:1234', **environment}, 1)


def test_slurm_is_found(monkeypatch):
    slurm = {
        'SLURM_JOB_ID': '4097',
        'SLURM_STEP_NODELIST': 'node[001-004]',
        'SLURM_NTASKS': '4',
        'SLURM_PROCID': '3',
        'SLURM_LOCALID': '0',
    }
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    process = connection.find_process(slurm, 1)
    # jax's rule for the port: 61440 + job number modulo 4096.
    assert process == connection.Process('node001:61441', 4, 3, [0])


def test_a_process_alone_connects_to_nothing():
    assert connection.find_process({}, 1) is None
