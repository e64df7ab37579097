"""The order of training: epochs, streams, windows, resuming, processes, repeated views."""

import numpy as np
import pytest
from helpers import prepared
from helpers.input_batches import SOURCES, assert_same, indices, take

import input_pipeline


@pytest.mark.parametrize('source', ['array_record', 'image_folder'])
def test_random_access_epochs_hold_every_example_once(source):
    config = prepared.config(source)
    n = input_pipeline.dataset_info(config).split('train').num_examples
    seen = indices(take(input_pipeline.train_batches(config), 3 * n // 8 + 1))
    epochs = [seen[epoch * n : (epoch + 1) * n] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(n))
        assert list(epoch) != list(range(n))
    assert list(epochs[0]) != list(epochs[1])


def streams_by_epoch(config, epochs):
    """The example numbers that each of the 4 streams yields, cut into epochs."""
    n, streams = prepared.TRAIN_EXAMPLES, 4
    steps = epochs * n // config.batch_size + 2
    # Stream s owns a fixed slice of every batch.
    seen = indices(take(input_pipeline.train_batches(config), steps))
    seen = seen.reshape(steps, streams, config.batch_size // streams)
    parts = []
    for epoch in range(epochs):
        bounds = [
            [((epoch + i) * n + stream) // streams for i in (0, 1)] for stream in range(streams)
        ]
        parts.append(
            [
                seen[:, stream].ravel()[low:high].tolist()
                for stream, (low, high) in enumerate(bounds)
            ]
        )
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
            part[i : i + 5]
            for parts in streams_by_epoch(config, 3)
            for part in parts
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
def test_processes_share_the_batch_of_one_bitwise(source):
    """Four of them, computed here; test_input_pipeline_processes.py has two real ones."""
    config, process_count = prepared.config(source), 4
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


@pytest.mark.parametrize('source', ['array_record', 'tfrecord'])
@pytest.mark.parametrize('split, examples', [('validation', 29), ('validation[:3]', 3)])
def test_four_processes_evaluate_every_example_once(source, split, examples):
    """29 leave a partial batch, 3 are fewer than the processes; all have as many batches."""
    config = prepared.config(source)
    parts = [
        list(input_pipeline.eval_batches(config, split=split, process_index=index, process_count=4))
        for index in range(4)
    ]
    assert len({len(part) for part in parts}) == 1
    counted = [batch['index'][batch['mask'] > 0] for part in parts for batch in part]
    assert sorted(np.concatenate(counted)) == list(range(examples))


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
        next(
            input_pipeline.train_batches(config, first_step=5, process_index=index, process_count=2)
        )
        for index in range(2)
    ]
    joined = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
    assert_same(joined, repeated[5])
