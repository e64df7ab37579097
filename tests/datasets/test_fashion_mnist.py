"""Fashion-MNIST from the four files of a directory."""

import gzip
import hashlib
import pathlib
import struct

import numpy as np
import pytest

from configs import fashion_mnist as configuration
from resnet_rs.config import validation
from resnet_rs.datasets import fashion_mnist, prepare
from resnet_rs.utils.errors import UserError


def idx(array: np.ndarray) -> bytes:
    """The format of the files: two zero bytes, 8 for uint8, the axes and their lengths."""
    header = struct.pack('>HBB', 0, 8, array.ndim) + struct.pack(f'>{array.ndim}I', *array.shape)
    return header + array.tobytes()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A small set in the format of the real one: the directory, images and labels per part."""
    random = np.random.default_rng(0)
    parts = {}
    for part, count in (('train', 30), ('t10k', 12)):
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = random.integers(0, 10, count).astype(np.uint8)
        parts[part] = images, labels
        for kind, array in (('images-idx3-ubyte', images), ('labels-idx1-ubyte', labels)):
            contents = idx(array)
            name = f'{part}-{kind}'
            if part == 'train':
                (tmp_path / f'{name}.gz').write_bytes(gzip.compress(contents))
            else:
                (tmp_path / name).write_bytes(contents)
            monkeypatch.setitem(fashion_mnist.DIGESTS, name, hashlib.sha256(contents).hexdigest())
    return tmp_path, parts


def test_examples_are_those_of_the_files(files, tmp_path_factory):
    import tensorflow_datasets as tfds

    directory, parts = files
    root = tmp_path_factory.mktemp('data')
    info = prepare.prepare('fashion_mnist', data_dir=str(root), manual_dir=str(directory))
    assert info.class_names[0] == 'T-shirt/top' and info.num_classes == 10
    source = tfds.builder('fashion_mnist', data_dir=str(root)).as_data_source()
    for part, split in (('train', 'train'), ('t10k', 'test')):
        expected = {
            (image.tobytes(), int(label)) for image, label in zip(*parts[part], strict=True)
        }
        examples = [source[split][index] for index in range(len(source[split]))]
        found = {(example['image'].tobytes(), int(example['label'])) for example in examples}
        assert found == expected and len(examples) == len(parts[part][1])


def test_changed_and_missing_files_are_refused(files, tmp_path_factory):
    directory, _ = files
    root = tmp_path_factory.mktemp('data')
    arguments = dict(data_dir=str(root), manual_dir=str(directory))
    with pytest.raises(UserError, match='cannot be loaded at version 1.0.0, only: 3.0.1'):
        prepare.prepare('fashion_mnist:1.0.0', **arguments)
    labels = directory / 't10k-labels-idx1-ubyte'
    contents = bytearray(labels.read_bytes())
    contents[-1] ^= 1
    labels.write_bytes(contents)
    with pytest.raises(UserError, match='t10k-labels-idx1-ubyte is not the published file'):
        prepare.prepare('fashion_mnist', **arguments)
    labels.unlink()
    with pytest.raises(UserError, match='neither t10k-labels-idx1-ubyte.gz nor'):
        prepare.prepare('fashion_mnist:3.0.1', **arguments)
    (directory / 'train-images-idx3-ubyte.gz').write_bytes(b'\x1f\x8b\x08\x00')
    with pytest.raises(UserError, match='train-images-idx3-ubyte.gz cannot be read'):
        prepare.prepare('fashion_mnist', **arguments)
    assert not list(root.rglob('*.array_record*'))


def test_files_of_debian_have_the_published_contents():
    directory = pathlib.Path(fashion_mnist.DEBIAN_DIRECTORY)
    if not directory.is_dir():
        pytest.skip('the package dataset-fashion-mnist is not installed')
    for file, digest in fashion_mnist.DIGESTS.items():
        contents = gzip.decompress((directory / f'{file}.gz').read_bytes())
        assert hashlib.sha256(contents).hexdigest() == digest


def test_test_images_are_neither_trained_on_nor_used_for_the_choice():
    choose, final = (configuration.get_config(variant) for variant in ('choose', 'all'))
    for config in (choose, final):
        validation.check_settings(config)
    assert (choose.data.train_split, choose.data.eval_split) == ('train[:55000]', 'train[55000:]')
    assert choose.checkpoint.best_by == 'eval' and choose.evals.test.split == 'test'
    assert (final.data.train_split, final.data.eval_split) == ('train', 'test')
    with pytest.raises(UserError, match="no variant 'both'"):
        configuration.get_config('both')
