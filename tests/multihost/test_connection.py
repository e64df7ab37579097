"""Tests of where a process finds the others: in three variables, by Slurm, or nowhere."""

import pytest

from resnet_rs.multihost import connection
from resnet_rs.utils.errors import UserError


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
