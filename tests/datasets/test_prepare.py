"""The command that prepares datasets, without a network."""

import subprocess
import sys

import pytest
from helpers import prepared

from resnet_rs.datasets import prepare
from resnet_rs.utils.errors import UserError


def test_command_runs_and_a_second_run_changes_nothing(tmp_path):
    command = [
        sys.executable,
        '-m',
        'resnet_rs.datasets.prepare',
        'digits',
        f'--data_dir={tmp_path}',
    ]
    subprocess.run(command, capture_output=True, check=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 'already prepared' in again.stdout and 'train: 1,437 examples' in again.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == before
    other = subprocess.run(
        [*command, '--file_format=tfrecord'], capture_output=True, text=True, check=False
    )
    assert other.returncode == 2
    assert 'already prepared as array_record' in other.stderr and other.stderr.count('\n') == 1


def test_archives_are_asked_for_by_name(tmp_path):
    with pytest.raises(UserError) as error:
        prepare.prepare('imagenet2012', data_dir=str(tmp_path))
    for text in (
        'ILSVRC2012_img_train.tar',
        'ILSVRC2012_img_val.tar',
        '--manual_dir',
        str(tmp_path / 'downloads' / 'manual'),
    ):
        assert text in str(error.value)
    (tmp_path / 'ILSVRC2012_img_train.tar').write_bytes(b'')
    with pytest.raises(UserError, match='; ILSVRC2012_img_val.tar not found'):
        prepare.prepare('imagenet2012', data_dir=str(tmp_path), manual_dir=str(tmp_path))


def test_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(
        prepare.shutil, 'disk_usage', lambda path: type('Usage', (), {'free': 1000})
    )
    with pytest.raises(UserError, match='GB free'):
        prepare.prepare(
            'imagenet2012', data_dir=str(tmp_path / 'new'), manual_dir=str(prepared.archives())
        )
    assert not (tmp_path / 'new').exists()


def test_unknown_dataset(tmp_path):
    with pytest.raises(UserError, match="no dataset 'imagnet'"):
        prepare.prepare('imagnet', data_dir=str(tmp_path))
