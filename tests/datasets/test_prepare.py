"""The command that prepares datasets, without a network."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from helpers import prepared
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError

from resnet_rs.config import default_config
from resnet_rs.datasets import locate, prepare
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


@pytest.mark.parametrize(
    'name, reason',
    [
        ('mnist:9.9.9', 'Dataset mnist cannot be loaded at version 9.9.9, only: 3.0.1; its'),
        ('mnist/foo', 'BuilderConfig foo not found with version 3.0.1; its versions'),
        (
            'mnist:',
            r'of the following format: dataset_name\[/config_name\]\[:version\]\[/kwargs\]; its',
        ),
    ],
)
def test_unknown_version_or_configuration(name, reason, tmp_path):
    with pytest.raises(UserError, match=f'tfds cannot build {name!r}: .*{reason}'):
        prepare.prepare(name, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    'error, message',
    [
        (requests.exceptions.ConnectionError('no route'), 'cannot be downloaded from here: no ro'),
        (requests.exceptions.RetryError('too many'), 'cannot be downloaded: too many; try again'),
        (requests.exceptions.ChunkedEncodingError('cut off'), 'cannot be downloaded: cut off'),
        (DownloadError('HTTP code: 404.'), 'cannot be downloaded: HTTP code: 404.; try again'),
        (NonMatchingChecksumError('sha256'), 'is not the one that tfds knows .sha256.; delete'),
        (OSError('Not enough disk space.'), 'cannot be prepared in .*: Not enough disk space'),
    ],
)
def test_a_failed_download_is_one_line(error, message, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(Objects, 'download_and_prepare', fail)
    monkeypatch.setattr(tfds, 'builder', lambda name, **options: Objects(**options))
    with pytest.raises(UserError, match=message):
        prepare.prepare('clevr', data_dir=str(tmp_path))


def test_the_number_of_files_is_positive_and_of_a_new_set(tmp_path, capsys):
    command = ['digits', f'--data_dir={prepared.data_dir("digits", "array_record")}']
    prepare.main([*command, '--num_shards=7'])
    assert '--num_shards=7 changes nothing: for other files delete ' in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        prepare.main([*command, '--num_shards=-1'])
    assert stop.value.code == 2
    assert "'-1' is not a positive whole number" in capsys.readouterr().err


def test_another_version_than_the_one_there(tmp_path):
    source = f'{prepared.data_dir("digits", "array_record")}/digits/1.0.0'
    shutil.copytree(source, tmp_path / 'digits' / '0.9.0')
    with pytest.raises(UserError, match='cannot be loaded at version 1.0.1, only: 1.0.0'):
        prepare.prepare('digits:1.0.1', data_dir=str(tmp_path))


class Objects(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """An image with objects and no label, as tfds's clevr has them."""

    VERSION = tfds.core.Version('3.1.0')
    name = 'clevr'

    def _info(self):
        size = tfds.features.ClassLabel(names=['small', 'large'])
        place = tfds.features.Tensor(shape=(3,), dtype=np.float32)
        objects = tfds.features.Sequence({'size': size, 'pixel_coords': place})
        features = {'image': tfds.features.Image(), 'objects': objects}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        objects = {'size': [0] * 3, 'pixel_coords': np.zeros((3, 3), np.float32)}
        yield 0, {'image': np.zeros((8, 8, 3), np.uint8), 'objects': objects}


def test_a_set_without_a_label_of_its_own_offers_computed_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tfds, 'builder', lambda name, **options: Objects(**options))
    for _ in range(2):  # the second one finds it
        prepare.main(['clevr', f'--data_dir={tmp_path}'])
        *_, train, line = capsys.readouterr().out.splitlines()
        assert train == 'train: 1 example in 1 file'
        labels = 'count_all or closest_object_distance'
        assert line.startswith(f'a label by --config.data.label={labels}, array_record, in ')
    data = default_config().data
    data.update(name='clevr', data_dir=str(tmp_path), eval_split='train')
    with pytest.raises(UserError, match=f'; use --config.data.label={labels}'):
        locate.find_dataset(data)
    data.label = 'closest_vehicle_distance'
    with pytest.raises(UserError, match="has no feature 'objects/location', from which"):
        locate.find_dataset(data)
