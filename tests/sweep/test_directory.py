"""Two sweeps on one directory, and directories of others."""

import pytest

from resnet_rs.sweep import directory
from resnet_rs.sweep.__main__ import full_disk_as_user_error
from resnet_rs.utils.errors import UserError


def test_a_full_disk_under_the_sweep_itself():
    with pytest.raises(UserError, match='the disk that holds runs is full; make room'):
        with full_disk_as_user_error('runs'), open('/dev/full', 'w') as file:
            file.write('x')
    with pytest.raises(FileNotFoundError), full_disk_as_user_error('runs'):
        open('/nowhere/at/all')


def test_a_directory_belongs_to_one_sweep_file(tmp_path):
    directory.claim(tmp_path, 'configs/sweeps/a.py')
    directory.claim(tmp_path, 'configs/sweeps/a.py')
    with pytest.raises(UserError, match='belongs to another sweep, configs/sweeps/a.py'):
        directory.claim(tmp_path, 'configs/sweeps/b.py')
    (tmp_path / 'sweep.json').write_text('{')
    with pytest.raises(UserError, match='sweep.json is damaged'):
        directory.claim(tmp_path, 'configs/sweeps/a.py')
