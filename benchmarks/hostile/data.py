"""Images, records and the metadata of datasets: writers of good ones, and their readers."""

import contextlib
import io
import pathlib
import shutil
import zlib

import numpy as np
from PIL import Image

import input_pipeline
from resnet_rs.config import default_config
from resnet_rs.datasets import image_folder, locate, prepare, records
from resnet_rs.datasets.image_file import read_image
from resnet_rs.datasets.images import evaluation_transform
from resnet_rs.run import data_check, preflight
from resnet_rs.utils.errors import UserError

CLASSES = 10
IMAGE_SIZE = 32


def write_images(suffixes: tuple[str, ...], directory: pathlib.Path) -> list[pathlib.Path]:
    random = np.random.default_rng(0)
    smooth = np.linspace(0, 200, 40 * 48 * 3).reshape(40, 48, 3) + random.normal(0, 9, (40, 48, 3))
    rgb = Image.fromarray(smooth.clip(0, 255).astype(np.uint8))
    forms = {
        'jpg': [
            (rgb, {}),
            (rgb, {'progressive': True}),
            (rgb.convert('L'), {}),
            (rgb.convert('CMYK'), {}),
        ],
        'png': [
            (rgb, {}),
            (rgb.convert('P'), {}),
            (rgb.convert('RGBA'), {}),
            (rgb.convert('L').convert('I;16'), {}),
        ],
        'webp': [(rgb, {}), (rgb, {'lossless': True}), (rgb.convert('RGBA'), {})],
        'gif': [(rgb.convert('P'), {}), (rgb.convert('L'), {'interlace': 0})],
        'bmp': [(rgb, {}), (rgb.convert('L'), {})],
    }
    files = []
    for suffix in suffixes:
        for number, (image, options) in enumerate(forms[suffix]):
            files.append(directory / f'{number}.{suffix}')
            image.save(files[-1], **options)
    for split in ('train', 'val'):
        (directory / split / 'a').mkdir(parents=True)
        shutil.copy(files[0], directory / split / 'a' / '0.jpg')
    return files


def read_as_image(directory: pathlib.Path, file: pathlib.Path) -> None:
    """Reads an image as predict does; every tenth also as training and evaluation do.

    These start an input pipeline each, which takes ten times as long as the rest.
    """
    config = small_config()
    refused = None
    try:
        read_image(file, evaluation_transform(config.data, IMAGE_SIZE))
    except UserError as error:
        refused = error
    number = zlib.crc32(file.read_bytes())
    if number % 10:
        if refused:
            raise refused
        return
    split = ('train', 'val')[number // 10 % 2]
    place = directory / split / 'a' / '1.jpg'
    shutil.copy(file, place)
    config.data.source, config.data.data_dir = 'image_folder', str(directory)
    config.data.eval_split = 'val'
    try:
        read_split(config, split)
    except UserError as error:
        if str(place) not in str(error):
            raise
        refused = refused or UserError(str(error).replace(str(place), str(file)))
    finally:
        place.unlink()
    if refused:
        raise refused


def read_split(config, split: str) -> None:
    locate.find_prepared.cache_clear()
    image_folder.find_image_folder.cache_clear()
    if split == 'train':
        batches = input_pipeline.train_batches(config)
        for _ in range(3):
            next(batches)
    else:
        for _ in input_pipeline.eval_batches(config, split=split):
            pass


def small_config():
    config = default_config()
    config.batch_size = config.eval.batch_size = 2
    config.model.update(
        {
            'name': 'resnet_14',
            'num_classes': CLASSES,
            'width_multiplier': 1 / 16,
        }
    )
    config.data.update(
        {
            'image_size': IMAGE_SIZE,
            'augment': 'none',
            'streams': 2,
            'threads': 2,
            'shuffle_window': 4,
            'name': 'small',
        }
    )
    return config


def write_records(file_format: str, directory: pathlib.Path) -> list[pathlib.Path]:
    """Writes a prepared set 'small': two training files and one to evaluate, 3 images each."""
    import tensorflow as tf
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    target = directory / 'small' / '1.0.0'
    target.mkdir(parents=True)
    encoded = io.BytesIO()
    Image.fromarray(np.arange(40 * 40, dtype=np.uint8).reshape(40, 40)).save(encoded, 'PNG')
    splits, files = [], []
    for split, count in (('train', 2), ('validation', 1)):
        for number in range(count):
            file = target / f'small-{split}.{file_format}-{number:05d}-of-{count:05d}'
            is_array_record = file_format == 'array_record'
            writer = (
                ArrayRecordWriter(str(file), 'group_size:1')
                if is_array_record
                else tf.io.TFRecordWriter(str(file))
            )
            for label in range(3):
                writer.write(
                    tf.train.Example(
                        features=tf.train.Features(
                            feature={
                                'image': tf.train.Feature(
                                    bytes_list={'value': [encoded.getvalue()]}
                                ),
                                'label': tf.train.Feature(int64_list={'value': [label]}),
                            }
                        )
                    ).SerializeToString()
                )
            writer.close()
            files.append(file)
        splits.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[3] * count,
                num_bytes=0,
                filename_template=tfds.core.ShardedFileTemplate(
                    target, dataset_name='small', split=split, filetype_suffix=file_format
                ),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=target,
        check_data=False,
        split_infos=splits,
        features=tfds.features.FeaturesDict(
            {
                'image': tfds.features.Image(encoding_format='png'),
                'label': tfds.features.ClassLabel(names=[f'c{i}' for i in range(CLASSES)]),
            }
        ),
    )
    return files


def read_records(directory: pathlib.Path, file: pathlib.Path) -> None:
    """Reads records as --mode=check does, then as training and evaluation do."""
    config = small_config()
    config.data.data_dir = str(directory)
    split = 'train' if 'train' in file.name else 'validation'
    refused = None
    try:
        locate.find_prepared.cache_clear()
        info = input_pipeline.dataset_info(config)
        data_check.check_split(info, info.split(split))
    except UserError as error:
        refused = error
    # Without the check such a file ends the process inside TensorFlow (docs/convert.md).
    if file.suffix.startswith('.array_record') or not records.overlong_record(str(file)):
        read_split(config, split)
    if refused:
        raise refused


def write_metadata(directory: pathlib.Path) -> list[pathlib.Path]:
    target = write_records('tfrecord', directory)[0].parent
    return [target / name for name in ('dataset_info.json', 'features.json', 'label.labels.txt')]


def read_metadata(directory: pathlib.Path, file: pathlib.Path) -> None:
    """Looks for the dataset as each command does, and as prepare does for an existing set."""
    config = small_config()
    config.data.data_dir = str(directory)
    locate.find_prepared.cache_clear()
    with contextlib.redirect_stdout(io.StringIO()):
        prepare.prepare('small', data_dir=str(directory))
    preflight.check_dataset(config)
