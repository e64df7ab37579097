"""Two sweeps on one directory, and directories of others."""

import pytest

from resnet_rs.sweep import directory
from resnet_rs.sweep.__main__ import full_disk_as_user_error, main
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


def test_a_sweep_with_a_mistake_leaves_nothing(tmp_path, capsys):
    """The right file can then have the directory; the work directory of a run gets no file."""
    sweep = tmp_path / 'sweep.py'
    sweep.write_text(
        'from configs import digits\n'
        'def get_sweep():\n'
        "    config = digits.get_config('debug').unlock()\n"
        '    config.data.crop_area = (0.5, 0.2)\n'
        "    yield 'wrong', config.lock()\n"
    )
    with pytest.raises(SystemExit):
        main([f'--sweep={sweep}', f'--workdir={tmp_path / "runs"}'])
    assert 'run 1 of 1, wrong: data.crop_area' in capsys.readouterr().err
    assert not (tmp_path / 'runs').exists()
    with pytest.raises(SystemExit):
        main([f'--sweep={sweep}', f'--workdir={tmp_path / "runs"}', '--hosts=a,'])
    assert '--hosts=a, has an empty name' in capsys.readouterr().err
