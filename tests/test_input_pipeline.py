"""Batches of all three kinds of sources: order, position, processes, crops, bad data."""

import io
import pathlib
import shutil

import numpy as np
import prepared
import pytest
import tensorflow as tf
from imagenet_archives import picture
from PIL import Image

import input_pipeline
from resnet_rs.errors import UserError

SOURCES = ('array_record', 'tfrecord', 'image_folder')


def take(batches, count):
    return [next(batches) for _ in range(count)]


def assert_same(batch, other):
    assert set(batch) == set(other) == {'image', 'label', 'mask', 'index'}
    for name in batch:
        np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def indices(batches):
    return np.concatenate([batch['index'] for batch in batches])


@pytest.mark.parametrize('source', SOURCES)
def test_batches_have_shapes_types_and_the_labels_of_their_examples(source):
    config = prepared.config(source)
    info = input_pipeline.dataset_info(config)
    batch = next(input_pipeline.train_batches(config))
    assert {name: (value.shape, str(value.dtype)) for name, value in batch.items()} == {
        'image': ((8, 32, 32, 3), 'uint8'), 'label': ((8,), 'int32'), 'mask': ((8,), 'float32'),
        'index': ((8,), 'int32'),
    }
    assert batch['mask'].all() and len(set(batch['index'])) == 8
    labels = np.concatenate([
        eval_batch['label'] for eval_batch in input_pipeline.eval_batches(config, split='train')
    ])
    assert labels.max() < info.num_classes
    np.testing.assert_array_equal(batch['label'], labels[batch['index']])


