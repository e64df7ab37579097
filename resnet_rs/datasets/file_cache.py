"""Copies of a split's files on a local disk (data.cache='disk') or in memory ('memory').

The pipeline reads copies exactly as it reads the originals, so its batches do not change. Copies on
disk persist: later runs and all processes of the host use them as long as their size and time of
modification equal those of the originals. Copies in memory belong to their process and disappear
with it, even if it is killed.
"""

import concurrent.futures
import dataclasses
import fcntl
import functools
import hashlib
import os
import pathlib
import shutil

from absl import logging
from etils import epath

from resnet_rs.datasets.memory import GIB
from resnet_rs.datasets.splits import DatasetInfo, SplitInfo
from resnet_rs.utils.errors import UserError, count_of
from resnet_rs.utils.files import allow_open_files

_COPIES_AT_ONCE = 16
_BUFFER_BYTES = 16 * 2**20


def check_cache(info: DatasetInfo, data) -> None:
    """Raises UserError if the files of both splits of config.data do not fit into the cache.

    It also does if data.cache_dir cannot be made.
    """
    memory_bytes(info.split(data.train_split), data)
    if data.cache == 'disk':
        _check_directory(data)
        names = (data.train_split, data.eval_split)
        _missing({file for name in names for file in _files(info.split(name))}, info, data)


def cached_split(
    split: SplitInfo, info: DatasetInfo, data, start: int = 0, stop: int | None = None
) -> SplitInfo:
    """Returns `split` reading from copies, after making those that are missing.

    Without a cache it returns `split` itself. A disk cache copies only the files of the examples
    [start, stop). Raises UserError like `check_cache`.
    """
    if data.cache == 'memory':
        return _in_memory(split)
    if data.cache == 'disk':
        stop = split.num_examples if stop is None else stop
        return _on_disk(split, info, data, _files(split, start, stop))
    return split


def _files(split: SplitInfo, start: int = 0, stop: int | None = None) -> tuple[str, ...]:
    """Returns the files of the examples [start, stop); files without examples need not exist."""
    if split.images:
        return split.images[start:stop]
    if split.records:
        return split.files
    part = split.slice(split.name, start, split.num_examples if stop is None else stop)
    return tuple(shard.filename for shard in part.shards)


def memory_bytes(split: SplitInfo, data) -> int:
    """Returns the bytes of a memory cache of `split`, the size of all its files; else 0.

    Raises UserError if the cache alone exceeds data.host_memory_gib.
    """
    if data.cache != 'memory':
        return 0
    files = _files(split)
    needed = sum(size for size, _ in _sizes_and_times(files).values())
    if needed > data.host_memory_gib * GIB:
        raise UserError(
            f"data.cache is 'memory', which needs {needed / GIB:.4g} GiB for the "
            f'{count_of(len(files), "file")} of {split.name}, but data.host_memory_gib is '
            f'{data.host_memory_gib}: use a larger --config.data.host_memory_gib if the host has '
            'enough memory, --config.data.cache=disk, or --config.data.cache= for no cache'
        )
    return needed


def _in_memory(split: SplitInfo) -> SplitInfo:
    """Returns `split` with all files in this process's memory; copies each file only once."""
    files = _sizes_and_times(_files(split))
    allow_open_files(2 * len(files))
    logging.info('Cache: reading %s of %s into memory', count_of(len(files), 'file'), split.name)
    with concurrent.futures.ThreadPoolExecutor(_COPIES_AT_ONCE) as pool:
        copies = pool.map(lambda file: _copy_in_memory(file, *files[file]), files)
        return _reading(split, dict(zip(files, copies, strict=True)))


def _on_disk(split: SplitInfo, info: DatasetInfo, data, files: tuple[str, ...]) -> SplitInfo:
    """Returns `split` with `files` read from copies in data.cache_dir.

    Existing copies are kept. One process of a host copies at a time; a copy gets its name when it
    is complete and on the disk. Raises UserError if the disk is too small.
    """
    _check_directory(data)
    directory = _directory(info, data)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / 'lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info('Cache: waiting for another process that fills %s', directory)
            fcntl.flock(lock, fcntl.LOCK_EX)
        missing = _missing(files, info, data)
        with concurrent.futures.ThreadPoolExecutor(_COPIES_AT_ONCE) as pool:
            list(pool.map(lambda file: _copy_to_disk(file, *missing[file]), missing))
    return _reading(split, {file: str(_place(file, info, data)) for file in files})


