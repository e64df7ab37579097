"""Sets of ImageNet-sized records in the formats of tfds, of any length, written in minutes."""

import argparse
import itertools
import pathlib
import shutil

import resnet_rs  # noqa: F401 - prepares the environment for TensorFlow

NAME = 'photographs'
RECORDS_PER_FILE = 1251  # as ImageNet's 1,281,167 in 1,024 files
DIFFERENT_FILES = 4


def create_parser(description: str, **defaults: int) -> argparse.ArgumentParser:
    """Returns a parser of the flags that the benchmarks of record sets share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--photographs', required=True)
    parser.add_argument('--sets', required=True, help='directory for the record sets')
    parser.add_argument('--formats', default='array_record,tfrecord')
    for name, default in defaults.items():
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--measure', action='store_true', help=argparse.SUPPRESS)
    return parser


def write_record_set(
    directory: pathlib.Path, photographs: pathlib.Path, file_format: str, records: int
) -> None:
    """Writes the set 'photographs' of `records` examples under `directory`, unless it exists.

    The pictures repeat: four files contain those of photographs/train/CLASS in turn, and the other
    files are copies of these. The only split is 'train'.

    Args:
      directory: the data.data_dir of the set.
      photographs: the directory that photographs.write_photographs wrote.
      file_format: 'array_record' or 'tfrecord'.
      records: rounded up to whole files of 1,251.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    target = directory / NAME / '1.0.0'
    if (target / 'dataset_info.json').exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    files = sorted(photographs.glob('train/*/*.JPEG'))
    examples = itertools.cycle([_serialized(tf, path) for path in files])
    count = -(-records // RECORDS_PER_FILE)
    written = []
    for number in range(count):
        path = target / f'{NAME}-train.{file_format}-{number:05d}-of-{count:05d}'
        if number >= DIFFERENT_FILES:
            shutil.copyfile(written[number % DIFFERENT_FILES], path)
            continue
        written.append(path)
        writer = _writer(tf, path, file_format)
        for example in itertools.islice(examples, RECORDS_PER_FILE):
            writer.write(example)
        writer.close()
    split = tfds.core.SplitInfo(
        name='train',
        shard_lengths=[RECORDS_PER_FILE] * count,
        num_bytes=0,
        filename_template=tfds.core.ShardedFileTemplate(
            target,
            dataset_name=NAME,
            split='train',
            filetype_suffix=file_format,
        ),
    )
    classes = sorted({path.parent.name for path in files})
    tfds.folder_dataset.write_metadata(
        data_dir=target,
        check_data=False,
        split_infos=[split],
        features=tfds.features.FeaturesDict(
            {
                'image': tfds.features.Image(encoding_format='jpeg'),
                'label': tfds.features.ClassLabel(names=classes),
            }
        ),
    )


def _serialized(tf, path: pathlib.Path) -> bytes:
    image = tf.train.BytesList(value=[path.read_bytes()])
    label = tf.train.Int64List(value=[int(path.parent.name)])
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                'image': tf.train.Feature(bytes_list=image),
                'label': tf.train.Feature(int64_list=label),
            }
        )
    ).SerializeToString()


def _writer(tf, path: pathlib.Path, file_format: str):
    if file_format == 'tfrecord':
        return tf.io.TFRecordWriter(str(path))
    from array_record.python.array_record_module import ArrayRecordWriter

    return ArrayRecordWriter(str(path), 'group_size:1')  # as tfds writes them
