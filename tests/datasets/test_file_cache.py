"""Copies of files: the same batches, never a damaged one, and no start where they do not fit."""

import fcntl
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from helpers import prepared

import input_pipeline
from resnet_rs.datasets import file_cache, locate
from resnet_rs.utils import files as open_files
from resnet_rs.utils.errors import UserError

SIZES = (1000, 0, 30_000)


def batches_of(config, first_step=0):
    batches = input_pipeline.train_batches(config, first_step=first_step)
    return [next(batches) for _ in range(4)]


@pytest.mark.parametrize(
    'cache, source',
    [
        ('memory', 'array_record'),
        ('memory', 'tfrecord'),
        ('disk', 'array_record'),
        ('disk', 'tfrecord'),
        ('disk', 'image_folder'),
    ],
)
def test_batches_come_from_the_copies_and_are_the_same(tmp_path, cache, source):
    config = prepared.config(source)
    expected = batches_of(config) + batches_of(config, 25)
    evaluated = list(input_pipeline.eval_batches(config))
    shutil.copytree(config.data.data_dir, tmp_path / 'data')
    config.data.data_dir = str(tmp_path / 'data')
    config.data.cache, config.data.cache_dir = cache, str(tmp_path / 'cache')
    opened = [input_pipeline.train_batches(config, first_step=step) for step in (0, 25)]
    evaluation = input_pipeline.eval_batches(config)
    split = input_pipeline.dataset_info(config).split('train')
    size = sum(pathlib.Path(file).stat().st_size for file in split.files)
    assert opened[0].memory.cache == (size if cache == 'memory' else 0)
    for file in split.files:
        pathlib.Path(file).write_bytes(b'no longer what it was')
    found = [next(batches) for batches in opened for _ in range(4)]
    pairs = [*zip(found, expected, strict=True), *zip(evaluation, evaluated, strict=True)]
    for batch, wanted in pairs:
        for name in wanted:
            np.testing.assert_array_equal(batch[name], wanted[name])


@pytest.fixture
def source(tmp_path):
    """A split of three files, its DatasetInfo, and the config.data that caches it on disk."""
    directory = tmp_path / 'source'
    directory.mkdir()
    shards = []
    for number, size in enumerate(SIZES):
        path = directory / f'set-{number}'
        if size:  # of a file without examples there may be nothing
            path.write_bytes(np.random.default_rng(number).bytes(size))
        shards.append(locate.Shard(str(path), 0, min(size, 5), min(size, 5)))
    split = locate.SplitInfo('train', 10, tuple(shards))
    info = locate.DatasetInfo('set', str(directory), 'tfrecord', ('a',), {'train': split})
    data = types.SimpleNamespace(
        cache='disk',
        cache_dir=str(tmp_path / 'cache'),
        host_memory_gib=1.0,
        train_split='train',
        eval_split='train',
    )
    return split, info, data


def copies(split):
    return [pathlib.Path(shard.filename) for shard in split.shards if shard.take]


def assert_good(cached, split):
    for copy, original in zip(copies(cached), copies(split), strict=True):
        assert copy != original and copy.read_bytes() == original.read_bytes()


def test_good_copies_are_kept_and_others_made_anew(source):
    split, info, data = source
    first = file_cache.cached_split(split, info, data)
    assert_good(first, split)
    whole, changed = copies(first)
    numbers = [path.stat().st_ino for path in (whole, changed)]
    changed.with_name(changed.name + '.partial').write_bytes(b'of a process that was killed')
    file_cache.cached_split(split, info, data)
    assert [path.stat().st_ino for path in (whole, changed)] == numbers
    changed.write_bytes(changed.read_bytes()[:-1])
    assert_good(file_cache.cached_split(split, info, data), split)
    assert whole.stat().st_ino == numbers[0]
    original = copies(split)[0]
    original.write_bytes(bytes(SIZES[0]))  # as large as before, but younger
    os.utime(original, (1, 2_000_000_000))
    assert_good(file_cache.cached_split(split, info, data), split)


