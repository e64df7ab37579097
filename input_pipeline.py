"""From a dataset's name to host batches: order, decode and crop, flip, augment, batch.

A training batch is a function of (seed, step, global batch size): the same on any number of hosts
and threads, and after any restart (resnet_rs.datasets.order). Images leave as uint8; the training
step normalises them on the device.
"""

import dataclasses
import math
import os
import typing
from collections.abc import Callable, Iterator

import resnet_rs  # noqa: F401 - prepares the environment for TensorFlow

# isort: split
import tensorflow as tf
from absl import logging

from resnet_rs.augment import create_augment
from resnet_rs.datasets import images, order, records
from resnet_rs.datasets.examples import NO_LABEL, ExampleFormat, is_unlabelled
from resnet_rs.datasets.file_cache import cached_split, memory_bytes
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.memory import MemoryPlan, plan_memory
from resnet_rs.datasets.reader import Reader
from resnet_rs.datasets.splits import DatasetInfo
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.platforms import keep_devices_from_tensorflow


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


class Transforms(typing.NamedTuple):
    """The transforms of an image; each draws from a seed of its own, int32 [2].

    Attributes:
      seed: of the run; it gives three seeds for each copy of each example in each epoch.
      crop: (encoded image, seed) -> uint8 [S, S, 3].
      flip: (image, seed) -> image, or None.
      augment: (image, seed) -> image, or None.
    """

    seed: int
    crop: Callable
    flip: Callable | None = None
    augment: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """The way of a split from its records to the batches of one process.

    Attributes:
      read: number of a batch -> all records from this batch on, in their order.
      examples: what a record becomes.
      transforms: what is done to its image.
      batch_size: of this process.
      prefetch: batches that are read ahead.
      threads: of the pipeline, which has a pool of its own.
    """

    read: Callable[[int], tf.data.Dataset]
    examples: ExampleFormat
    transforms: Transforms
    batch_size: int
    prefetch: int
    threads: int

    def open(self, first: int, guarded: bool, undecodable: tuple[int, ...]) -> tf.data.Dataset:
        """Returns the batches from number `first` on.

        Examples whose numbers are in `undecodable` become blanks; if `guarded`, so does whatever
        else cannot be decoded.
        """
        examples, transforms = self.examples, self.transforms

        def decode_and_crop(record):
            seeds = _seeds(record, transforms.seed)
            encoded = records.load(examples.source, record['data'])
            return examples.decoded(record, transforms.crop(encoded, seeds[0])), seeds

        def blank(record):
            return examples.blank(record), _seeds(record, transforms.seed)

        def flip_and_augment(example, seeds):
            image = example['image']
            if transforms.flip:
                image = transforms.flip(image, seeds[1])
            if transforms.augment:
                image = transforms.augment(image, seeds[2])
            if guarded or undecodable:
                image = tf.where(example['label'] != NO_LABEL, image, 0)
            return example | {'image': tf.ensure_shape(image, examples.image_shape)}

        in_order = {'num_parallel_calls': self.threads, 'deterministic': True}
        dataset = self.read(first)
        if guarded:
            decode = _or_if_it_fails(decode_and_crop, blank)
            dataset = dataset.interleave(
                decode, cycle_length=self.threads, block_length=1, **in_order
            )
            dataset = dataset.map(flip_and_augment, **in_order)
        else:
            decode = _or_if_known(decode_and_crop, blank, undecodable)
            dataset = dataset.map(lambda record: flip_and_augment(*decode(record)), **in_order)
        dataset = dataset.batch(self.batch_size)
        dataset = dataset.prefetch(self.prefetch)
        return dataset.with_options(_options(self.threads))


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
        self.memory = plan.memory
        logging.info('The input pipeline needs %s', self.memory.text)
        source = cached_split(split, info, data)

        def read(step):
            distinct = records.training_records(
                source,
                info.file_format,
                seed=config.seed,
                batch_size=plan.examples,
                streams=plan.streams,
                window=data.shuffle_window,
                first_step=step,
                process_index=process_index,
                process_count=process_count,
                threads=_threads(data),
            )
            return _repeated(distinct, data.repeated_augmentation)

        pipeline = Pipeline(
            read,
            ExampleFormat(source, info.num_classes, data.image_size),
            _training_transforms(config),
            plan.local_batch,
            self.memory.prefetch_batches,
            _threads(data),
        )
        self._reader = Reader(pipeline.open, info, split, source, data.corrupt_images, first_step)

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
        data = config.data
        info = dataset_info(config)
        split = info.split(split)
        local = _local_batch_size(batch_size, process_count, 'eval.batch_size')
        count = split.num_examples
        start, stop = (
            place * count // process_count for place in (process_index, process_index + 1)
        )
        source = cached_split(split, info, data, start, stop) if data.cache == 'disk' else split

        def read(batch):
            return records.sequential_records(
                source, info.file_format, start + batch * local, stop, threads=_threads(data)
            )

        self._pipeline = Pipeline(
            read,
            ExampleFormat(source, info.num_classes, image_size),
            _evaluation_transforms(data, image_size),
            local,
            data.prefetch_batches,
            _threads(data),
        )
        self._new_reader = lambda: Reader(
            self._pipeline.open, info, split, source, data.corrupt_images, 0
        )
        self._length = math.ceil(math.ceil(count / process_count) / local)
        self.num_examples = count
        self.corrupt_images = self.unlabelled_images = 0

    def __len__(self):
        return self._length

    def __iter__(self):
        reader = self._new_reader()
        self.unlabelled_images = 0
        for _ in range(self._length):
            batch = next(reader, None)
            self.corrupt_images = reader.corrupt_images
            if batch is not None:
                self.unlabelled_images += int(is_unlabelled(batch).sum())
            yield self._pipeline.examples.padded(batch, self._pipeline.batch_size)


