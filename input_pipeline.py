"""From a dataset's name to host batches: order, decode and crop, flip, augment, batch.

A training batch is a function of (seed, step, global batch size): the same on any number of hosts
and threads, and after any restart (resnet_rs.datasets.order). Images leave as uint8; the training
step normalises them on the device.
"""

import typing
from collections.abc import Iterator

import resnet_rs  # noqa: F401 - prepares the environment for TensorFlow

# isort: split
import tensorflow as tf
from absl import logging

from resnet_rs.config import mixture
from resnet_rs.config.clips import clip_shape
from resnet_rs.config.second_crop import second_size
from resnet_rs.datasets import order, records
from resnet_rs.datasets.examples import ExampleFormat
from resnet_rs.datasets.file_cache import cached_split, memory_bytes
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.memory import MemoryPlan, plan_memory
from resnet_rs.datasets.pipeline import (
    EvalBatches,
    Pipeline,
    local_batch_size,
    threads_of,
    training_transforms,
)
from resnet_rs.datasets.reader import Reader
from resnet_rs.datasets.sources import Source, batch_joiner, sources_of
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
    every example appears n times in a row, each time augmented independently.

    With distillation.second_crop a batch has 'teacher_image' uint8 [B/P, T, T, 3] too, the same
    part of the image at the teacher's resolution.

    With config.objective = 'pseudo_labels' a batch holds labelled and pseudo-labelled images, in
    the order of resnet_rs.config.mixture; datasets.sources says what their batches have in
    addition.

    Raises UserError for invalid settings at the call, and for bad data when their batch is read.
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
    """Sizes of a source of a training input.

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

    They are those of the labelled images. Raises UserError where processes cannot share the batch
    or the host memory is too small, also for pseudo-labelled images.
    """
    plans = [_plan_source(source.config, process_count) for source in sources_of(config)]
    labelled, _ = mixture.group_sizes(config)
    if len(plans) > 1 and plans[0].local_batch % labelled:
        raise UserError(
            f'{process_count} processes have {plans[0].local_batch} labelled images each, which '
            f'optimizer.accumulation_steps = {labelled} does not divide; make --config.batch_size '
            f'a multiple of {process_count * labelled * (1 + config.pseudo_labels.ratio)}'
        )
    return plans[0]


def _plan_source(config, process_count: int) -> InputPlan:
    data = config.data
    info = dataset_info(config)
    split = info.split(data.train_split)
    repeats = data.repeated_augmentation
    examples = config.batch_size // repeats
    names = 'batch_size' if repeats == 1 else 'batch_size / data.repeated_augmentation'
    local = local_batch_size(examples, process_count, names) * repeats
    streams = order.stream_count(examples, data.streams)
    memory = plan_memory(
        split,
        data,
        file_format=info.file_format,
        streams=-(-streams // process_count),
        local_batch=local,
        threads=threads_of(data),
        cache=memory_bytes(split, data),
        second_size=second_size(config),
    )
    return InputPlan(examples, local, streams, memory)


class TrainBatches(Iterator):
    """The iterator of `train_batches`.

    Attributes:
      step: the step of the next batch.
      corrupt_images: the number of undecodable images skipped so far.
      memory: the MemoryPlan of the labelled images in this process.
    """

    def __init__(self, config, first_step, process_index, process_count):
        keep_devices_from_tensorflow()
        self.memory = plan_input(config, process_count).memory
        self._sources = sources_of(config)
        self._readers = [
            _open_source(source, first_step, process_index, process_count)
            for source in self._sources
        ]
        self._join = batch_joiner(config, self._sources)

    def __next__(self):
        return self._join([next(reader) for reader in self._readers])

    @property
    def step(self) -> int:
        return self._readers[0].position

    @property
    def corrupt_images(self) -> int:
        return sum(reader.corrupt_images for reader in self._readers)


def _open_source(source: Source, first_step, process_index, process_count) -> Reader:
    """Returns the batches of one source, a function of the step, from `first_step` on."""
    config, data = source.config, source.config.data
    info = dataset_info(config)
    split = info.split(data.train_split)
    plan = _plan_source(config, process_count)
    what = ' of pseudo-labelled images' if source.labels else ''
    logging.info('The input pipeline%s needs %s', what, plan.memory.text)
    files = cached_split(split, info, data)
    process = order.ProcessOrder(
        seed=config.seed,
        batch_size=plan.examples,
        streams=plan.streams,
        window=data.shuffle_window,
        process_index=process_index,
        process_count=process_count,
    )

    def read(step):
        distinct = records.training_records(
            files,
            info.file_format,
            process,
            first_step=step,
            threads=threads_of(data),
            selection=source.selection,
        )
        return _repeated(distinct, data.repeated_augmentation)

    pipeline = Pipeline(
        read,
        ExampleFormat(
            files,
            info.num_classes,
            data.image_size,
            clip_shape(config, 'train'),
            second_size(config),
        ),
        training_transforms(config, files),
        plan.local_batch,
        plan.memory.prefetch_batches,
        threads_of(data),
    )
    return Reader(pipeline.open, info, split, files, data.corrupt_images, first_step)


def _repeated(elements: tf.data.Dataset, count: int) -> tf.data.Dataset:
    """Returns every element `count` times in a row, numbered by 'copy'; each is read once."""
    if count == 1:
        return elements

    def copies(element):
        first = element.get('copy', tf.constant(0, tf.int64)) * count
        numbers = tf.data.Dataset.range(count)
        return numbers.map(lambda copy: {**element, 'copy': first + copy})

    return elements.flat_map(copies)
