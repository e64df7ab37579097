"""The memory arithmetic, done again by hand, and what happens when the budget is too small."""

import re
import types

import numpy as np
import pytest
from helpers import prepared

import input_pipeline
from resnet_rs.datasets import locate
from resnet_rs.datasets.memory import GIB, bytes_per_record, plan_memory
from resnet_rs.utils.errors import UserError


def split_of(tmp_path, sizes, examples):
    shards = []
    for number, size in enumerate(sizes):
        path = tmp_path / f'{number}'
        path.write_bytes(bytes(size))
        shards.append(locate.Shard(str(path), 0, examples, examples))
    return locate.SplitInfo('train', examples * len(sizes), tuple(shards))


def data(**settings):
    defaults = {
        'host_memory_gib': 16.0,
        'shuffle_window': 128,
        'image_size': 160,
        'frames': 0,
        'prefetch_batches': 2,
    }
    return types.SimpleNamespace(**{**defaults, **settings})


def test_the_sum_is_right(tmp_path):
    split = split_of(tmp_path, [110_000, 110_400], 2)
    assert bytes_per_record(split) == 55_100
    plan = plan_memory(
        split, data(), file_format='tfrecord', streams=64, local_batch=4096, threads=2
    )
    windows = 4 * 64 * 128 * 55_100
    batches = (2 + 4) * 4096 * 160 * 160 * 3
    assert (plan.windows, plan.batches, plan.threads) == (windows, batches, 2 * 16 * 2**20)
    assert plan.total == windows + batches + 32 * 2**20 and plan.prefetch_batches == 2
    assert plan.text == (
        f'{plan.total / GIB:.2f} of the 16 GiB allowed (data.host_memory_gib), '
        f'{plan.batches / GIB:.2f} of them for batches'
    )
    plan = plan_memory(
        split, data(), file_format='array_record', streams=64, local_batch=4096, threads=2
    )
    assert plan.windows == 0 and 'windows' not in plan.text


def test_less_is_prefetched_before_anything_is_refused(tmp_path):
    split = split_of(tmp_path, [1000], 10)
    settings = dict(file_format='array_record', streams=1, local_batch=1024, threads=1)
    one = 1024 * 160 * 160 * 3
    for batches, prefetch in ((5, 1), (7, 3), (20, 8)):
        budget = (batches * one + 16 * 2**20) / GIB
        plan = plan_memory(split, data(host_memory_gib=budget, prefetch_batches=8), **settings)
        assert plan.prefetch_batches == prefetch and plan.total <= budget * GIB
        assert ('lowered from 8' in plan.text) == (prefetch < 8)
    with pytest.raises(UserError, match='a smaller --config.batch_size'):
        plan_memory(split, data(host_memory_gib=4 * one / GIB), **settings)


def test_a_window_that_does_not_fit_is_refused_with_one_that_does(tmp_path):
    split = split_of(tmp_path, [1_100_000], 10)
    settings = dict(file_format='tfrecord', streams=64, local_batch=64, threads=2)
    with pytest.raises(UserError, match='--config.data.shuffle_window=') as error:
        plan_memory(split, data(host_memory_gib=1.0), **settings)
    window = int(re.search(r'--config.data.shuffle_window=(\d+) or less', str(error.value))[1])
    plan = plan_memory(split, data(host_memory_gib=1.0, shuffle_window=window), **settings)
    assert plan.total <= GIB
    with pytest.raises(UserError):
        plan_memory(split, data(host_memory_gib=1.0, shuffle_window=window + 1), **settings)


def test_training_says_the_sum_and_gives_the_same_batches(caplog):
    config = prepared.config('tfrecord')
    wide = next(input_pipeline.train_batches(config))
    config.data.prefetch_batches = 50
    config.data.host_memory_gib = 0.0325  # 2 x 16 MiB and a little
    caplog.clear()
    with caplog.at_level('INFO', 'absl'):
        narrow = next(input_pipeline.train_batches(config))
    (message,) = [r.getMessage() for r in caplog.records if 'host_memory_gib' in r.getMessage()]
    assert 'needs 0.03 of the 0.0325 GiB' in message and 'is lowered from 50 to' in message
    np.testing.assert_array_equal(narrow['image'], wide['image'])
    config.data.host_memory_gib = 0.01
    with pytest.raises(UserError, match='host_memory_gib is 0.01'):
        input_pipeline.train_batches(config)