def _repeated(elements: tf.data.Dataset, count: int) -> tf.data.Dataset:
    """Returns every element `count` times in a row, numbered by 'copy'; each is read once."""
    if count == 1:
        return elements

    def copies(element):
        return tf.data.Dataset.range(count).map(lambda copy: {**element, 'copy': copy})

    return elements.flat_map(copies)


def _seeds(record: dict, seed: int):
    """Returns the seeds for crop, flip and augmentation of a record's image, int32 [3, 2]."""
    return order.augmentation_seeds(
        record['epoch'], record['index'], record.get('copy', 0), seed=seed
    )


def _or_if_known(decode: Callable, blank: Callable, undecodable: tuple[int, ...]) -> Callable:
    """Returns `decode` of a record, but `blank` of those whose numbers are in `undecodable`."""
    if not undecodable:
        return decode

    def decode_unless_known(record):
        known = tf.reduce_any(record['index'] == tf.constant(undecodable, tf.int64))
        return tf.cond(known, lambda: blank(record), lambda: decode(record))

    return decode_unless_known


def _or_if_it_fails(decode: Callable, blank: Callable) -> Callable:
    """Returns a dataset of one element: `decode` of a record, or `blank` where this fails."""

    def decoded_or_blank(record):
        one = tf.data.Dataset.from_tensors(record)
        return one.map(decode).ignore_errors().concatenate(one.map(blank)).take(1)

    return decoded_or_blank


def _options(threads: int) -> tf.data.Options:
    """Returns options of a pipeline whose order and memory depend on its settings alone."""
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return options


def _training_transforms(config) -> Transforms:
    data = config.data
    augment = None
    if data.augment != 'none':
        augment = create_augment(
            data.augment,
            layers=data.randaugment_layers,
            magnitude=data.randaugment_magnitude,
            operations=tuple(data.randaugment_operations) or None,
        )
    flip = images.random_flip if data.flip else None
    return Transforms(config.seed, images.training_transform(data), flip, augment)


def _evaluation_transforms(data, image_size: int) -> Transforms:
    transform = images.evaluation_transform(data, image_size)
    return Transforms(seed=0, crop=lambda encoded, seed: transform(encoded))


def _local_batch_size(batch_size: int, process_count: int, name: str) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f'{name} is {batch_size}, which {process_count} processes cannot share evenly; '
            f'make it a multiple of {process_count}'
        )
    return batch_size // process_count


def _threads(data) -> int:
    return data.threads or len(os.sched_getaffinity(0))
