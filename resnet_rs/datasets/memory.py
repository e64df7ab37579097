"""How much host memory the training input of one process takes, told from its settings alone."""

import dataclasses

from etils import epath

from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.utils.errors import UserError

GIB = 2**30
# While a window is opened it exists as serialized records, as the same in their new order, and as
# the images parsed from them, and the next one is being read; all streams do so at the same step.
WINDOW_COPIES = 4
# Batches beside the prefetched ones: one is being assembled, one trained on, two are on their way
# to the devices (resnet_rs.training.device_prefetch).
OTHER_BATCHES = 4
# An image being decoded, resized and augmented, with its intermediate results.
BYTES_PER_THREAD = 16 * 2**20
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
) -> MemoryPlan:
    """What one process takes, with as many prefetched batches as config.data asks for and fit.

    The order of examples depends on data.shuffle_window, so a window that does not fit is refused
    and not made smaller; prefetching less changes nothing but speed.

    Args:
      split: of which a few files are asked for their size.
      data: config.data.
      file_format: of the dataset; only 'tfrecord' has windows.
      streams: of this process.
      local_batch: images of this process in one batch.
      threads: of the pipeline.
      cache: bytes of the files that are held in memory.

    Raises UserError where data.host_memory_gib is too small even for one prefetched batch.
    """
    budget = int(data.host_memory_gib * GIB) - cache
    record = bytes_per_record(split) if file_format == 'tfrecord' else 0
    windows = WINDOW_COPIES * streams * data.shuffle_window * record
    batch = local_batch * data.image_size**2 * 3
    scratch = threads * BYTES_PER_THREAD
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
            f'has as much memory, or {advice}'
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


def bytes_per_record(split: SplitInfo) -> int:
    """Mean size of a serialized example, rounded up, from the sizes of a few record files."""
    shards = [shard for shard in split.shards if shard.examples_in_shard][:SAMPLED_FILES]
    size = sum(epath.Path(shard.filename).stat().length for shard in shards)
    return -(-size // sum(shard.examples_in_shard for shard in shards))
