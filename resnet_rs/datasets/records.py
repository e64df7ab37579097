"""Encoded examples as tf.data datasets, in training order from any step, or in file order.

Elements are {'epoch', 'index': int64, 'data': string, 'label': int64}. `index` counts the examples
of the split in file order. `data` is the encoded image, or its path for an image folder; `load`
turns both into encoded bytes, late, so that an unreadable file is treated like a corrupt image.
Sets with several right labels also have 'label_set': int64 [k], padded with -1.
"""

import functools
import os
from collections.abc import Sequence

import google.protobuf.message
import numpy as np
import tensorflow as tf

from resnet_rs.datasets import clips, order, streams_of_files
from resnet_rs.datasets.computed_labels import COMPUTED_LABELS
from resnet_rs.datasets.pseudo_labels import Selection
from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.utils.errors import count_of
from resnet_rs.utils.files import allow_open_files

# Records per read of an array_record set: enough to make the call into Python cheap.
_READ_CHUNK = 32
LABEL_THREADS = 2  # of a pass over the labels of a split
_FRAME_BYTES = 16  # per record of a TFRecord file: its length and two checksums
# No function here has Python control flow on tensors, and autograph's search takes seconds.
not_converted = tf.autograph.experimental.do_not_convert
# Errors of reading records. TensorFlow's message may quote bytes of a record that are not text.
READ_ERRORS = (tf.errors.OpError, UnicodeDecodeError)


def load(split: SplitInfo, data):
    """Returns the encoded image bytes of an element's `data`, a string scalar.

    Of a video it returns the frames (clips.frames_of), string [frames].
    """
    if split.video_form:
        return clips.frames_of(split, data)
    return tf.io.read_file(data) if split.images else data


def damaged_file(split: SplitInfo, file_format: str) -> str | None:
    """Reads the split's record files; describes the first one that is missing, damaged or short."""
    for shard in split.shards:
        if not tf.io.gfile.exists(shard.filename):
            return f'{shard.filename} is missing: prepare the dataset again'
        if file_format == 'tfrecord' and (damage := overlong_record(shard.filename)):
            return damage
        count = 0
        try:
            if file_format == 'tfrecord':
                file = tf.data.TFRecordDataset(shard.filename).as_numpy_iterator()
            else:
                file = _array_record_source([shard.filename])
            for record in file:
                if not _can_be_parsed(split, record):
                    return (
                        f'{shard.filename} is damaged: record {count} holds no image with '
                        f'{split.label_feature!r}'
                    )
                count += 1
        except (tf.errors.OpError, RuntimeError) as error:
            reason = (str(error).splitlines() or ['not a whole file'])[0]
            return f'{shard.filename} is damaged after {count_of(count, "record")} ({reason})'
        if count != shard.examples_in_shard:
            return (
                f'{shard.filename} holds {count_of(count, "record")} instead of '
                f'{shard.examples_in_shard}'
            )
    return None


def overlong_record(path: str) -> str | None:
    """Describes the record of a local TFRecord file whose stated length exceeds the file.

    TensorFlow allocates the stated length at once, if its checksum is correct, and aborts the
    process if it cannot. Files of a bucket are not checked, because each length costs a request.
    """
    if '://' in path:
        return None
    size = os.path.getsize(path)
    position = count = 0
    with open(path, 'rb') as file:
        while position < size:
            file.seek(position)
            length = int.from_bytes(file.read(8), 'little')
            position += length + _FRAME_BYTES
            if position > size:
                return (
                    f'{path} is damaged after {count_of(count, "record")} (the next claims '
                    f'{length:,} bytes, the whole file has {size:,})'
                )
            count += 1
    return None


def _can_be_parsed(split: SplitInfo, record: bytes) -> bool:
    # TensorFlow's op takes many times as long for a single record.
    try:
        if split.video_form == 'sequence':
            features = tf.train.SequenceExample.FromString(record).context.feature
        else:
            features = tf.train.Example.FromString(record).features.feature
    except google.protobuf.message.DecodeError:
        return False
    if split.computed_label:
        return split.label_feature in features and len(features['image'].bytes_list.value) == 1
    has_label = len(features[split.label_feature].int64_list.value) == 1
    return has_label and (bool(split.video_form) or len(features['image'].bytes_list.value) == 1)


