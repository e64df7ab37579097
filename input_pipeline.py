"""From a dataset's name to host batches: order, decode and crop, flip, augment, batch.

A training batch is a function of (seed, step, global batch size): the same on any number of hosts
and threads, and after any restart (resnet_rs.datasets.order). Images leave as uint8; the training
step normalises them on the device.
"""

import functools
import math
import os
import typing
from collections.abc import Iterator

import numpy as np

import resnet_rs  # noqa: F401 - prepares the environment for TensorFlow

# isort: split
import tensorflow as tf
from absl import logging

from resnet_rs.augment import create_augment
from resnet_rs.datasets import images, order, records
from resnet_rs.datasets.file_cache import cached_split, memory_bytes
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.memory import MemoryPlan, plan_memory
from resnet_rs.datasets.reader import NO_LABEL, Reader, is_unlabelled
from resnet_rs.datasets.splits import DatasetInfo
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.platforms import keep_devices_from_tensorflow
from resnet_rs.utils.rules import crop_fraction


def dataset_info(config) -> DatasetInfo:
    """Returns the splits, sizes and classes of config.data; raises UserError if it is not there."""
    return find_dataset(config.data)


def train_batches(
    config, *, first_step: int = 0, process_index: int = 0, process_count: int = 1
) -> 'TrainBatches':
    """The endless batches of one process, from `first_step` on.

    Each is a dict of arrays over the process's contiguous part of the global batch, B / P
    examples: 'image' uint8 [B/P, S, S, 3], 'label' int32 [B/P], 'mask' float32 [B/P] (0 where an
    undecodable image was skipped), 'index' int32 [B/P] (the example's number in the split). The
    arrays are views of TensorFlow's buffers and read-only. With data.repeated_augmentation = n
    every example stands n times in a row, each time augmented by itself.

    Raises UserError for settings that cannot be, when called, and for bad data, when it is met.
    """
    return TrainBatches(config, first_step, process_index, process_count)


