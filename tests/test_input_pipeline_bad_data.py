"""Odd, corrupt and missing images, records and files: named, skipped and counted, or refused."""

import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from helpers import prepared
from helpers.input_batches import encoded, folder_of, good_file, take
from PIL import Image

import input_pipeline
from resnet_rs.datasets import pipeline, reader
from resnet_rs.datasets.image_file import read_image
from resnet_rs.datasets.images import evaluation_transform
from resnet_rs.utils.errors import UserError


def test_odd_files_are_read(tmp_path):
    random = np.random.default_rng(0)
    rgb = Image.fromarray(random.integers(0, 256, (40, 50, 3)).astype(np.uint8))
    kinds = [
        (rgb.convert('L'), 'JPEG'),
        (rgb.convert('CMYK'), 'JPEG'),
        (rgb, 'PNG'),
        (rgb.convert('RGBA'), 'PNG'),
        (rgb.convert('I;16'), 'PNG'),
        (rgb.resize((1, 1)), 'JPEG'),
        (rgb.resize((2000, 10)), 'JPEG'),
        (rgb.resize((10, 2000)), 'PNG'),
        (rgb, 'WEBP'),
        (rgb.convert('P'), 'GIF'),
        (rgb, 'BMP'),
        (rgb.convert('P'), 'BMP'),
    ]
    config = folder_of(tmp_path, [encoded(image, file_format) for image, file_format in kinds])
    for batch in take(input_pipeline.train_batches(config), 10):
        assert batch['mask'].all()
    batches = list(input_pipeline.eval_batches(config))
    assert sum(batch['mask'].sum() for batch in batches) == len(kinds)
    transform = evaluation_transform(config.data, config.data.image_size)
    files = sorted((tmp_path / 'val' / 'a').iterdir())
    for file, pixels in zip(files, np.concatenate([b['image'] for b in batches]), strict=True):
        np.testing.assert_array_equal(pixels, read_image(file, transform), err_msg=str(file))


def test_names_may_be_of_any_bytes(tmp_path):
    config = folder_of(tmp_path, [good_file()] * 4)
    os.rename(tmp_path / 'val' / 'a' / '000.jpg', os.fsencode(tmp_path / 'val/a') + b'/\xe9.jpg')
    [batch] = input_pipeline.eval_batches(config)
    assert batch['mask'].all()