def _reading(split: SplitInfo, copies: dict[str, str]) -> SplitInfo:
    shards = tuple(
        dataclasses.replace(shard, filename=copies.get(shard.filename, shard.filename))
        for shard in split.shards
    )
    images = tuple(copies.get(image, image) for image in split.images)
    return dataclasses.replace(split, shards=shards, images=images)


def _sizes_and_times(files) -> dict[str, tuple[int, int]]:
    """Returns {file: (bytes, whole seconds of the last modification)} of the files that exist.

    A broken link in an image folder has no copy; the pipeline treats it like a damaged image.
    """

    def stat(file):
        try:
            found = epath.Path(file).stat()
        except FileNotFoundError:
            return None
        return found.length, int(found.mtime)

    with concurrent.futures.ThreadPoolExecutor(_COPIES_AT_ONCE) as pool:
        found = zip(files, pool.map(stat, files), strict=True)
        return {file: size_and_time for file, size_and_time in found if size_and_time}


@functools.cache
def _copy_in_memory(file: str, size: int, modified: int) -> str:
    del modified  # part of the cache key, so that a changed file is copied again
    descriptor = os.memfd_create(os.path.basename(file)[-200:])
    with epath.Path(file).open('rb') as source:
        with open(descriptor, 'wb', closefd=False) as copy:
            shutil.copyfileobj(source, copy, _BUFFER_BYTES)
    _check_size(file, os.fstat(descriptor).st_size, size)
    return f'/proc/self/fd/{descriptor}'


def _directory(info: DatasetInfo, data) -> pathlib.Path:
    """Returns the directory of the copies; each original directory has its own."""
    key = hashlib.sha256(os.path.abspath(info.directory).encode()).hexdigest()[:16]
    return pathlib.Path(data.cache_dir).expanduser() / key


def _existing(data) -> pathlib.Path:
    """Returns data.cache_dir, or what exists of the path to it."""
    cache_dir = pathlib.Path(data.cache_dir).expanduser().absolute()
    return next(path for path in (cache_dir, *cache_dir.parents) if path.exists())


def _check_directory(data) -> None:
    existing = _existing(data)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(
            f'data.cache_dir={data.cache_dir} cannot be written: {existing} is not a folder that '
            'this user may write to; name another with --config.data.cache_dir'
        )


def _place(file: str, info: DatasetInfo, data) -> pathlib.Path:
    return _directory(info, data) / file.removeprefix(info.directory).lstrip('/')


def _missing(files, info: DatasetInfo, data) -> dict[str, tuple[pathlib.Path, int, int]]:
    """Returns {file: (path of its copy, bytes, time)} of the files without a valid copy.

    Raises UserError if their copies do not fit on the disk.
    """
    missing = {}
    for file, (size, modified) in _sizes_and_times(files).items():
        place = _place(file, info, data)
        found = place.stat() if place.exists() else None
        if found is None or (found.st_size, int(found.st_mtime)) != (size, modified):
            missing[file] = place, size, modified
    needed = sum(size for _, size, _ in missing.values())
    free = shutil.disk_usage(_existing(data)).free
    arithmetic = (
        f'{count_of(len(files), "file")} of {info.name}, '
        f'{len(files) - len(missing):,} of them copied before, '
        f'{needed / 1e9:.4g} GB to copy, {free / 1e9:.4g} GB free'
    )
    if needed > free:
        raise UserError(
            f'the copies of data.cache do not fit into data.cache_dir={data.cache_dir}'
            f': {arithmetic}; free some space, name another disk with '
            '--config.data.cache_dir, or use --config.data.cache= for no cache'
        )
    if missing:
        logging.info('Cache: %s: %s', _directory(info, data).parent, arithmetic)
    return missing


def _copy_to_disk(file: str, place: pathlib.Path, size: int, modified: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(place.name + '.partial')
    with epath.Path(file).open('rb') as source, partial.open('wb') as copy:
        shutil.copyfileobj(source, copy, _BUFFER_BYTES)
        copy.flush()
        os.fsync(copy.fileno())
    _check_size(file, partial.stat().st_size, size)
    os.utime(partial, (modified, modified))
    partial.replace(place)


def _check_size(file: str, copied: int, size: int) -> None:
    if copied != size:
        raise UserError(
            f'{file} had {count_of(size, "byte")}, but {copied} were read: it '
            'changed or was cut off while it was copied into the cache; start again'
        )
