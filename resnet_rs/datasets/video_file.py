"""Frames of files such as .mp4, decoded by PyAV (an extra of this package, 'video').

A frame is found by its time: the file says the times of all frames without decoding them, and the
decoder starts at the last key frame before a wanted one. Frames are numbered by their times, turned
upright as the file says, and converted to RGB, as `ffmpeg -i FILE FOLDER/%05d.png` does.

This module does not import TensorFlow.
"""

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from resnet_rs.utils.errors import UserError

VIDEO_SUFFIXES = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg')
MOST_PIXELS = 2**26  # of a frame
_KEPT_INDEXES = 256  # of recently read files; a training step asks for each twice in a row


class VideoError(ValueError):
    """A file that holds no video, or a frame that cannot be decoded."""


class Index(NamedTuple):
    """The times of the frames of a file, in its unit of time.

    Attributes:
      times: int64 [frames], ascending.
      key_times: int64, the times of key frames, ascending; empty where the file does not state
        distinct times, so that frames have to be counted from its start.
    """

    times: np.ndarray
    key_times: np.ndarray


def check_decoder(example: str) -> None:
    """Raises UserError if the file `example` is on a bucket, or if PyAV is not installed."""
    if '://' in example:
        raise UserError(
            f'{example} is a video file on a bucket; copy the files to a local disk, or write '
            'SequenceExamples (docs/video.md)'
        )
    if not importlib.util.find_spec('av'):
        raise UserError(
            f'{example} is a video file, which PyAV reads; install it: pip install av (or extract '
            'its frames: ffmpeg -i FILE FOLDER/%05d.jpg)'
        )


def count_frames(path: str) -> int:
    """Returns the number of frames of a file; raises VideoError for one that holds no video."""
    return len(_index_of(path).times)


def decode_frames(path: str, numbers: Sequence[int]) -> np.ndarray:
    """Returns the frames `numbers` of a file, uint8 [numbers, height, width, 3].

    Numbers may repeat, in any order. Raises VideoError for a frame that cannot be decoded and for
    frames of different sizes.
    """
    found = dict(_decoded(path, sorted(set(map(int, numbers)))))
    return np.stack([found[int(number)] for number in numbers])


def decode_whole(path: str) -> int:
    """Decodes every frame of a file; returns their number, and raises errors as decode_frames."""
    return sum(1 for _ in _decoded(path, range(count_frames(path))))


def _decoded(path: str, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (number, pixels) of the frames `wanted`, ascending numbers, in this order."""
    index = _index_of(path)
    shape, following = None, 0
    with _opened(path) as (container, stream):
        choose = _sought if len(index.key_times) else _counted
        for number, frame in choose(container, stream, index, wanted):
            if number != wanted[following]:
                break
            following += 1
            pixels = _upright(frame, number)
            shape = shape or pixels.shape
            if pixels.shape != shape:
                raise VideoError('the frames of a video have different sizes')
            yield number, pixels
    if following < len(wanted):
        raise VideoError(f'frame {wanted[following]} of {len(index.times)} cannot be decoded')


def _index_of(path: str) -> Index:
    try:
        status = os.stat(path)
    except OSError as error:  # a broken link, for instance
        raise VideoError(f'it cannot be read ({error.strerror})') from error
    return _read_index(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=_KEPT_INDEXES)
def _read_index(path: str, size: int, changed: int) -> Index:
    """Returns the index of a file; `size` and `changed` tell it from an older file of its name."""
    with _opened(path) as (container, stream):
        times, key_times = [], []
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            times.append(packet.pts)
            if packet.is_keyframe:
                key_times.append(packet.pts)
    if None in times or len(set(times)) < len(times) or min(times, default=0) not in key_times:
        return Index(np.arange(len(times)), np.zeros(0, np.int64))
    return Index(np.sort(np.array(times, np.int64)), np.sort(np.array(key_times, np.int64)))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple]:
    """Opens a file; yields its container and its video stream. FFmpeg's errors are VideoErrors."""
    import av

    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise VideoError('a video without frames')
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # the input pipeline has a thread for every core
            if stream.codec_context.width * stream.codec_context.height > MOST_PIXELS:
                raise VideoError(f'frames of more than {MOST_PIXELS:,} pixels')
            yield container, stream
    except av.error.FFmpegError as error:
        raise VideoError(f'damaged, or no video that FFmpeg reads ({error.strerror})') from error


def _sought(container, stream, index: Index, wanted: Sequence[int]) -> Iterator[tuple]:
    """Yields (number, frame) for `wanted`, ascending, each from the last key frame before it."""
    times = index.times[wanted]
    starts = np.searchsorted(index.key_times, times, side='right') - 1
    for start in np.unique(starts):
        numbers = {
            time: number
            for time, number, place in zip(times.tolist(), wanted, starts, strict=True)
            if place == start
        }
        container.seek(int(index.key_times[start]), stream=stream)
        for frame in _from_here(container, stream):
            if frame.pts in numbers:
                yield numbers.pop(frame.pts), frame
            if not numbers:
                break


def _from_here(container, stream) -> Iterator:
    """Yields the frames from the key frame at which the container stands.

    The frames that are decoded after it and shown before it need frames from before it.
    """
    first = None
    for packet in container.demux(stream):
        if packet.size and first is None:
            first = packet.pts
        if not packet.size or packet.pts >= first:
            yield from packet.decode()


def _counted(container, stream, index: Index, wanted: Sequence[int]) -> Iterator[tuple]:
    """Yields (number, frame) for `wanted`, by decoding from the start of the file."""
    remaining = set(wanted)
    for number, frame in enumerate(container.decode(stream)):
        if number in remaining:
            yield number, frame
            remaining.remove(number)
        if not remaining:
            return


def _upright(frame, number: int) -> np.ndarray:
    """Returns the upright pixels of a frame, uint8 [height, width, 3]."""
    if frame.is_corrupt:
        raise VideoError(f'frame {number} is damaged')
    return np.rot90(to_rgb(frame), round(frame.rotation / 90) % 4)


def to_rgb(frame) -> np.ndarray:
    """Returns the pixels of an av.VideoFrame as it is stored, uint8 [height, width, 3]."""
    from av.video.reformatter import Interpolation

    # The bits must not depend on the processor, on which FFmpeg's fast paths do.
    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    return frame.to_ndarray(format='rgb24', interpolation=exact)
