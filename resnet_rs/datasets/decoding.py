"""Decoding of a split's images, to find those that training or evaluation would refuse."""

import time
import typing
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from resnet_rs.datasets import clips, records
from resnet_rs.datasets.images import decode_crop, silent_libraries
from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.utils.errors import UserError, count_of

MOST_WHOLE = 10_000  # images of the largest split that is decoded whole
SAMPLE = 2_000  # images that are decoded of a larger split
FRAMES = 50  # that count as one image each: of a video, all frames are decoded
_RECORDS_AT_ONCE = 20  # least sample of a TFRecord file, which can only be read from its start
_PROGRESS_SECONDS = 5


class Sample(typing.NamedTuple):
    """The examples of a split to decode.

    Attributes:
      ranges: disjoint [start, stop) of examples, ascending.
      text: the sample in words: 'all 360 images', '2,000 of 1,281,167 images, evenly spaced'.
    """

    ranges: Sequence[tuple[int, int]]
    text: str

    @property
    def size(self) -> int:
        return sum(stop - start for start, stop in self.ranges)


class Decoded(typing.NamedTuple):
    """The result of decoding a sample.

    Attributes:
      indices: int [size], indices of the examples in the split.
      labels: int [size], class numbers.
      frames: int [size], frames of the videos, 1 for an image; 0 for an example that holds none, a
        damaged one, or one that is too large.
    """

    indices: np.ndarray
    labels: np.ndarray
    frames: np.ndarray

    @property
    def bad(self) -> list[int]:
        """Indices of the examples that cannot be decoded."""
        return self.indices[self.frames == 0].tolist()

    def shorter_than(self, frames: int) -> list[int]:
        """Returns the indices of the videos of fewer frames."""
        return self.indices[(self.frames > 0) & (self.frames < frames)].tolist()


def choose_sample(split: SplitInfo, file_format: str) -> Sample:
    """Returns all examples of a split of up to MOST_WHOLE, or about SAMPLE of a larger split.

    The sample of an array_record set or an image folder is evenly spaced. The sample of a TFRecord
    set has the first examples of evenly spaced files.
    """
    count, kind = split.num_examples, split.noun
    of_each = FRAMES if split.video_form else 1
    if count <= MOST_WHOLE // of_each:
        return Sample([(0, count)], f'all {count_of(count, kind)}')
    size = SAMPLE // of_each
    if file_format != 'tfrecord':
        places = np.linspace(0, count - 1, size).round().astype(int).tolist()
        text = f'{size:,} of {count:,} {kind}s, evenly spaced'
        return Sample([(place, place + 1) for place in places], text)
    if split.records:
        return Sample([(0, size)], f'the first {size:,} of {count:,} {kind}s')
    lengths = np.array(split.shard_lengths)
    starts = np.cumsum(lengths) - lengths
    filled = np.flatnonzero(lengths)
    wanted = min(len(filled), max(size // _RECORDS_AT_ONCE, 1))
    chosen = filled[np.linspace(0, len(filled) - 1, wanted).round().astype(int)]
    stops = starts[chosen] + np.minimum(lengths[chosen], -(-size // wanted))
    ranges = list(zip(starts[chosen].tolist(), stops.tolist(), strict=True))
    sample = Sample(ranges, '')
    return sample._replace(
        text=f'{sample.size:,} of {count:,} {kind}s, the first of {wanted:,} evenly spaced files'
    )


@tf.autograph.experimental.do_not_convert  # the code has no Python control flow on tensors
def decode(split: SplitInfo, file_format: str, sample: Sample, threads: int) -> Decoded:
    """Decodes the whole images of `sample`; prints the progress of a long run to stderr.

    Raises UserError, naming the file, for records that cannot be read.
    """

    # TensorFlow would skip the decoding if the result did not depend on the pixels.
    def decoded(element):
        loaded = records.load(split, element['data'])
        if split.video_form:
            return element['index'], element['label'], clips.decode_all(split, loaded)
        whole = decode_crop(loaded, lambda shape: tf.stack([0, 0, shape[0], shape[1]]))
        return element['index'], element['label'], tf.cast(tf.size(whole) > 0, tf.int32)

    def decoded_or_not(element):
        one = tf.data.Dataset.from_tensors(element)
        failed = one.map(lambda element: (element['index'], element['label'], 0))
        return one.map(decoded).ignore_errors().concatenate(failed).take(1)

    elements = records.records_of_ranges(split, file_format, sample.ranges, threads=threads)
    results = elements.interleave(
        decoded_or_not,
        cycle_length=threads,
        block_length=1,
        num_parallel_calls=threads,
        deterministic=True,
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    found = []
    told = time.monotonic()
    try:
        with silent_libraries() as stderr:
            for result in results.with_options(options).as_numpy_iterator():
                found.append(result)
                if time.monotonic() > told + _PROGRESS_SECONDS:
                    told = time.monotonic()
                    print(
                        f'{split.name}: decoded {len(found):,} of '
                        f'{count_of(sample.size, split.noun)}',
                        file=stderr,
                        flush=True,
                    )
    except records.READ_ERRORS as error:
        damage = records.damaged_file(split, file_format)
        if damage is None:
            raise
        raise UserError(f'split {split.name} cannot be read: {damage}') from error
    return Decoded(*(np.array(column) for column in zip(*found, strict=True)))