def test_a_copy_that_was_cut_off_is_never_used(source, monkeypatch):
    split, info, data = source
    whole = shutil.copyfileobj

    def killed(reader, writer, length):
        writer.write(reader.read(100))
        raise KeyboardInterrupt

    def short(reader, writer, length):
        writer.write(reader.read()[:-1])

    for broken, error in ((killed, KeyboardInterrupt), (short, UserError)):
        monkeypatch.setattr(shutil, 'copyfileobj', broken)
        with pytest.raises(error):
            file_cache.cached_split(split, info, data)
        names = {path.name for path in pathlib.Path(data.cache_dir).rglob('set-*')}
        assert names and all(name.endswith('.partial') for name in names)
    monkeypatch.setattr(shutil, 'copyfileobj', whole)
    assert_good(file_cache.cached_split(split, info, data), split)


def test_only_the_files_of_a_part_are_copied(source):
    split, info, data = source
    cached = file_cache.cached_split(split, info, data, 5, 10)
    first, last = copies(cached)
    assert first == copies(split)[0] and last != copies(split)[1]
    assert last.read_bytes() == copies(split)[1].read_bytes()


def test_one_process_copies_at_a_time(source):
    split, info, data = source
    file_cache.cached_split(split, info, data)
    (lock,) = pathlib.Path(data.cache_dir).rglob('lock')
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=file_cache.cached_split, args=source)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(20)
    assert not waiting.is_alive()


def test_two_processes_fill_one_cache(source, tmp_path):
    split, info, data = source
    code = (
        'import types\n'
        'from resnet_rs.datasets import file_cache\n'
        'from resnet_rs.datasets.locate import DatasetInfo, Shard, SplitInfo\n'
        f'split = {split!r}\ninfo = {info!r}\ndata = types.SimpleNamespace(**{vars(data)!r})\n'
        'for shard in file_cache.cached_split(split, info, data).shards:\n'
        '    print(shard.filename if shard.take else "")\n'
    )
    root = pathlib.Path(__file__).parent.parent.parent
    both = [
        subprocess.Popen([sys.executable, '-c', code], cwd=root, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=120)[0].split() for process in both]
    assert answers[0] == answers[1] and len(answers[0]) == 2
    for copy, original in zip(answers[0], copies(split), strict=True):
        assert pathlib.Path(copy).read_bytes() == original.read_bytes()


def test_what_does_not_fit_is_refused_before_it_is_copied(source, monkeypatch):
    split, info, data = source
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=30_999))
    for refuse in (
        file_cache.check_cache,
        lambda info, data: file_cache.cached_split(split, info, data),
    ):
        with pytest.raises(UserError, match='2 files of set, 0 of them copied before, 3.1e-05 GB'):
            refuse(info, data)
    assert not list(pathlib.Path(data.cache_dir).rglob('set-*'))
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=31_000))
    file_cache.check_cache(info, data)
    data.cache, data.host_memory_gib = 'memory', 31_000 / 2**30
    file_cache.check_cache(info, data)
    data.host_memory_gib = 30_999 / 2**30
    with pytest.raises(UserError, match='for the 2 files of train, but data.host_memory_gib is'):
        file_cache.check_cache(info, data)


def test_a_directory_that_cannot_be_made_is_told_at_the_check(source, tmp_path):
    (tmp_path / 'file').touch()
    split, info, data = source
    data.cache, data.cache_dir = 'disk', str(tmp_path / 'file' / 'cache')
    for refuse in (
        file_cache.check_cache,
        lambda info, data: file_cache.cached_split(split, info, data),
    ):
        with pytest.raises(UserError, match='cache cannot be written: .*/file is not a folder'):
            refuse(info, data)


def test_more_files_may_be_open_than_usual():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        open_files.allow_open_files(1024)
        now = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert now == hard or now >= 2048
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
