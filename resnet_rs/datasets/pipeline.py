"""The stages from records to the batches of one process, and the batches of an evaluation."""

import dataclasses
import math
import os
import typing
from collections.abc import Callable, Iterator

import tensorflow as tf

from resnet_rs.augment import create_augment
from resnet_rs.config.clips import clip_shape
from resnet_rs.config.second_crop import second_size
from resnet_rs.datasets import clips, images, order, records
from resnet_rs.datasets.examples import NO_LABEL, ExampleFormat, is_unlabelled
from resnet_rs.datasets.file_cache import cached_split
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.memory import check_evaluation
from resnet_rs.datasets.reader import Reader
from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.platforms import keep_devices_from_tensorflow


class Transforms(typing.NamedTuple):
    """The transforms of an image; each draws from a seed of its own, int32 [2].

    Attributes:
      seed: the run's seed, from which each copy of each example in each epoch gets three.
      crop: (encoded image, seed) -> uint8 [S, S, 3], or a pair with a second crop;
        (frames of a video, seed) -> a clip.
      flip: (image, seed) -> image, or None.
      augment: (image, seed) -> image, or None.
    """

    seed: int
    crop: Callable
    flip: Callable | None = None
    augment: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """The stages from a split's records to the batches of one process.

    Attributes:
      read: the number of a batch -> all records from this batch on, in order.
      examples: the conversion of a record to an example.
      transforms: the transforms of its image.
      batch_size: the images of this process in a batch.
      prefetch: the number of prefetched batches.
      threads: the size of the pipeline's own thread pool.
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
            changed = {}
            for name, shape in examples.image_shapes.items():
                image = example[name]
                if transforms.flip:
                    image = transforms.flip(image, seeds[1])
                if transforms.augment:
                    image = transforms.augment(image, seeds[2])
                if guarded or undecodable:
                    image = tf.where(example['label'] != NO_LABEL, image, 0)
                changed[name] = tf.ensure_shape(image, shape)
            return example | changed

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


class EvalBatches:
    """The iterable of input_pipeline.eval_batches.

    Attributes:
      num_examples: the examples of the whole split, over all processes.
      corrupt_images: the number of undecodable images that the last iteration skipped in this
        process.
      unlabelled_images: the number of images with an empty set of right classes.
    """

    def __init__(self, config, split, batch_size, image_size, process_index, process_count):
        keep_devices_from_tensorflow()
        # Of a folder only the splits that config.data names are read.
        data = config.data.copy_and_resolve_references().unlock()
        data.eval_split = split
        info = find_dataset(data)
        split = info.split(split)
        local = local_batch_size(batch_size, process_count, 'eval.batch_size')
        count = split.num_examples
        start, stop = (
            place * count // process_count for place in (process_index, process_index + 1)
        )
        source = cached_split(split, info, data, start, stop) if data.cache == 'disk' else split

        def read(batch):
            return records.sequential_records(
                source, info.file_format, start + batch * local, stop, threads=threads_of(data)
            )

        examples = ExampleFormat(source, info.num_classes, image_size, clip_shape(config, 'eval'))
        check_evaluation(config, local, image_size)
        self._pipeline = Pipeline(
            read,
            examples,
            evaluation_transforms(config, source, image_size),
            local,
            data.prefetch_batches,
            threads_of(data),
        )
        self._new_reader = lambda first: Reader(
            self._pipeline.open, info, split, source, data.corrupt_images, first
        )
        self._length = math.ceil(math.ceil(count / process_count) / local)
        self.num_examples = count
        self.corrupt_images = self.unlabelled_images = 0

    def __len__(self):
        return self._length

    def __iter__(self):
        return self.from_batch(0)

    def from_batch(self, first: int) -> Iterator[dict]:
        """Yields the batches from number `first` on."""
        reader = self._new_reader(first)
        self.unlabelled_images = 0
        for _ in range(first, self._length):
            batch = next(reader, None)
            self.corrupt_images = reader.corrupt_images
            if batch is not None:
                self.unlabelled_images += int(is_unlabelled(batch).sum())
            yield self._pipeline.examples.padded(batch, self._pipeline.batch_size)


def training_transforms(config, split: SplitInfo) -> Transforms:
    """Returns the random transforms of config.data for `split`, with the seed of the run.

    The frames of a clip are flipped and augmented alike.
    """
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
    if not split.video_form:
        crop = images.training_transform(data, second_size(config))
        return Transforms(config.seed, crop, flip, augment)
    if augment and data.frames > 1:
        augment = clips.of_all_frames(augment)
    return Transforms(config.seed, clips.training_transform(data, split), flip, augment)


def evaluation_transforms(config, split: SplitInfo, image_size: int) -> Transforms:
    """Returns the centre crop of evaluation, or the views of a video."""
    if split.video_form:
        views = config.eval.clips, config.eval.crops
        transform = clips.evaluation_transform(config.data, split, image_size, *views)
    else:
        transform = images.evaluation_transform(config.data, image_size)
    return Transforms(seed=0, crop=lambda encoded, seed: transform(encoded))


def local_batch_size(batch_size: int, process_count: int, name: str) -> int:
    """Returns the images of one process; raises UserError naming `name` if it does not divide."""
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f'{name} is {batch_size}, which {process_count} processes cannot share evenly; '
            f'make it a multiple of {process_count}'
        )
    return batch_size // process_count


def threads_of(data) -> int:
    """Returns the threads of a pipeline; `data` is config.data."""
    return data.threads or len(os.sched_getaffinity(0))


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
