"""Reading ahead onto the devices: the same order, the right counts, and a clean end."""

import collections.abc
import threading
import time

import jax
import numpy as np
import pytest

from resnet_rs.training.device_prefetch import READ_AHEAD, DeviceBatches
from resnet_rs.training.sharding import batch_sharding, create_mesh


class Source(collections.abc.Iterator):
    """Batch k holds the number k and comes after k skipped images; the end or an error at last."""

    def __init__(self, count, error=StopIteration):
        self.given = self.corrupt_images = 0
        self.count, self.error = count, error
        self.threads = set()

    def __next__(self):
        self.threads.add(threading.current_thread())
        if self.given == self.count:
            raise self.error
        self.corrupt_images = self.given
        self.given += 1
        return {'index': np.full(8, self.given - 1, np.int32)}


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_batches_keep_their_order_and_their_counts():
    mesh = create_mesh()
    with DeviceBatches(Source(7), mesh) as batches:
        for number in range(7):
            batch = next(batches)
            assert batch['index'].sharding == batch_sharding(mesh)
            np.testing.assert_array_equal(batch['index'], np.full(8, number))
            assert batches.corrupt_images == number
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(batches)


def test_no_more_is_read_than_said_and_the_device_need_not_be_waited_for():
    source = Source(100)
    with DeviceBatches(source, create_mesh()) as batches:
        for taken in range(3):
            wait_until(lambda taken=taken: source.given == taken + READ_AHEAD)
            time.sleep(0.05)
            assert source.given == taken + READ_AHEAD
            assert int(next(batches)['index'][0]) == taken


def test_an_error_comes_in_the_place_of_its_batch():
    with DeviceBatches(Source(3, ValueError('bad')), create_mesh()) as batches:
        for number in range(3):
            assert int(next(batches)['index'][0]) == number
        for _ in range(2):
            with pytest.raises(ValueError, match='bad'):
                next(batches)


@pytest.mark.parametrize('taken', (0, 1, 5, 8))
def test_leaving_early_or_late_ends_the_thread(taken):
    source = Source(8)
    with DeviceBatches(source, create_mesh()) as batches:
        for _ in range(taken):
            next(batches)
    assert not any(thread.is_alive() for thread in source.threads)
    assert source.given <= taken + READ_AHEAD
    # A run that resumes at this step loses nothing: the next batch is a function of its number.
    source = Source(8)
    source.given = taken
    with DeviceBatches(source, create_mesh()) as batches:
        left = [int(batch['index'][0]) for batch in batches]
    assert left == list(range(taken, 8))


def test_an_iterable_may_be_read_again():
    numbers = [{'index': np.full(8, number, np.int32)} for number in range(3)]
    for _ in range(2):
        with DeviceBatches(numbers, create_mesh()) as batches:
            read = jax.device_get([batch['index'][0] for batch in batches])
        assert [int(number) for number in read] == [0, 1, 2]