@pytest.mark.parametrize('source', ['array_record', 'image_folder'])
def test_random_access_epochs_hold_every_example_once(source):
    config = prepared.config(source)
    n = input_pipeline.dataset_info(config).split('train').num_examples
    seen = indices(take(input_pipeline.train_batches(config), 3 * n // 8 + 1))
    epochs = [seen[epoch * n:(epoch + 1) * n] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(n))
        assert list(epoch) != list(range(n))
    assert list(epochs[0]) != list(epochs[1])


def streams_by_epoch(config, epochs):
    """The example numbers that each of the 4 streams gives out, cut into epochs."""
    n, streams = prepared.TRAIN_EXAMPLES, 4
    steps = epochs * n // config.batch_size + 2
    # Stream s owns a fixed slice of every batch.
    seen = indices(take(input_pipeline.train_batches(config), steps))
    seen = seen.reshape(steps, streams, config.batch_size // streams)
    parts = []
    for epoch in range(epochs):
        bounds = [[((epoch + i) * n + stream) // streams for i in (0, 1)]
                  for stream in range(streams)]
        parts.append([
            seen[:, stream].ravel()[low:high].tolist() for stream, (low, high) in enumerate(bounds)
        ])
    return parts


@pytest.mark.parametrize('batch_size', [8, 12])
def test_streams_read_whole_files_and_every_example_once_an_epoch(batch_size):
    config = prepared.config('tfrecord', batch_size=batch_size)
    config.data.shuffle_window = 1
    shards = input_pipeline.dataset_info(config).split('train').shards
    first = np.cumsum([0, *(shard.take for shard in shards)]).tolist()
    file_orders = []
    for parts in streams_by_epoch(config, 3):
        sequence, file_order = sum(parts, []), []
        assert sorted(sequence) == list(range(prepared.TRAIN_EXAMPLES))
        while sequence:
            number = first.index(sequence[0])
            count = shards[number].take
            assert sequence[:count] == list(range(first[number], first[number] + count))
            file_order.append(number)
            del sequence[:count]
        file_orders.append(tuple(file_order))
    assert len(set(file_orders)) == 3


def test_windows_are_shuffled_within_themselves():
    config = prepared.config('tfrecord')
    windows = {}
    for window in (1, 5):
        config.data.shuffle_window = window
        windows[window] = [
            part[i:i + 5] for parts in streams_by_epoch(config, 3) for part in parts
            for i in range(0, len(part), 5)
        ]
    for shuffled, plain in zip(windows[5], windows[1], strict=True):
        assert sorted(shuffled) == sorted(plain)
    moved = sum(a != b for a, b in zip(windows[5], windows[1], strict=True))
    assert moved > 0.9 * len(windows[1])  # 1 of 120 orders of five is the plain one


@pytest.mark.parametrize('source', SOURCES)
def test_starting_at_any_step_continues_the_stream_bitwise(source):
    config = prepared.config(source)
    steps = 60  # more than two epochs of 210 examples
    batches = take(input_pipeline.train_batches(config), steps)
    for first_step in (1, 2, 25, 26, 27, 53):
        resumed = input_pipeline.train_batches(config, first_step=first_step)
        for step in range(first_step, min(first_step + 4, steps)):
            assert resumed.step == step
            assert_same(next(resumed), batches[step])


@pytest.mark.parametrize('source', SOURCES)
@pytest.mark.parametrize('process_count', [2, 4])
def test_processes_share_the_batch_of_one_bitwise(source, process_count):
    config = prepared.config(source)
    for first_step in (0, 25):
        whole = input_pipeline.train_batches(config, first_step=first_step)
        parts = [
            input_pipeline.train_batches(
                config, first_step=first_step, process_index=index, process_count=process_count
            )
            for index in range(process_count)
        ]
        for batch in take(whole, 5):
            pieces = [next(part) for part in parts]
            assert_same(
                {name: np.concatenate([piece[name] for piece in pieces]) for name in batch}, batch
            )


def test_threads_and_prefetch_change_nothing_and_the_seed_everything():
    batches = take(input_pipeline.train_batches(prepared.config('tfrecord')), 3)
    config = prepared.config('tfrecord')
    config.data.threads, config.data.prefetch_batches = 5, 1
    for batch, other in zip(batches, input_pipeline.train_batches(config), strict=False):
        assert_same(batch, other)
    config.seed = 1
    assert (next(input_pipeline.train_batches(config))['index'] != batches[0]['index']).any()


def test_an_example_is_seen_differently_in_every_epoch():
    config = prepared.config('array_record')
    seen = {}
    for batch in take(input_pipeline.train_batches(config), 3 * 210 // 8):
        for index, image in zip(batch['index'], batch['image'], strict=True):
            seen.setdefault(int(index), []).append(image)
    repeated = [views for views in seen.values() if len(views) > 1]
    same = sum(np.array_equal(views[0], views[1]) for views in repeated)
    assert len(repeated) > 200 and same == 0


@pytest.mark.parametrize('source', SOURCES)
def test_repeated_augmentation_shows_each_example_several_times(source):
    config = prepared.config(source, batch_size=24)
    single = prepared.config(source, batch_size=8)
    config.data.repeated_augmentation = 3
    repeated = take(input_pipeline.train_batches(config), 12)
    for batch, once in zip(repeated, input_pipeline.train_batches(single), strict=False):
        views = batch['image'].reshape(8, 3, 32, 32, 3)
        for name in ('index', 'label'):
            np.testing.assert_array_equal(batch[name].reshape(8, 3), once[name][:, None] + [0] * 3)
        np.testing.assert_array_equal(views[:, 0], once['image'])
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert (views[:, first] != views[:, second]).any((1, 2, 3)).all()
    resumed = input_pipeline.train_batches(config, first_step=7)
    assert_same(next(resumed), repeated[7])
    halves = [
        next(input_pipeline.train_batches(
            config, first_step=5, process_index=index, process_count=2
        )) for index in range(2)
    ]
    joined = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
    assert_same(joined, repeated[5])
    config.data.repeated_augmentation = 5
    with pytest.raises(UserError, match='repeated_augmentation is 5'):
        input_pipeline.train_batches(config)


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

    monkeypatch.setattr(input_pipeline, 'create_augment', create_augment)
    config = prepared.config('array_record')
    config.data.augment = 'randaugment'
    batches = take(input_pipeline.train_batches(config), 20)
    values = np.concatenate([batch['image'] for batch in batches])
    assert (values == values[:, :1, :1, :1]).all()
    assert len(np.unique(values[:, 0, 0, 0])) > 60  # of 160 draws out of 256 values


def test_odd_files_are_read(tmp_path):
    random = np.random.default_rng(0)
    rgb = Image.fromarray(random.integers(0, 256, (40, 50, 3)).astype(np.uint8))
    kinds = [
        (rgb.convert('L'), 'JPEG'), (rgb.convert('CMYK'), 'JPEG'), (rgb, 'PNG'),
        (rgb.convert('RGBA'), 'PNG'), (rgb.convert('I;16'), 'PNG'), (rgb.resize((1, 1)), 'JPEG'),
        (rgb.resize((2000, 10)), 'JPEG'), (rgb.resize((10, 2000)), 'PNG'),
    ]
    config = folder_of(tmp_path, [encoded(image, file_format) for image, file_format in kinds])
    for batch in take(input_pipeline.train_batches(config), 10):
        assert batch['mask'].all()
    assert sum(batch['mask'].sum() for batch in input_pipeline.eval_batches(config)) == 8


def bad_files():
    good = good_file()
    return [good, good[: len(good) // 2], good, b'', good, b'not an image', good, good[:100], good]


@pytest.mark.parametrize('kind', ['training', 'evaluation'])
def test_corrupt_images_fail_and_are_named(tmp_path, kind):
    config = folder_of(tmp_path, bad_files())
    batches = (
        input_pipeline.train_batches(config) if kind == 'training'
        else iter(input_pipeline.eval_batches(config))
    )
    with pytest.raises(UserError) as error:
        take(batches, 3)
    message = str(error.value)
    assert 'cannot decode' in message and 'corrupt_images' in message and '\n' not in message
    split = 'train' if kind == 'training' else 'val'
    assert any(f'/{split}/a/00{number}.jpg' in message for number in (1, 3, 5, 7))


def test_corrupt_images_are_skipped_in_their_place(tmp_path, caplog):
    bad = {1, 3, 5, 7}
    config = folder_of(tmp_path / 'bad', bad_files())
    config.data.corrupt_images = 'skip'
    good = folder_of(tmp_path / 'good', [good_file()] * 9)
    config.data.augment = good.data.augment = 'randaugment'
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


def test_label_outside_the_classes_is_named(tmp_path):
    def change(number, example):
        if number == 4:
            example.features.feature['label'].int64_list.value[0] = 1000

    config, path = rewritten(tmp_path, change)
    with pytest.raises(UserError, match=f'label 1000 .* 1000 classes in record 4 of {path}'):
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
    path.write_bytes(content[:middle] + bytes(2000) + content[middle + 2000:])
    config = prepared.config('array_record')
    config.data.data_dir = str(tmp_path / 'data')
    with pytest.raises(UserError, match=f'{path} is damaged after'):
        take(input_pipeline.train_batches(config), 27)


def test_settings_that_cannot_be():
    config = prepared.config('tfrecord')
    with pytest.raises(UserError, match='batch_size is 8'):
        input_pipeline.train_batches(config, process_count=3)
    with pytest.raises(UserError, match=r'one of \[1, 2, 4\]'):
        input_pipeline.train_batches(config, process_count=8)
    with pytest.raises(UserError, match=r'eval\.batch_size is 8'):
        input_pipeline.eval_batches(config, process_count=3)
    for name, value in (('resize', 'cubic'), ('eval_crop', 'center'), ('corrupt_images', 'hope')):
        config = prepared.config('tfrecord')
        config.data[name] = value
        with pytest.raises(UserError, match=f'data.{name} is {value!r}'):
            input_pipeline.train_batches(config)
    config = prepared.config('tfrecord')
    config.seed = -1
    with pytest.raises(UserError, match='seed is -1'):
        input_pipeline.train_batches(config)
