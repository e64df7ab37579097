"""Datasets that tests share, written once per process by the builders that users run."""

import atexit
import functools
import pathlib
import shutil
import tempfile

from resnet_rs.config import default_config
from resnet_rs.datasets.prepare import prepare

TRAIN_EXAMPLES = 10 * 21
EVAL_EXAMPLES = 29


@functools.cache
def root() -> pathlib.Path:
    """A directory that lasts until the process ends."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix='resnet_rs_'))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@functools.cache
def archives() -> pathlib.Path:
    """The two ILSVRC2012 archives: 10 classes, 210 training and 29 validation images."""
    # Here, so that a process which only wants a config need not wait for tfds.
    from helpers.imagenet_archives import write_archives

    return write_archives(
        root() / 'manual', classes=10, train_per_class=21, validation=EVAL_EXAMPLES
    )


@functools.cache
def data_dir(name: str, file_format: str) -> str:
    """A tfds directory holding 'digits', or 'imagenet2012' in 8 files of uneven length."""
    directory = str(root() / file_format)
    prepare(
        name,
        data_dir=directory,
        manual_dir=str(archives()),
        file_format=file_format,
        num_shards=8 if name == 'imagenet2012' else None,
    )
    return directory


@functools.cache
def image_folder() -> str:
    """SPLIT/CLASS/*.JPEG: 72 training and 18 validation pictures of 3 classes; split "val"."""
    import numpy as np

    from helpers.imagenet_archives import picture

    directory = root() / 'folder'
    random = np.random.default_rng(1)
    for split, count in (('train', 23), ('val', 5)):
        for label in range(3):
            folder = directory / split / f'class{label}'
            folder.mkdir(parents=True)
            for number in range(count + label):
                (folder / f'{number:03d}.JPEG').write_bytes(picture(label, number, 48, random))
    return str(directory)


def config(source: str, *, batch_size: int = 8, image_size: int = 32):
    """A small config for 'array_record', 'tfrecord' (both imagenet2012) or 'image_folder'."""
    config = small_config(batch_size=batch_size, image_size=image_size)
    if source == 'image_folder':
        config.data.source = 'image_folder'
        config.data.data_dir = image_folder()
    else:
        config.data.data_dir = data_dir('imagenet2012', source)
    return config


def small_config(*, batch_size: int = 8, image_size: int = 32):
    """The defaults with small batches, images, streams and windows; no dataset is prepared."""
    config = default_config()
    config.batch_size = batch_size
    config.eval.batch_size = batch_size
    config.data.image_size = image_size
    config.data.augment = 'none'
    config.data.streams = 4
    config.data.shuffle_window = 5
    config.data.threads = 2
    return config
