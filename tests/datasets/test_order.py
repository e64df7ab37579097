"""The order of training against its definition, written out in plain Python."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from resnet_rs.datasets import order


def lengths(num_examples, streams, epoch):
    return [
        ((epoch + 1) * num_examples + s) // streams - (epoch * num_examples + s) // streams
        for s in range(streams)
    ]


@pytest.mark.parametrize('size', [1, 2, 3, 97, 1000])
def test_permutation_holds_every_index_once(size):
    for part in (0, 1, 2**31, 2**40 + 3):
        values = order.permuted(tf.range(size, dtype=tf.int64), size, seed=5, purpose=1, part=part)
        assert sorted(values.numpy()) == list(range(size))


def test_permutations_differ_by_seed_purpose_and_part():
    draws = set()
    for seed in (0, 1):
        for purpose in (0, 1):
            for part in (0, 1, 2**32, 2**33):
                index = tf.range(50, dtype=tf.int64)
                values = order.permuted(index, 50, seed=seed, purpose=purpose, part=part)
                draws.add(tuple(values.numpy()))
    assert len(draws) == 16


def test_epochs_are_uncorrelated_at_the_size_of_imagenet():
    """Each correlation has a standard deviation of 1 / sqrt(n); 5 of them are never reached."""
    n = 1_281_167
    position = tf.range(2 * n, dtype=tf.int64)
    epoch, example = order.example_at(position, n, seed=0)
    np.testing.assert_array_equal(epoch, np.repeat([0, 1], n))
    first, second = example.numpy()[:n], example.numpy()[n:]
    bound = 5 / np.sqrt(n)
    assert abs(np.corrcoef(first, second)[0, 1]) < bound
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < bound
    assert abs(np.corrcoef(first, np.arange(n))[0, 1]) < bound
    # Where the steps between neighbours go: 63 degrees of freedom, mean 63, deviation 11.2.
    counts = np.bincount((np.diff(first) % n) * 64 // n, minlength=64)
    assert ((counts - (n - 1) / 64) ** 2 / ((n - 1) / 64)).sum() < 63 + 5 * 11.2


@pytest.mark.parametrize('num_examples, streams', [(210, 4), (210, 8), (7, 3), (3, 8), (64, 64)])
def test_streams_share_every_epoch_without_gap(num_examples, streams):
    for epoch in range(12):
        want = lengths(num_examples, streams, epoch)
        assert sum(want) == num_examples
        begin = 0
        for stream in range(streams):
            got = order.stream_range(stream, tf.constant(epoch, tf.int64), num_examples, streams)
            assert (int(got[0]), int(got[1])) == (begin, begin + want[stream])
            begin += want[stream]


@pytest.mark.parametrize('num_examples, streams', [(210, 4), (7, 3), (3, 8), (64, 64), (101, 16)])
def test_stream_position_equals_counting(num_examples, streams):
    for stream in range(streams):
        counted = []
        epoch = 0
        while len(counted) < 5 * num_examples // streams + 5:
            length = lengths(num_examples, streams, epoch)[stream]
            counted += [(epoch, offset) for offset in range(length)]
            epoch += 1
        for taken, expected in enumerate(counted):
            assert order.stream_position(stream, taken, num_examples, streams) == expected


def test_stream_count_is_the_largest_divisor_within_the_wish():
    assert order.stream_count(4096, 64) == 64
    assert order.stream_count(96, 64) == 48
    assert order.stream_count(8, 64) == 8
    assert order.stream_count(97, 64) == 1
    assert order.stream_count(96, 0) == 1


def test_augmentation_seeds_are_a_function_of_seed_epoch_and_example():
    seen = collections.Counter()
    for seed in (0, 1):
        for epoch in (0, 1):
            for example in (0, 1, 2):
                arguments = tf.constant(epoch, tf.int64), tf.constant(example, tf.int64)
                values = order.augmentation_seeds(*arguments, seed=seed).numpy()
                seen.update(map(tuple, values))
    assert len(seen) == 2 * 2 * 3 * 3