def eval_batches(
    config,
    *,
    split: str | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> 'EvalBatches':
    """Every example of a split once, in file order, over all processes.

    Process k of P reads examples [k n/P, (k+1) n/P); all processes yield the same number of
    batches of `batch_size` / P, the last ones filled up with zero images of label -1, mask 0 and
    index -1. Keys, dtypes and errors are those of `train_batches`. The result has a length and
    may be iterated again.

    Where any number of classes is right (ImageNet-ReaL), batches also have 'label_set', bool
    [B/P, classes]; 'label' is then the original one, and an image without a right class has
    mask 0.

    Args:
      config: the run's config.
      split: defaults to config.data.eval_split.
      batch_size: over all processes; defaults to config.eval.batch_size.
      image_size: defaults to config.eval.image_size, or, where that is 0, config.data.image_size.
    """
    return EvalBatches(
        config,
        split or config.data.eval_split,
        batch_size or config.eval.batch_size,
        image_size or config.eval.image_size or config.data.image_size,
        process_index,
        process_count,
    )


class InputPlan(typing.NamedTuple):
    """Sizes of a training input.

    Attributes:
      examples: distinct examples of a global batch.
      local_batch: images of a batch in one process.
      streams: logical streams of a TFRecord set, over all processes.
      memory: the MemoryPlan of one process.
    """

    examples: int
    local_batch: int
    streams: int
    memory: MemoryPlan


def plan_input(config, process_count: int = 1) -> InputPlan:
    """Returns the sizes of the training input of `config`, and opens nothing.

    Raises UserError where processes cannot share the batch or the host memory is too small.
    """
    data = config.data
    info = dataset_info(config)
    split = info.split(data.train_split)
    repeats = data.repeated_augmentation
    examples = config.batch_size // repeats
    names = 'batch_size' if repeats == 1 else 'batch_size / data.repeated_augmentation'
    local = _local_batch_size(examples, process_count, names) * repeats
    streams = order.stream_count(examples, data.streams)
    memory = plan_memory(
        split,
        data,
        file_format=info.file_format,
        streams=-(-streams // process_count),
        local_batch=local,
        threads=_threads(data),
        cache=memory_bytes(split, data),
    )
    return InputPlan(examples, local, streams, memory)


class TrainBatches(Iterator):
    """The iterator of `train_batches`.

    Attributes:
      step: the step whose batch comes next.
      corrupt_images: how many undecodable images were skipped so far.
      memory: the MemoryPlan of this process.
    """

    def __init__(self, config, first_step, process_index, process_count):
        keep_devices_from_tensorflow()
        data = config.data
        info = dataset_info(config)
        split = info.split(data.train_split)
        plan = plan_input(config, process_count)
        repeats, distinct, threads = data.repeated_augmentation, plan.examples, _threads(data)
        streams, local, memory = plan.streams, plan.local_batch, plan.memory
        self.memory = memory
        logging.info('The input pipeline needs %s', memory.text)
        source = cached_split(split, info, data)
        decode, augment = _train_transforms(config)

        def open_at(step, guarded, undecodable):
            elements = records.training_records(
                source,
                info.file_format,
                seed=config.seed,
                batch_size=distinct,
                streams=streams,
                window=data.shuffle_window,
                first_step=step,
                process_index=process_index,
                process_count=process_count,
                threads=threads,
            )
            if repeats > 1:
                elements = elements.flat_map(lambda element: _copies(element, repeats))
            return _batched(
                elements,
                info,
                source,
                decode,
                augment,
                data,
                data.image_size,
                local,
                guarded,
                undecodable,
                prefetch=memory.prefetch_batches,
            )

        self._reader = Reader(open_at, info, split, source, data.corrupt_images, first_step)

    def __next__(self):
        return next(self._reader)

    @property
    def step(self) -> int:
        return self._reader.position

    @property
    def corrupt_images(self) -> int:
        return self._reader.corrupt_images


class EvalBatches:
    """The iterable of `eval_batches`.

    Attributes:
      num_examples: of the whole split, over all processes.
      corrupt_images: how many undecodable images the last iteration skipped in this process.
      unlabelled_images: how many had an empty set of right classes.
    """

    def __init__(self, config, split, batch_size, image_size, process_index, process_count):
        keep_devices_from_tensorflow()
        self._data = config.data
        self._info = dataset_info(config)
        self._split = self._info.split(split)
        self._image_size = image_size
        self._local = _local_batch_size(batch_size, process_count, 'eval.batch_size')
        self._decode = _eval_transform(config.data, image_size)
        self._threads = _threads(config.data)
        self.num_examples = self._split.num_examples
        self._start = process_index * self.num_examples // process_count
        self._stop = (process_index + 1) * self.num_examples // process_count
        self._source = self._split
        if config.data.cache == 'disk':
            self._source = cached_split(
                self._split, self._info, config.data, self._start, self._stop
            )
        self._length = math.ceil(math.ceil(self.num_examples / process_count) / self._local)
        self.corrupt_images = self.unlabelled_images = 0

    def __len__(self):
        return self._length

    def __iter__(self):
        def open_at(batch, guarded, undecodable):
            start = self._start + batch * self._local
            elements = records.sequential_records(
                self._source, self._info.file_format, start, self._stop, threads=self._threads
            )
            return _batched(
                elements,
                self._info,
                self._source,
                self._decode,
                None,
                self._data,
                self._image_size,
                self._local,
                guarded,
                undecodable,
                prefetch=self._data.prefetch_batches,
                drop_remainder=False,
            )

        reader = Reader(
            open_at, self._info, self._split, self._source, self._data.corrupt_images, 0
        )
        self.unlabelled_images = 0
        for _ in range(self._length):
            batch = next(reader, None)
            self.corrupt_images = reader.corrupt_images
            if batch is not None:
                self.unlabelled_images += int(is_unlabelled(batch).sum())
            yield self._padded(batch)

    def _padded(self, batch):
        size = self._image_size
        full = {
            'image': np.zeros((self._local, size, size, 3), np.uint8),
            'label': np.full(self._local, NO_LABEL, np.int32),
            'mask': np.zeros(self._local, np.float32),
            'index': np.full(self._local, -1, np.int32),
        }
        if self._split.label_set_feature:
            full['label_set'] = np.zeros((self._local, self._info.num_classes), bool)
        if batch is None:
            return full
        count = len(batch['label'])
        if count == self._local:
            return batch
        for name, value in batch.items():
            full[name][:count] = value
        return full


def _copies(element, count):
    """The same element `count` times, numbered by 'copy'; it is read once."""
    return tf.data.Dataset.range(count).map(lambda copy: {**element, 'copy': copy})


def _batched(
    elements,
    info,
    split,
    decode,
    augment,
    data,
    size,
    batch_size,
    guarded,
    undecodable,
    prefetch,
    drop_remainder=True,
) -> tf.data.Dataset:
    """Decodes, augments and batches records in their order, on a private pool of threads.

    Examples whose numbers are in `undecodable` become blanks; if `guarded`, so does whatever else
    cannot be decoded.
    """
    threads = _threads(data)
    has_sets = bool(split.label_set_feature)

    def place_of(element):
        return {
            'index': tf.cast(element['index'], tf.int32),
            'epoch': element['epoch'],
            'copy': element.get('copy', tf.constant(0, tf.int64)),
        }

    def decoded(element):
        found = {
            'image': decode(records.load(split, element['data']), element),
            'label': tf.cast(element['label'], tf.int32),
            'mask': tf.constant(1, tf.float32),
            **place_of(element),
        }
        if has_sets:
            classes = tf.range(info.num_classes, dtype=tf.int64)
            found['label_set'] = tf.reduce_any(element['label_set'][:, None] == classes, axis=0)
            found['mask'] = tf.cast(tf.reduce_any(found['label_set']), tf.float32)
        return found

    def blank(element):
        found = {
            'image': tf.zeros([size, size, 3], tf.uint8),
            'label': tf.constant(NO_LABEL, tf.int32),
            'mask': tf.constant(0, tf.float32),
            **place_of(element),
        }
        if has_sets:
            found['label_set'] = tf.zeros([info.num_classes], tf.bool)
        return found

    def decoded_unless_known(element):
        if not undecodable:
            return decoded(element)
        known = tf.reduce_any(element['index'] == tf.constant(undecodable, tf.int64))
        return tf.cond(
            known, functools.partial(blank, element), functools.partial(decoded, element)
        )

    def decoded_or_blank(element):
        one = tf.data.Dataset.from_tensors(element)
        return one.map(decoded).ignore_errors().concatenate(one.map(blank)).take(1)

    def finished(element):
        image = augment(element) if augment else element['image']
        if guarded or undecodable:
            image = tf.where(element['label'] != NO_LABEL, image, 0)
        kept = ('label', 'mask', 'index', *(['label_set'] if has_sets else []))
        return {
            'image': tf.ensure_shape(image, [size, size, 3]),
            **{name: element[name] for name in kept},
        }

    parallel = {'num_parallel_calls': threads, 'deterministic': True}
    if guarded:
        dataset = elements.interleave(
            decoded_or_blank, cycle_length=threads, block_length=1, **parallel
        ).map(finished, **parallel)
    else:
        dataset = elements.map(lambda element: finished(decoded_unless_known(element)), **parallel)
    dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    dataset = dataset.prefetch(prefetch)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options)


def _train_transforms(config):
    """(decode, augment): encoded bytes and element -> uint8 [S, S, 3]; element -> the same."""
    data = config.data
    size = data.image_size
    resize = images.RESIZE[data.resize]
    fraction = crop_fraction(data.eval_crop, size)
    augment_image = None
    if data.augment != 'none':
        augment_image = create_augment(
            data.augment,
            layers=data.randaugment_layers,
            magnitude=data.randaugment_magnitude,
            operations=tuple(data.randaugment_operations) or None,
        )

    def seeds(element):
        return tf.unstack(
            order.augmentation_seeds(
                element['epoch'],
                tf.cast(element['index'], tf.int64),
                element.get('copy', 0),
                seed=config.seed,
            )
        )

    def decode(encoded, element):
        crop_seed, flip_seed, _ = seeds(element)

        def choose_box(shape):
            return images.random_box(
                shape,
                fraction,
                area=tuple(data.crop_area),
                ratio=tuple(data.crop_ratio),
                seed=crop_seed,
            )

        image = resize(images.decode_crop(encoded, choose_box), size)
        image = images.to_uint8(image, rounded=False)
        if data.flip:
            # The sign bit of a random integer is a fair coin.
            image = tf.cond(flip_seed[0] < 0, lambda: tf.reverse(image, [1]), lambda: image)
        return image

    def augment(element):
        return augment_image(element['image'], seeds(element)[2])

    return decode, augment if augment_image else None


def _eval_transform(data, size):
    evaluation_image = images.evaluation_transform(data, size)
    return lambda encoded, element: evaluation_image(encoded)


def _local_batch_size(batch_size: int, process_count: int, name: str) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f'{name} is {batch_size}, which {process_count} processes cannot share evenly; '
            f'make it a multiple of {process_count}'
        )
    return batch_size // process_count


def _threads(data) -> int:
    return data.threads or len(os.sched_getaffinity(0))
