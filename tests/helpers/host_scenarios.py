"""The programs of the processes in tests/multihost.

python tests/helpers/host_scenarios.py SCENARIO
"""

import os
import pathlib
import signal
import sys
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from resnet_rs.multihost import connection, hosts
from resnet_rs.run.signals import StopRequest
from resnet_rs.utils.errors import UserError

LOST_AFTER = 8


def raised(function, *arguments):
    try:
        function(*arguments)
    except UserError as error:
        print('UserError:', error, flush=True)
    else:
        print('no error', flush=True)


def barriers_then_kill_2():
    print(hosts.gather('squares', str(hosts.index() ** 2)), flush=True)
    print(hosts.gather('squares', str(hosts.index())), flush=True)
    raised(hosts.agree_or_raise, 'disks', 'disk full on 1' if hosts.index() == 1 else '')
    if hosts.index() == 2:
        time.sleep(3)  # comes too late
        os.kill(os.getpid(), signal.SIGKILL)
    raised(hosts.barrier, 'lunch', 1.5)
    time.sleep(300)


def kill_1_in_a_collective():
    if hosts.index() == 1:
        multihost_utils.process_allgather(np.arange(2))
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(2):
        multihost_utils.process_allgather(np.arange(2))


def kill_0():
    if hosts.index() == 0:
        hosts.barrier('all here')
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    hosts.barrier('all here')
    time.sleep(300)


def mistake_on_1():
    if hosts.index() == 1:
        raise UserError('image 17 cannot be decoded')
    time.sleep(300)


def bug_on_0():
    if hosts.index() == 0:
        raise ZeroDivisionError('a bug')
    time.sleep(300)


def ctrl_c_on_1():
    with StopRequest() as stop:
        for step in range(1, 3000):
            if step == 5 and hosts.index() == 1:
                os.kill(os.getpid(), signal.SIGINT)
            if stop.reached(step):
                break
            time.sleep(0.1)
    steps = hosts.gather('last step', str(step))
    print(len(set(steps)), step >= 5, stop.status, flush=True)


def end_well():
    hosts.barrier('all here')


def agreement():
    from configs import digits
    from resnet_rs.datasets.locate import find_dataset
    from resnet_rs.multihost import consistency as module

    here, directory = hosts.index(), pathlib.Path(sys.argv[2])
    config = digits.get_config('debug').unlock()
    config.data.data_dir = sys.argv[3]
    info = find_dataset(config.data)
    raised(module.check_hosts, config, info)
    raised(module.check_shared_workdir, directory / 'shared')
    raised(module.check_shared_workdir, directory / f'own of {here}')
    (directory / 'a file').touch()
    raised(module.check_shared_workdir, directory / ('a file' if here else 'shared'))
    hosts.barrier('removed')
    print(sorted(path.name for path in (directory / 'shared').iterdir()), flush=True)

    config.data.threads = 1 + here  # may differ
    config.optimizer.weight_decay = 1e-3 * (1 + here)
    raised(module.check_hosts, config, info)
    config.optimizer.weight_decay = 1e-3
    if here:
        info.splits['train'] = info.split('train[:1000]')
    raised(module.check_hosts, config, info)
    info = find_dataset(config.data)
    if here:
        module.ROOT = directory / 'other checkout'
    raised(module.check_hosts, config, info)


if __name__ == '__main__':
    connection.connect(start_timeout_seconds=300, lost_after_seconds=LOST_AFTER)
    with hosts.ending_together(UserError):
        globals()[sys.argv[1]]()
    assert jax.process_count() == hosts.count()
