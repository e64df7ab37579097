"""The data part of --mode=check: counts, labels and contact sheets; damage is named."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers import prepared
from helpers.input_batches import folder_of, good_file
from PIL import Image
from sklearn.datasets import load_digits

import input_pipeline
from input_pipeline import eval_batches, train_batches
from resnet_rs.config import default_config
from resnet_rs.datasets import decoding, splits
from resnet_rs.run import data_check
from resnet_rs.run.data_check import check_data
from resnet_rs.run.report import class_title
from resnet_rs.utils.errors import UserError


@pytest.fixture
def no_sheets(monkeypatch):
    """Leaves out the pictures; test_whole_set_is_counted_and_shown draws them."""
    monkeypatch.setattr(data_check.report, 'draw_images', lambda *arguments, **settings: None)
    monkeypatch.setattr(data_check, 'encode_figure', lambda *arguments: b'')


def checked(config, workdir):
    return check_data(config, workdir, train_batches, eval_batches)


def test_whole_set_is_counted_and_shown(tmp_path):
    config = default_config()
    config.data.name = 'digits'
    config.data.data_dir = prepared.data_dir('digits', 'array_record')
    config.data.image_size = 48
    text = '\n'.join(checked(config, tmp_path))
    assert 'train: 1,437 examples in 1 file,' in text and '(as expected)' in text
    assert 'validation: 360 examples' in text and 'WARNING' not in text
    counts = np.bincount(load_digits().target[:1437])
    assert (
        f'all 1,437 examples, read and counted: 10 of 10 classes, {counts.min()} to {counts.max()} '
        f'each, median {np.median(counts):g}' in text
    )
    for name in ('train', 'eval'):
        pixels = np.asarray(Image.open(tmp_path / 'check' / f'{name}.png').convert('L'))
        # 32 pictures of light digits on black: much of the page is dark, much of it is paper.
        assert pixels.shape[1] > 1000 and (pixels < 60).mean() > 0.1 < (pixels > 250).mean()


@pytest.mark.parametrize('source', ['tfrecord', 'array_record', 'image_folder'])
def test_small_sets_are_told_from_whole_ones(no_sheets, tmp_path, source):
    config = prepared.config(source)
    config.data.augment = 'color_jitter_lighting+randaugment'
    lines = checked(config, tmp_path)
    text = '\n'.join(lines)
    if source == 'image_folder':
        assert 'train: 72 examples in 72 files' in text
        assert 'all examples: 3 of 3 classes, 23 to 25 each, median 24' in text
        return
    assert 'train: 210 examples in 8 files' in text
    assert 'WARNING: the whole split has 1,281,167' in text
    lengths = input_pipeline.dataset_info(config).split('train').shard_lengths
    sampled = lengths[0] + lengths[4] + lengths[7]  # the middle of 0 .. 7 is rounded to even
    assert f'labels of 3 files, {sampled} examples, read and counted' in text


def test_splits_that_are_parts_are_counted(no_sheets, tmp_path):
    config = prepared.config('array_record')
    config.data.train_split, config.data.eval_split = 'train_without_minival', 'minival'
    lines = checked(config, tmp_path)
    assert 'train_without_minival: 206 examples' in lines and 'minival: 4 examples' in lines
    assert any(line.startswith('4 images of minival') for line in lines)


@pytest.mark.parametrize('source', ['digits', 'image_folder'])
def test_some_of_the_classes(no_sheets, tmp_path, source):
    """Examples of other classes are neither counted nor taken for damage."""
    if source == 'digits':
        config = default_config()
        config.data.name = 'digits'
        config.data.data_dir = prepared.data_dir('digits', 'array_record')
        labels = load_digits().target[:1437]
    else:
        config = prepared.config(source)
        labels = np.array(input_pipeline.dataset_info(config).split('train').labels)
    config.data.classes = (2, 0)
    config.model.num_classes = 2
    text = '\n'.join(checked(config, tmp_path))
    counts = np.bincount(labels)[[2, 0]]
    assert f'train: {counts.sum()} examples in ' in text and 'WARNING' not in text
    assert f'all examples: 2 of 2 classes, {counts.min()} to {counts.max()} each' in text
    assert f'decoded all {counts.sum()} images, 0 failed' in text


def test_computed_labels_are_counted(tmp_path):
    """The records of a file are read as those of its split: here, 16 positions of two each."""
    features = {'image': tfds.features.Image(), 'label_x_position': np.int64}
    features = tfds.features.FeaturesDict(features)
    path = tmp_path / 'set-train.tfrecord-00000-of-00001'
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(32):
            example = {'image': np.zeros((8, 8, 3), np.uint8), 'label_x_position': number}
            writer.write(features.serialize_example(features.encode_example(example)))
    shard = splits.Shard(str(path), 0, 32, 32)
    split = splits.SplitInfo('train', 32, (shard,), (), (), '', computed_label='x_position')
    names = tuple(map(str, range(16)))
    info = splits.DatasetInfo('set', str(tmp_path), 'tfrecord', names, {'train': split})
    counts, _ = data_check.label_counts(info, split)
    np.testing.assert_array_equal(counts, [2] * 16)
    with pytest.raises(UserError, match='label 3 is outside the 3 classes in record 6 of'):
        data_check.label_counts(dataclasses.replace(info, class_names=names[:3]), split)
    with pytest.raises(UserError, match='label -1, for none, in record 1 of .* have no labels'):
        data_check._check_labels(info, split, np.array([0, -1]), range(2))


def test_damage_is_named(no_sheets, tmp_path):
    for source in ('tfrecord', 'array_record'):
        shutil.copytree(prepared.data_dir('imagenet2012', source), tmp_path / source)
        config = prepared.config(source)
        config.data.data_dir = str(tmp_path / source)
        last, other = (
            next(pathlib.Path(config.data.data_dir).rglob(f'*train.{source}-0000{number}-of-00008'))
            for number in (7, 3)
        )
        content = last.read_bytes()
        last.write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match=str(last)):
            checked(config, tmp_path / 'work')
        last.write_bytes(content)
        other.write_bytes(b'')
        with pytest.raises(UserError, match=f'{other} is empty'):
            checked(config, tmp_path / 'work')


def good_and_bad(tmp_path, bad=()):
    """A folder config of 12 images in a class, of which the numbers `bad` are damaged."""
    files = [good_file() for _ in range(12)]
    for number in bad:
        files[number] = files[number][:-300] if number % 2 else b'no image'
    config = folder_of(tmp_path / 'data', files)
    config.data.eval_split = 'val'
    return config


def test_every_image_of_a_small_folder_is_decoded(no_sheets, tmp_path):
    text = '\n'.join(checked(good_and_bad(tmp_path), tmp_path))
    assert 'train: decoded all 12 images, 0 failed\nval: decoded all 12 images, 0 failed' in text


def test_progress_is_told_and_libraries_are_not_heard(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(decoding, '_PROGRESS_SECONDS', 0)
    info = input_pipeline.dataset_info(good_and_bad(tmp_path, (1, 4)))
    split = info.split('train')
    sample = decoding.choose_sample(split, info.file_format)
    capfd.readouterr()  # of tfds, which may just have written the images
    assert decoding.decode(split, info.file_format, sample, threads=2).bad == [1, 4]
    lines = capfd.readouterr().err.splitlines()
    assert lines and set(lines) <= {
        f'train: decoded {count} of 12 images' for count in range(1, 13)
    }


def test_images_that_training_would_refuse_are_named(no_sheets, tmp_path):
    """Damage near the end of a JPEG only shows in crops that reach down to it."""
    config = good_and_bad(tmp_path, (1, 4, 5, 9))
    with pytest.raises(UserError) as error:
        checked(config, tmp_path)
    message = str(error.value)
    for split in ('train', 'val'):
        assert f'4 of 12 images of {split} that were tried cannot be decoded: ' in message
        for number in (1, 4, 5):
            assert f'{tmp_path}/data/{split}/a/00{number}.jpg (example {number} ' in message
    assert message.count(' and 1 more') == 2 and '--config.data.corrupt_images=skip' in message
    assert not (tmp_path / 'check').exists()


def test_images_that_training_would_skip_are_counted_and_named(no_sheets, tmp_path):
    config = good_and_bad(tmp_path, (1, 4))
    config.data.corrupt_images = 'skip'
    lines = checked(config, tmp_path)
    assert 'train: decoded all 12 images, 2 failed' in lines
    [warning] = [line for line in lines if 'images of train that were tried' in line]
    assert warning.startswith('WARNING: 2 of 12') and warning.endswith('they will be skipped')
    assert f'{tmp_path}/data/train/a/001.jpg' in warning and '/a/004.jpg' in warning


@pytest.mark.parametrize(
    'source, text, count',
    [
        ('array_record', '20 of 210 images, evenly spaced', 20),
        ('tfrecord', '20 of 210 images, the first of 4 evenly spaced files', 20),
        ('image_folder', '20 of 72 images, evenly spaced', 20),
    ],
)
def test_of_a_large_set_a_sample_is_decoded(source, text, count, monkeypatch):
    monkeypatch.setattr(decoding, 'MOST_WHOLE', 50)
    monkeypatch.setattr(decoding, 'SAMPLE', 20)
    monkeypatch.setattr(decoding, '_RECORDS_AT_ONCE', 5)
    info = input_pipeline.dataset_info(prepared.config(source))
    split = info.split('train')
    sample = decoding.choose_sample(split, info.file_format)
    assert (sample.text, sample.size) == (text, count)
    result = decoding.decode(split, info.file_format, sample, threads=2)
    wanted = [index for start, stop in sample.ranges for index in range(start, stop)]
    assert result.indices.tolist() == wanted and not result.bad
    if source == 'tfrecord':
        starts = np.cumsum([0, *split.shard_lengths])
        assert [start for start, _ in sample.ranges] == starts[[0, 2, 5, 7]].tolist()
    else:
        assert wanted[0] == 0 and wanted[-1] == split.num_examples - 1
        assert set(np.diff(wanted)) <= {
            len(split.labels or range(210)) // 20 + more for more in (0, 1)
        }


def test_records_without_an_image_are_named(no_sheets, tmp_path):
    shutil.copytree(prepared.data_dir('imagenet2012', 'tfrecord'), tmp_path / 'data')
    path = next((tmp_path / 'data').rglob('*train.tfrecord-00003-of-00008'))
    examples = [
        tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))
    ]
    examples[5].features.feature['image'].bytes_list.value[0] = b'no image'
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example.SerializeToString())
    config = prepared.config('tfrecord')
    config.data.data_dir = str(tmp_path / 'data')
    message = f'1 of 210 images of train that were tried cannot be decoded: record 5 of {path} '
    with pytest.raises(UserError, match=message):
        checked(config, tmp_path)


def test_titles_are_names():
    assert class_title('n01440764') == 'tench'
    assert class_title('7') == '7'
    assert len(class_title('n02105855')) <= 18


@pytest.mark.parametrize('length', [2**40, 2**63, 2**64 - 1])
def test_record_longer_than_its_file_is_named(length, tmp_path):
    shutil.copytree(prepared.data_dir('imagenet2012', 'tfrecord'), tmp_path / 'data')
    path = next((tmp_path / 'data').rglob('*train.tfrecord-00000-of-00008'))
    content = path.read_bytes()
    second = 16 + int.from_bytes(content[:8], 'little')
    path.write_bytes(content[:second] + length.to_bytes(8, 'little') + content[second + 8 :])
    config = prepared.config('tfrecord')
    config.data.data_dir = str(tmp_path / 'data')
    with pytest.raises(UserError, match=f'{path} is damaged after 1 record .*{length:,} bytes'):
        checked(config, tmp_path)