def bad_files():
    good = good_file()
    return [good, good[: len(good) // 2], good, b'', good, b'not an image', good, good[:100], good]


@pytest.mark.parametrize('cache', ['', 'disk'])
def test_a_broken_link_is_a_corrupt_image(tmp_path, cache):
    config = folder_of(tmp_path / 'data', [good_file()] * 6)
    (tmp_path / 'data' / 'train' / 'a' / 'lost.jpg').symlink_to('gone.jpg')
    config.data.cache, config.data.cache_dir = cache, str(tmp_path / 'cache')
    with pytest.raises(UserError, match=r'cannot decode the image in .*/train/a/lost\.jpg'):
        take(input_pipeline.train_batches(config), 10)
    config.data.corrupt_images = 'skip'
    batches = input_pipeline.train_batches(config)
    take(batches, 10)
    assert batches.corrupt_images


@pytest.mark.parametrize('kind', ['training', 'evaluation'])
def test_corrupt_images_fail_and_are_named(tmp_path, kind):
    config = folder_of(tmp_path, bad_files())
    batches = (
        input_pipeline.train_batches(config)
        if kind == 'training'
        else iter(input_pipeline.eval_batches(config))
    )
    with pytest.raises(UserError) as error:
        take(batches, 3)
    message = str(error.value)
    assert 'cannot decode' in message and 'corrupt_images' in message and '\n' not in message
    split = 'train' if kind == 'training' else 'val'
    assert any(f'/{split}/a/00{number}.jpg' in message for number in (1, 3, 5, 7))


def test_corrupt_images_are_skipped_in_their_place(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(reader, 'GUARDED_BATCHES', 2)
    opened = []
    open_pipeline = pipeline.Pipeline.open

    def spy(pipeline, first, guarded, undecodable):
        opened.append(guarded)
        return open_pipeline(pipeline, first, guarded, undecodable)

    bad = {1, 3, 5, 7}
    config = folder_of(tmp_path / 'bad', bad_files())
    config.data.corrupt_images = 'skip'
    good = folder_of(tmp_path / 'good', [good_file()] * 9)
    config.data.augment = good.data.augment = 'randaugment'
    monkeypatch.setattr(pipeline.Pipeline, 'open', spy)
    batches = input_pipeline.train_batches(config)
    count = 0
    for step, clean in zip(range(9), input_pipeline.train_batches(good), strict=False):
        batch = next(batches)
        np.testing.assert_array_equal(batch['index'], clean['index'])
        blank = np.isin(batch['index'], list(bad))
        count += blank.sum()
        assert batches.corrupt_images == count and batches.step == step + 1
        np.testing.assert_array_equal(batch['mask'], ~blank)
        np.testing.assert_array_equal(batch['label'], np.where(blank, -1, clean['label']))
        np.testing.assert_array_equal(
            batch['image'], np.where(blank[:, None, None, None], 0, clean['image'])
        )
    assert count == 16  # four epochs of four
    named = [record.getMessage() for record in caplog.records if 'undecodable' in record.msg]
    assert len(named) == 4 and all('.jpg' in message for message in named)
    # The bad set is opened plain, guarded and plain again, the good one once.
    assert sorted(opened) == [False, False, False, True] and opened[-1] is False
    evaluation = input_pipeline.eval_batches(config)
    assert sum(batch['mask'].sum() for batch in evaluation) == 5
    assert evaluation.corrupt_images == 4


def rewritten(tmp_path, change):
    """A copy of the TFRecord set in whose file 2 `change(number, example)` has edited records."""
    shutil.copytree(prepared.data_dir('imagenet2012', 'tfrecord'), tmp_path / 'data')
    path = str(next((tmp_path / 'data').rglob('*train.tfrecord-00002-of-00008')))
    serialized = [record.numpy() for record in tf.data.TFRecordDataset(path)]
    with tf.io.TFRecordWriter(path) as writer:
        for number, record in enumerate(serialized):
            example = tf.train.Example.FromString(record)
            if change(number, example) is not False:
                writer.write(example.SerializeToString())
    config = prepared.config('tfrecord')
    config.data.data_dir = str(tmp_path / 'data')
    return config, path


def test_corrupt_record_is_named(tmp_path):
    def change(number, example):
        if number == 7:
            example.features.feature['image'].bytes_list.value[0] = b'\xff\xd8\xff broken'

    config, path = rewritten(tmp_path, change)
    with pytest.raises(UserError, match=f'record 7 of {path}'):
        take(input_pipeline.train_batches(config), 27)


@pytest.mark.parametrize(
    'label, message',
    [
        (1000, 'label 1000 .* 1,000 classes in record 4 of {}'),
        (-1, 'label -1, for none, in record 4 of {} .* of this split have no labels; name another'),
    ],
)
def test_label_outside_the_classes_is_named(label, message, tmp_path):
    def change(number, example):
        if number == 4:
            example.features.feature['label'].int64_list.value[0] = label

    config, path = rewritten(tmp_path, change)
    with pytest.raises(UserError, match=message.format(path)):
        list(input_pipeline.eval_batches(config, split='train'))


def test_damaged_record_files_are_named(tmp_path):
    config, path = rewritten(tmp_path / 'short', lambda number, example: number != 9)
    with pytest.raises(UserError, match=f'{path} holds .* instead of'):
        take(input_pipeline.train_batches(config), 27)
    config, path = rewritten(tmp_path / 'cut', lambda number, example: True)
    content = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match=f'{path} is damaged'):
        take(input_pipeline.train_batches(config), 27)
    config, path = rewritten(tmp_path / 'gone', lambda number, example: True)
    batches = input_pipeline.train_batches(config)
    pathlib.Path(path).unlink()
    with pytest.raises(UserError, match=f'{path} is missing'):
        take(batches, 27)


def test_damaged_array_record_file_is_named(tmp_path):
    shutil.copytree(prepared.data_dir('imagenet2012', 'array_record'), tmp_path / 'data')
    path = next((tmp_path / 'data').rglob('*train.array_record-00002-of-00008'))
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(2000) + content[middle + 2000 :])
    config = prepared.config('array_record')
    config.data.data_dir = str(tmp_path / 'data')
    with pytest.raises(UserError, match=f'{path} is damaged after'):
        take(input_pipeline.train_batches(config), 27)
