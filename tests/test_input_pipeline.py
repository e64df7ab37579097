"""Batches of all three kinds of sources: contents, splits, evaluation, crops, settings."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import prepared, processes
from helpers.input_batches import SOURCES, assert_same, folder_of, good_file, indices, png, take

import input_pipeline
from resnet_rs.config.stored import write_config
from resnet_rs.datasets import pipeline
from resnet_rs.utils.errors import UserError


@pytest.mark.parametrize('source', SOURCES)
def test_batches_have_shapes_types_and_the_labels_of_their_examples(source):
    config = prepared.config(source)
    info = input_pipeline.dataset_info(config)
    batch = next(input_pipeline.train_batches(config))
    assert {name: (value.shape, str(value.dtype)) for name, value in batch.items()} == {
        'image': ((8, 32, 32, 3), 'uint8'),
        'label': ((8,), 'int32'),
        'mask': ((8,), 'float32'),
        'index': ((8,), 'int32'),
    }
    assert batch['mask'].all() and len(set(batch['index'])) == 8
    labels = np.concatenate(
        [eval_batch['label'] for eval_batch in input_pipeline.eval_batches(config, split='train')]
    )
    assert labels.max() < info.num_classes
    np.testing.assert_array_equal(batch['label'], labels[batch['index']])


def test_slices_of_a_split_are_trained_and_evaluated_apart():
    for source in ('array_record', 'tfrecord'):
        config = prepared.config(source)
        config.data.train_split, config.data.eval_split = 'train[:180]', 'train[180:]'
        seen = indices(take(input_pipeline.train_batches(config), 180 // 8 + 1))
        assert set(seen) <= set(range(180)) and len(set(seen)) > 170
        labels = {}
        for name in ('train', 'train[180:]'):
            batches = list(input_pipeline.eval_batches(config, split=name))
            mask = np.concatenate([batch['mask'] for batch in batches]) > 0
            labels[name] = np.concatenate([batch['label'] for batch in batches])[mask]
        np.testing.assert_array_equal(labels['train'][180:], labels['train[180:]'])


@pytest.mark.parametrize('source', ('array_record', 'tfrecord'))
def test_fold_is_held_out_of_the_middle(source):
    """The 210 examples lie in 8 files; both cuts are inside a file, and so are both ends."""
    config = prepared.config(source)
    config.data.train_split, config.data.eval_split = 'train[:70]+train[140:]', 'train[70:140]'

    def evaluated(split):
        batches = list(input_pipeline.eval_batches(config, split=split))
        kept = np.concatenate([batch['mask'] for batch in batches]) > 0
        return tuple(
            np.concatenate([batch[key] for batch in batches])[kept] for key in ('image', 'label')
        )

    images, labels = evaluated('train')
    rest, rest_labels = evaluated(config.data.train_split)
    np.testing.assert_array_equal(rest, np.delete(images, np.s_[70:140], axis=0))
    np.testing.assert_array_equal(rest_labels, np.delete(labels, np.s_[70:140]))
    np.testing.assert_array_equal(evaluated(config.data.eval_split)[0], images[70:140])

    seen = {}
    for batch in take(input_pipeline.train_batches(config), 140 // 8 + 1):
        seen |= dict(zip(batch['index'].tolist(), batch['label'].tolist(), strict=True))
    assert len(seen) > 130
    assert seen == {index: rest_labels[index] for index in seen}


@pytest.mark.parametrize('source', SOURCES)
def test_minival_is_not_trained_on(source):
    config = prepared.config(source)
    config.data.train_split, config.data.eval_split = 'train_without_minival', 'minival'
    whole = input_pipeline.dataset_info(config).split('train').num_examples
    (batch,) = input_pipeline.eval_batches(config)
    held_out = batch['image'][batch['mask'] > 0]
    # 20/1024 of 210 examples is 4.1; of 72, 1.4.
    assert len(held_out) == {210: 4, 72: 1}[whole]
    seen = input_pipeline.eval_batches(config, split='train_without_minival')
    trained = np.concatenate([batch['image'][batch['mask'] > 0] for batch in seen])
    assert len(trained) == whole - len(held_out)
    assert not {image.tobytes() for image in held_out} & {image.tobytes() for image in trained}
    numbers = indices(take(input_pipeline.train_batches(config), whole // 8 + 1))
    assert numbers.max() < len(trained)


@pytest.mark.parametrize('source', SOURCES)
@pytest.mark.parametrize('process_count, batch_size', [(1, 8), (1, 64), (2, 8), (3, 6), (5, 5)])
def test_evaluation_holds_every_example_once(source, process_count, batch_size):
    config = prepared.config(source)
    n = input_pipeline.dataset_info(config).split('validation').num_examples
    seen, counts = [], set()
    for index in range(process_count):
        batches = input_pipeline.eval_batches(
            config, batch_size=batch_size, process_index=index, process_count=process_count
        )
        assert batches.num_examples == n
        counts.add(len(batches))
        batches = list(batches)
        counts.add(len(batches))
        for batch in batches:
            assert batch['image'].shape == (batch_size // process_count, 32, 32, 3)
            padding = batch['mask'] == 0
            assert (batch['index'][padding] == -1).all() and (batch['label'][padding] == -1).all()
            assert not batch['image'][padding].any()
            seen += batch['index'][~padding].tolist()
    assert seen == list(range(n))
    assert len(counts) == 1


def test_an_evaluation_may_be_repeated_and_resized():
    batches = input_pipeline.eval_batches(prepared.config('tfrecord'), image_size=48, batch_size=10)
    once, again = list(batches), list(batches)
    assert len(once) == len(batches) == 3
    for batch, other in zip(once, again, strict=True):
        assert batch['image'].shape == (10, 48, 48, 3)
        assert_same(batch, other)


def test_a_folder_that_no_setting_names_is_evaluated(tmp_path):
    config = folder_of(tmp_path, [good_file()] * 3)
    (tmp_path / 'val').rename(tmp_path / 'test')
    config.lock()
    batches = list(input_pipeline.eval_batches(config, split='test', batch_size=4))
    assert indices(batches).tolist() == [0, 1, 2, -1]
    assert config.data.eval_split == 'validation'
    with pytest.raises(UserError, match="has no split 'tset'"):
        input_pipeline.eval_batches(config, split='tset')


def test_evaluation_image_equals_numpy(tmp_path):
    """The centre crop of 36 x 60 pixels for 32: bilinear, half-pixel centres, rounded."""
    pixels = np.random.default_rng(0).integers(0, 256, (36, 60, 3)).astype(np.uint8)
    config = folder_of(tmp_path, [png(pixels)])
    config.data.resize = 'bilinear'
    (batch,) = input_pipeline.eval_batches(config, batch_size=1)
    # Side int(36 * 32 / 64) = 18, offsets (36 - 18 + 1) // 2 and (60 - 18 + 1) // 2.
    crop = pixels[9:27, 21:39].astype(np.float64)
    place = np.clip((np.arange(32) + 0.5) * 18 / 32 - 0.5, 0, 17)
    low = np.floor(place).astype(int)
    high, part = np.minimum(low + 1, 17), place - np.floor(place)
    rows = crop[low] * (1 - part)[:, None, None] + crop[high] * part[:, None, None]
    want = rows[:, low] * (1 - part)[None, :, None] + rows[:, high] * part[None, :, None]
    # Rounded to the nearest; float32 may decide halves the other way.
    assert np.abs(batch['image'][0] - want).max() < 0.501


def test_training_image_is_a_crop_flipped_half_of_the_time(tmp_path):
    """A ramp along x shows where the crop lies and whether it was mirrored."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3))
    config = folder_of(tmp_path, [png(ramp.copy())] * 4)
    batches = take(input_pipeline.train_batches(config), 50)
    images = np.concatenate([batch['image'] for batch in batches]).astype(int)
    slopes = images[:, 16, 28, 0] - images[:, 16, 4, 0]
    assert (slopes != 0).all()
    mirrored = (slopes < 0).mean()
    assert 0.36 < mirrored < 0.64  # 200 coins: 0.5 within four deviations of 0.035
    config.data.flip = False
    for batch in take(input_pipeline.train_batches(config), 10):
        assert (batch['image'][:, 16, 28, 0] > batch['image'][:, 16, 4, 0]).all()


