"""Hosts that disagree are named before anything is compiled."""

import shutil

from helpers import prepared, processes


def test_hosts_that_differ_are_named(tmp_path):
    other = tmp_path / 'other checkout'
    other.mkdir()
    for name in ('main.py', 'train_lib.py', 'input_pipeline.py', 'resnet_rs'):
        copy = shutil.copytree if name == 'resnet_rs' else shutil.copy
        copy(processes.ROOT / name, other / name)
    with (other / 'resnet_rs' / 'training' / 'steps.py').open('a') as file:
        file.write('# changed on one host\n')
    ended = processes.run_scenario(
        2, 'agreement', tmp_path, prepared.data_dir('digits', 'array_record')
    )
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
