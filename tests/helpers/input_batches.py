"""Batches for tests: taking them, comparing them, folders of files to read."""

import io

import numpy as np
from PIL import Image

from helpers import prepared
from helpers.imagenet_archives import picture

SOURCES = ('array_record', 'tfrecord', 'image_folder')


def take(batches, count):
    return [next(batches) for _ in range(count)]


def assert_same(batch, other):
    assert set(batch) == set(other) == {'image', 'label', 'mask', 'index'}
    for name in batch:
        np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def indices(batches):
    return np.concatenate([batch['index'] for batch in batches])


def folder_of(tmp_path, files):
    """One class folder 'train/a' and 'val/a' with the given contents, in name order."""
    for split in ('train', 'val'):
        directory = tmp_path / split / 'a'
        directory.mkdir(parents=True)
        for number, content in enumerate(files):
            (directory / f'{number:03d}.jpg').write_bytes(content)
    config = prepared.config('array_record', batch_size=4)
    config.data.source = 'image_folder'
    config.data.data_dir = str(tmp_path)
    return config


def encoded(image, file_format):
    stream = io.BytesIO()
    image.save(stream, file_format)
    return stream.getvalue()


def png(pixels):
    return encoded(Image.fromarray(pixels), 'PNG')


def good_file():
    return picture(3, 1, 48, np.random.default_rng(0))


def batch_of(size=16):
    """Returns a training batch of noise: uint8 images of 32 pixels, ten classes."""
    random = np.random.default_rng(0)
    return {
        'image': random.integers(0, 256, (size, 32, 32, 3)).astype(np.uint8),
        'label': random.integers(0, 10, size).astype(np.int32),
        'mask': np.ones(size, np.float32),
        'index': np.arange(size, dtype=np.int32),
    }