def test_augmentation_gets_the_image_and_a_seed_of_its_own(monkeypatch):
    def create_augment(name, *, layers, magnitude, operations=None):
        assert (name, layers, magnitude, operations) == ('randaugment', 2, 10, None)

        def paint(image, seed):
            assert image.dtype == tf.uint8 and image.shape == (32, 32, 3)
            assert seed.dtype == tf.int32 and seed.shape == (2,)
            # The seed's 8 bytes as pixel values, so that the test can read them.
            content = tf.cast(tf.bitcast(seed, tf.uint8), tf.uint8)
            return tf.zeros_like(image) + tf.reshape(content, [8])[0]

        return paint

    monkeypatch.setattr(pipeline, 'create_augment', create_augment)
    config = prepared.config('array_record')
    config.data.augment = 'randaugment'
    batches = take(input_pipeline.train_batches(config), 20)
    values = np.concatenate([batch['image'] for batch in batches])
    assert (values == values[:, :1, :1, :1]).all()
    assert len(np.unique(values[:, 0, 0, 0])) > 60  # of 160 draws out of 256 values


def test_a_batch_that_processes_cannot_share_is_refused():
    config = prepared.config('tfrecord')
    with pytest.raises(UserError, match='batch_size is 8'):
        input_pipeline.train_batches(config, process_count=3)
    with pytest.raises(UserError, match=r'one of 1, 2, 4,'):
        input_pipeline.train_batches(config, process_count=8)
    with pytest.raises(UserError, match=r'eval\.batch_size is 8'):
        input_pipeline.eval_batches(config, process_count=3)


def test_a_program_ends_while_its_inputs_read(tmp_path):
    config = prepared.config('array_record', batch_size=64)
    config.data.name, config.data.data_dir = 'digits', prepared.data_dir('digits', 'array_record')
    write_config(tmp_path, config)
    program = processes.start_alone('tests/helpers/open_readers.py', tmp_path)
    assert processes.finish([program], timeout=60) == [(0, '', '')]
