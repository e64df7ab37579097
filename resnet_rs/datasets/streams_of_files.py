"""TFRecord files, which can only be read forward: streams in training order, ranges in file order.

Some records may be left out, and some read several times in a row (`Repeats`). A stream's position
counts only the records that are read, so it follows from the step, as in a whole set.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet_rs.datasets import order
from resnet_rs.datasets.pseudo_labels import Selection
from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.utils.errors import UserError, count_of

_BUFFER_BYTES = 2**20
Parse = Callable[[tf.Tensor], dict[str, tf.Tensor]]


class Repeats(NamedTuple):
    """The repeated and the omitted records of a split's shards; arrays int64 [records].

    counts: the number of times that each record is read; 0 omits it.
    examples: the number of its example in the split.
    """

    counts: np.ndarray
    examples: np.ndarray


def repeats_of(split: SplitInfo, selection: Selection | None) -> Repeats | None:
    """Returns the repeats of a selection from a split; None where every record is read once."""
    if not split.records and selection is None:
        return None
    counts = np.ones(split.num_examples, np.int64)
    if selection is not None:
        counts = np.bincount(selection.examples, minlength=split.num_examples)
    if not split.records:
        return Repeats(counts, np.arange(split.num_examples))
    part, total = list(split.records), sum(split.shard_lengths)
    found = Repeats(np.zeros(total, np.int64), np.zeros(total, np.int64))
    found.counts[part], found.examples[part] = counts, np.arange(len(part))
    return found


def streamed(
    split: SplitInfo,
    parse: Parse,
    selection: Selection | None,
    process: order.ProcessOrder,
    first_step: int,
) -> tf.data.Dataset:
    """Returns the records of one process in training order, as records.training_records.

    `parse` returns the features of serialized examples, string [k]. Raises UserError if the streams
    do not divide over the processes.
    """
    streams, window, seed = process.streams, process.window, process.seed
    if streams % process.process_count:
        choices = [n for n in range(1, streams + 1) if streams % n == 0]
        raise UserError(
            f'{process.process_count} processes cannot share the '
            f'{count_of(streams, "stream")} of a TFRecord set (data.streams, lowered to a divisor '
            f'of the batch size {process.batch_size}): '
            f'the number of processes must be one of {", ".join(map(str, choices))}, or prepare '
            'the set as array_record'
        )
    repeats = repeats_of(split, selection)
    length = split.num_examples if repeats is None else int(repeats.counts.sum())
    per_stream = process.batch_size // streams
    streams_here = streams // process.process_count
    first_stream = process.process_index * streams_here
    own = range(first_stream, first_stream + streams_here)
    positions = [
        order.stream_position(stream, first_step * per_stream, length, streams) for stream in own
    ]
    starts = tf.data.Dataset.from_tensor_slices(
        {
            'stream': tf.constant(list(own), tf.int64),
            'epoch': tf.constant([epoch for epoch, _ in positions], tf.int64),
            'offset': tf.constant([offset for _, offset in positions], tf.int64),
        }
    )

    def stream_from(start):
        stream, first_epoch = start['stream'], start['epoch']
        first_window = start['offset'] // window

        def records_of_epoch(epoch):
            window_number = tf.where(epoch == first_epoch, first_window, 0)
            begin, end = order.stream_range(stream, epoch, length, streams)
            files = order.files_of_epoch(len(split.shards), epoch, seed=seed)
            records = segments(split, files, begin + window_number * window, end, repeats)

            def shuffle(number, records):
                size = tf.size(records['index'], tf.int64)
                permutation = order.within_window(size, epoch, stream, number, seed=seed)
                shuffled = {name: tf.gather(each, permutation) for name, each in records.items()}
                features = parse(shuffled.pop('record'))
                return {'epoch': tf.fill([size], epoch), **shuffled, **features}

            # All streams end their windows at the same step. Without a prefetched window all of
            # them would read at once, and everything else would wait.
            windows = records.batch(window).prefetch(1)
            return windows.enumerate(window_number).map(shuffle).unbatch()

        epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
        # A resumed stream reads its first window again, with the records it has already returned.
        return epochs.flat_map(records_of_epoch).skip(start['offset'] % window)

    return starts.interleave(
        stream_from,
        cycle_length=len(own),
        block_length=per_stream,
        num_parallel_calls=len(own),
        deterministic=True,
    )


def sequential(
    split: SplitInfo, parse: Parse, ranges: tf.data.Dataset, chunk: int
) -> tf.data.Dataset:
    """Returns the examples of `ranges`, int64 [2] each, in file order; parses `chunk` at a time."""
    repeats = repeats_of(split, None)
    files = tf.range(len(split.shards))
    records = ranges.flat_map(lambda ends: segments(split, files, ends[0], ends[1], repeats))

    def parsed(records):
        return {'index': records['index'], **parse(records['record'])}

    return records.batch(chunk).map(parsed).unbatch()


def segments(
    split: SplitInfo, files, begin, end, repeats: Repeats | None = None
) -> tf.data.Dataset:
    """Returns the records [begin, end) of the split's shards, concatenated in the order of `files`.

    Elements are {'index': the example in the split, int64; 'record': the serialized example}. With
    `repeats` the positions count every copy, and elements have the number of the 'copy'.
    """
    filenames = tf.constant([shard.filename for shard in split.shards])
    skips = tf.constant([shard.skip for shard in split.shards], tf.int64)
    lengths = np.array(split.shard_lengths, np.int64)
    first = np.cumsum(lengths) - lengths  # record of every shard
    takes = lengths
    if repeats is not None:
        upto = np.cumsum(repeats.counts)  # copies of the records up to each, with it
        before = np.concatenate([[0], upto])
        takes = before[first + lengths] - before[first]
    counts = tf.gather(takes, files)
    starts = tf.cumsum(counts, exclusive=True)
    low = tf.maximum(tf.cast(begin, tf.int64) - starts, 0)
    high = tf.minimum(tf.cast(end, tf.int64) - starts, counts)
    used = low < high
    files, low, count = files[used], low[used], (high - low)[used]

    def read(filename, skip, take, index):
        records = tf.data.TFRecordDataset(filename, buffer_size=_BUFFER_BYTES)
        # A file with fewer records than its metadata states must not silently shift the order.
        records = records.skip(skip).take(take).apply(tf.data.experimental.assert_cardinality(take))
        return records.enumerate(index)

    if repeats is None:
        ranges = (
            tf.gather(filenames, files),
            tf.gather(skips, files) + low,
            count,
            tf.gather(first, files) + low,
        )
        found = tf.data.Dataset.from_tensor_slices(ranges).flat_map(read)
        return found.map(lambda index, record: {'index': index, 'record': record})

    copies = tf.constant(repeats.counts, tf.int64)
    position = tf.gather(before, tf.gather(first, files)) + low
    first_record, last_record = (
        tf.searchsorted(upto, each, side='right', out_type=tf.int64)
        for each in (position, position + count - 1)
    )

    def repeated(number, record):
        numbers = tf.data.Dataset.range(copies[number])
        example = tf.gather(repeats.examples, number)
        return numbers.map(lambda copy: {'index': example, 'copy': copy, 'record': record})

    def read_copies(filename, skip, take, number, ahead, count):
        return read(filename, skip, take, number).flat_map(repeated).skip(ahead).take(count)

    ranges = (
        tf.gather(filenames, files),
        tf.gather(skips, files) + first_record - tf.gather(first, files),
        last_record + 1 - first_record,
        first_record,
        position - tf.gather(before, first_record),
        count,
    )
    return tf.data.Dataset.from_tensor_slices(ranges).flat_map(read_copies)