def training_records(
    split: SplitInfo,
    file_format: str,
    process: order.ProcessOrder,
    *,
    first_step: int,
    threads: int,
    selection: Selection | None = None,
) -> tf.data.Dataset:
    """Returns the endless records of one process, beginning with `first_step`.

    With a `selection` an epoch has its examples alone, and records have the number of the 'copy'.
    Raises UserError if the streams of a TFRecord set do not divide over the processes.
    """
    if file_format == 'tfrecord':
        parse = functools.partial(_parsed, split)
        return streams_of_files.streamed(split, parse, selection, process, first_step)
    local = process.local_batch_size
    read = _random_reader(split)
    length = len(selection.examples) if selection else split.num_examples

    def read_at(count):
        in_batch = process.process_index * local + count % local
        position = count // local * process.batch_size + in_batch
        epoch, place = order.example_at(position, length, seed=process.seed)
        if not selection:
            return {'epoch': epoch, 'index': place, **read(place)}
        example, copy = (tf.gather(each, place) for each in (selection.examples, selection.copies))
        return {'epoch': epoch, 'index': example, 'copy': copy, **read(example)}

    counts = tf.data.Dataset.range(first_step * local, tf.int64.max).batch(_READ_CHUNK)
    return counts.map(read_at, num_parallel_calls=threads, deterministic=True).unbatch()


def sequential_records(
    split: SplitInfo, file_format: str, start: int, stop: int, *, threads: int
) -> tf.data.Dataset:
    """Returns the examples [start, stop) of the split in file order, once; `epoch` is 0."""
    return records_of_ranges(split, file_format, [(start, stop)], threads=threads)


def records_of_ranges(
    split: SplitInfo, file_format: str, ranges: Sequence[tuple[int, int]], *, threads: int
) -> tf.data.Dataset:
    """Returns the examples [start, stop) of each of `ranges` in file order, range by range."""
    ends = tf.data.Dataset.from_tensor_slices(np.array(ranges, np.int64))
    if file_format == 'tfrecord':
        parse = functools.partial(_parsed, split)
        records = streams_of_files.sequential(split, parse, ends, _READ_CHUNK)
    else:
        read = _random_reader(split)
        indices = ends.flat_map(lambda ends: tf.data.Dataset.range(ends[0], ends[1]))
        records = (
            indices.batch(_READ_CHUNK)
            .map(
                lambda index: {'index': index, **read(index)},
                num_parallel_calls=threads,
                deterministic=True,
            )
            .unbatch()
        )
    return records.map(lambda element: {'epoch': tf.constant(0, tf.int64), **element})


def _random_reader(split: SplitInfo):
    """Returns a function from indices int64 [k] to {'data': string [k], 'label': int64 [k]}."""
    if split.images:
        images = tf.constant([os.fsencode(image) for image in split.images])  # any bytes
        labels = tf.constant(split.labels, tf.int64)
        return lambda index: {'data': tf.gather(images, index), 'label': tf.gather(labels, index)}

    source = _array_record_source(split.shards)
    part = tf.constant(split.records, tf.int64) if split.records else None
    remote = '://' in split.shards[0].filename
    # Requests in parallel hide the latency of a bucket, and a request takes time in proportion to
    # the records of its file; several small local files are faster one record after another.
    together = remote or len(split.shards) == 1

    def read_records(indices):
        if together:
            found = source.__getitems__(indices.tolist())
        else:
            found = [source[index] for index in indices.tolist()]
        return np.array(found, dtype=object)

    def read(indices):
        indices = indices if part is None else tf.gather(part, indices)
        records = tf.numpy_function(read_records, [indices], tf.string, stateful=False)
        return _parsed(split, tf.ensure_shape(records, [None]))

    return read


def _array_record_source(files):
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    allow_open_files(len(files))
    return ArrayRecordDataSource(files)


def _parsed(split, records):
    label = {split.label_feature: tf.io.FixedLenFeature([], tf.int64)}
    if split.video_form:  # `load` parses the frames, which differ in number
        if split.video_form == 'sequence':
            parsed = tf.io.parse_sequence_example(records, context_features=label)[0]
        else:
            parsed = tf.io.parse_example(records, label)
        return {'data': records, 'label': _numbered_anew(split, parsed[split.label_feature])}
    features = {'image': tf.io.FixedLenFeature([], tf.string)}
    if split.computed_label:
        computed = COMPUTED_LABELS[split.computed_label]
        values = {key: tf.io.RaggedFeature(tf.as_dtype(d)) for key, d in computed.features.items()}
        parsed = tf.io.parse_example(records, features | values)
        label = _numbered_anew(split, computed.compute(parsed))
        return {'data': parsed['image'], 'label': label}
    features |= label
    if split.label_set_feature:
        features[split.label_set_feature] = tf.io.RaggedFeature(tf.int64)
    parsed = tf.io.parse_example(records, features)
    label = _numbered_anew(split, parsed[split.label_feature])
    found = {'data': parsed['image'], 'label': label}
    if split.label_set_feature:
        found['label_set'] = parsed[split.label_set_feature].to_tensor(-1)
    return found


def _numbered_anew(split, labels):
    """Returns the numbers of the classes in `split.classes`, of labels that are all among them."""
    if not split.classes:
        return labels
    table = np.zeros(max(split.classes) + 1, np.int64)
    table[list(split.classes)] = range(len(split.classes))
    return tf.gather(table, labels)
