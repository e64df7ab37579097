"""The order of training examples, as pure functions.

A batch is a function of (seed, step, global batch size) alone. Every function here takes and
returns integer tensors (int64), runs eagerly and inside tf.data, and keeps no state, so training
may start at any step.

Sets with random access (array_record, image folders) use a permutation of all examples per epoch.
TFRecord files can only be read forward, so their records are distributed over a fixed number S of
streams. S depends on the global batch size alone, and each stream owns a fixed slice of every
global batch. In epoch e the files are permuted, and stream s reads the next

    L(s, e) = floor(((e + 1) n + s) / S) - floor((e n + s) / S)

records of their concatenation. These lengths sum to the n examples of the set (Hermite's
identity), so an epoch contains every record once, and the running totals of two streams never
differ by more than one record. Each window of consecutive records of a stream is shuffled.
"""

import dataclasses

import tensorflow as tf

# TensorFlow's index_shuffle has 4 rounds of its cipher. With 1,281,167 examples the orders of two
# consecutive epochs are then correlated (Spearman 0.3); with 8 rounds no correlation is left.
_ROUNDS = 16
_EXAMPLES, _FILES, _WINDOW, _AUGMENTATION = range(4)


@dataclasses.dataclass(frozen=True)
class ProcessOrder:
    """The settings of the order, and the part of every global batch that a process reads.

    Process k of P reads elements [k B/P, (k+1) B/P) of each batch of B examples.

    seed: the run's seed.
    batch_size: distinct examples of a global batch, B.
    streams: the number S of streams of a TFRecord set, which divides the batch.
    window: the records of a stream that are shuffled together.
    process_index, process_count: k and P.
    """

    seed: int
    batch_size: int
    streams: int
    window: int
    process_index: int
    process_count: int

    @property
    def local_batch_size(self) -> int:
        """Examples of this process in a batch, B/P."""
        return self.batch_size // self.process_count


def permuted(index, size, *, seed, purpose, part):
    """Maps `index` [k] by a permutation of range(size) that the last three arguments determine.

    Args:
      index: int64 [k] in [0, size).
      size: int64 scalar.
      seed: the run's seed, a Python int.
      purpose: a small Python int that separates unrelated draws.
      part: int64 [] or [k]: the epoch, or another number for each permutation.
    """
    index = tf.convert_to_tensor(index, tf.int64)
    part = tf.broadcast_to(tf.cast(part, tf.int64), tf.shape(index))
    # The op keeps the low 32 bits of each of its three seeds.
    seeds = tf.stack(
        [
            tf.fill(tf.shape(index), tf.constant(seed, tf.int64)),
            tf.bitwise.bitwise_and(part, 0xFFFFFFFF),
            tf.bitwise.right_shift(part, 32) * 8 + purpose,
        ],
        axis=-1,
    )
    last = tf.cast(size, tf.int64) - 1
    return tf.raw_ops.RandomIndexShuffle(
        index=index, seed=seeds, max_index=tf.fill(tf.shape(index), last), rounds=_ROUNDS
    )


def example_at(position, num_examples, *, seed):
    """Returns (epoch, example), int64 [k] each, at positions [k] of a set with random access."""
    epoch = position // num_examples
    example = permuted(
        position % num_examples, num_examples, seed=seed, purpose=_EXAMPLES, part=epoch
    )
    return epoch, example


def files_of_epoch(num_files, epoch, *, seed):
    """Returns the order of the files in one epoch, int64 [num_files]."""
    return permuted(
        tf.range(num_files, dtype=tf.int64), num_files, seed=seed, purpose=_FILES, part=epoch
    )


def within_window(size, epoch, stream, window, *, seed):
    """Returns the order of the `size` records of one window, int64 [size]."""
    # Only a stream with a billion records per epoch would exceed 2^20 windows and 2^12 streams.
    part = (epoch * 2**12 + stream) * 2**20 + window
    return permuted(tf.range(size, dtype=tf.int64), size, seed=seed, purpose=_WINDOW, part=part)


def stream_count(batch_size: int, wanted: int) -> int:
    """Returns the largest divisor of the global batch size that is at most `wanted`."""
    return max(n for n in range(1, max(1, min(wanted, batch_size)) + 1) if batch_size % n == 0)


def stream_range(stream, epoch, num_examples, streams):
    """Returns (begin, end) of a stream in one epoch's concatenation of files, int64 scalars."""
    numbers = tf.range(streams, dtype=tf.int64)
    before = (epoch * num_examples + numbers) // streams
    after = ((epoch + 1) * num_examples + numbers) // streams
    ends = tf.cumsum(after - before)
    return (ends - (after - before))[stream], ends[stream]


def stream_position(stream: int, taken: int, num_examples: int, streams: int) -> tuple[int, int]:
    """Returns (epoch, offset in the epoch) of a stream after `taken` records."""
    epochs_begun = -((stream - (taken + 1) * streams) // num_examples)  # rounded up
    epoch = epochs_begun - 1
    return epoch, taken - (epoch * num_examples + stream) // streams


def augmentation_seeds(epoch, example, copy=0, *, seed):
    """Returns seeds for crop, flip and augmentation of an example in an epoch, int32 [3, 2].

    `copy` (int64, from 0) distinguishes the views of repeated augmentation.
    """
    return tf.random.stateless_uniform(
        [3, 2],
        seed=tf.stack(
            [
                tf.constant((seed << 32) + _AUGMENTATION, tf.int64) + epoch * 8,
                example + copy * 2**40,
            ]
        ),
        minval=None,
        maxval=None,
        dtype=tf.int32,
    )
