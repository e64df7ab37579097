"""The host memory of one process's input, computed from its settings."""

import dataclasses
import math

import ml_collections
from etils import epath

from resnet_rs.config.clips import clip_shape
from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.utils.errors import UserError

GIB = 2**30
# A window exists as serialized records, as reordered records and as the images parsed from them,
# while the next window is read; all streams reach this point at the same step.
WINDOW_COPIES = 4
# Batches in addition to the prefetched ones: one is assembled, one trained on, two on their way to
# the devices (resnet_rs.training.device_prefetch).
OTHER_BATCHES = 4
# An image being decoded, resized and augmented, with its intermediate results.
BYTES_PER_THREAD = 16 * 2**20
BYTES_PER_PIXEL = 6  # of a clip in a thread: as bytes, resized as floats, and as bytes again
SAMPLED_FILES = 16


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes of each part, the number of prefetched batches that fits, and the sum in words."""

    windows: int
    batches: int
    threads: int
    cache: int
    prefetch_batches: int
    text: str

    @property
    def total(self) -> int:
        return self.windows + self.batches + self.threads + self.cache


def plan_memory(
    split: SplitInfo,
    data,
    *,
    file_format: str,
    streams: int,
    local_batch: int,
    threads: int,
    cache: int = 0,
    second_size: int = 0,
) -> MemoryPlan:
    """Returns the memory of one process, with up to data.prefetch_batches that fit.

    The order of examples depends on data.shuffle_window, so a window that does not fit is an error
    and is not reduced; fewer prefetched batches only cost speed.

    Args:
      split: the training split; a few of its files are asked for their size.
      data: config.data.
      file_format: format of the dataset; only 'tfrecord' has windows.
      streams: number of streams of this process.
      local_batch: images of this process in one batch.
      threads: number of threads of the pipeline.
      cache: bytes of the files in the memory cache.
      second_size: side of the teacher's crop in pixels; 0 for none.

    Raises UserError if data.host_memory_gib is too small even for one prefetched batch.
    """
    budget = int(data.host_memory_gib * GIB) - cache
    record = bytes_per_record(split) if file_format == 'tfrecord' else 0
    windows = WINDOW_COPIES * streams * data.shuffle_window * record
    example = (max(data.frames, 1) * data.image_size**2 + second_size**2) * 3
    batch = local_batch * example
    scratch = threads * max(BYTES_PER_THREAD, BYTES_PER_PIXEL * example)
    fitting = (budget - windows - scratch) // batch - OTHER_BATCHES
    if fitting < 1:
        most = (budget - scratch - (OTHER_BATCHES + 1) * batch) // max(
            WINDOW_COPIES * streams * record, 1
        )
        advice = (
            f'--config.data.shuffle_window={most} or less'
            if record and most >= 1
            else 'a smaller --config.batch_size, or more hosts'
        )
        needed = (cache + windows + scratch + (OTHER_BATCHES + 1) * batch) / GIB
        raise UserError(
            f'the input needs {needed:.3g} GiB of memory, but data.host_memory_gib is '
            f'{data.host_memory_gib}: use a larger --config.data.host_memory_gib if the host '
            f'has enough memory, or {advice}'
        )
    prefetch = min(data.prefetch_batches, fitting)
    batches = (prefetch + OTHER_BATCHES) * batch
    parts = {
        'shuffle windows': windows,
        'batches': batches,
        'threads': scratch,
        'cached files': cache,
    }
    largest = max(parts, key=parts.get)
    text = (
        f'{sum(parts.values()) / GIB:.2f} of the {data.host_memory_gib:g} GiB allowed '
        f'(data.host_memory_gib), {parts[largest] / GIB:.2f} of them for {largest}'
    )
    if prefetch < data.prefetch_batches:
        text += f'; data.prefetch_batches is lowered from {data.prefetch_batches} to {prefetch}'
    return MemoryPlan(windows, batches, scratch, cache, prefetch, text)


def check_evaluation(
    config: ml_collections.ConfigDict,
    local_batch: int,
    image_size: int,
    batch_size_setting: str = 'eval.batch_size',
    clips_setting: str = 'eval.clips',
) -> None:
    """Raises UserError if data.host_memory_gib is too small for the videos of an evaluation.

    A video is as large as all its views. `local_batch` is the number of examples of a batch in this
    process, `image_size` their side in pixels; the last two are the settings of the evaluation that
    the message names.
    """
    data = config.data
    if not data.frames:
        return
    example_bytes = math.prod(clip_shape(config, 'eval')) * image_size**2 * 3
    needed = (data.prefetch_batches + OTHER_BATCHES) * local_batch * example_bytes
    if needed > data.host_memory_gib * GIB:
        raise UserError(
            f'the evaluation needs {needed / GIB:.3g} GiB of memory for batches of {local_batch}, '
            f'each of {example_bytes / 2**20:.3g} MiB, but data.host_memory_gib is '
            f'{data.host_memory_gib}: use a smaller --config.{batch_size_setting}, '
            f'fewer --config.{clips_setting}, or a larger --config.data.host_memory_gib if the '
            'host has it'
        )


def bytes_per_record(split: SplitInfo) -> int:
    """Returns the mean size of a serialized example, rounded up, from a few record files."""
    shards = [shard for shard in split.shards if shard.examples_in_shard][:SAMPLED_FILES]
    size = sum(epath.Path(shard.filename).stat().length for shard in shards)
    return -(-size // sum(shard.examples_in_shard for shard in shards))
