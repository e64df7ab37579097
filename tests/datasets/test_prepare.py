"""The command that prepares datasets, without a network."""

import subprocess
import sys

import pytest
from helpers import prepared

from resnet_rs.datasets import prepare
from resnet_rs.datasets.digits import EVAL_EXAMPLES, TRAIN_EXAMPLES
from resnet_rs.utils.errors import UserError


def test_digits_are_those_of_scikit_learn_in_order():
    import numpy as np
    import tensorflow_datasets as tfds
    from sklearn.datasets import load_digits

    builder = tfds.builder_from_directory(
        f'{prepared.data_dir("digits", "array_record")}/digits/1.0.0'
    )
    source = builder.as_data_source()
    examples = [*source['train'], *source['validation']]
    digits = load_digits()
    assert len(examples) == len(digits.target) == 1797
    assert (len(source['train']), len(source['validation'])) == (TRAIN_EXAMPLES, EVAL_EXAMPLES)
    np.testing.assert_array_equal([example['label'] for example in examples], digits.target)
    images = np.stack([example['image'][..., 0] for example in examples])
    # 16 levels of ink onto 0..255: 15.9375 grey values each.
    assert np.abs(images - digits.images * 15.9375).max() <= 0.5
    assert images.min() == 0 and images.max() == 255


def test_comparison_figures_of_digits_hold():
    """The figures that the documentation of the dataset gives for other methods."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    images, labels = load_digits(return_X_y=True)
    train, test = slice(TRAIN_EXAMPLES), slice(TRAIN_EXAMPLES, None)
    for model, right in ((SVC(gamma=0.001, C=10), 347), (KNeighborsClassifier(3), 348)):
        predicted = model.fit(images[train], labels[train]).predict(images[test])
        assert (predicted == labels[test]).sum() == right


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
