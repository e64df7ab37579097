"""The labels of a split, without its images."""

import functools

import numpy as np

from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.platforms import import_tensorflow

_READ_AT_ONCE = 4096  # records


@functools.lru_cache(maxsize=4)
def read_labels(split: SplitInfo, file_format: str) -> np.ndarray:
    """Returns the labels of a split in its order, int64 [examples]; decodes no image."""
    if split.images:
        return np.array(split.labels, np.int64)
    import_tensorflow()
    from resnet_rs.datasets import records

    found = records.sequential_records(
        split, file_format, 0, split.num_examples, threads=records.LABEL_THREADS
    )
    label_of = records.not_converted(lambda record: record['label'])
    labels = found.map(label_of).batch(_READ_AT_ONCE)
    try:
        return np.concatenate(list(labels.as_numpy_iterator())).astype(np.int64)
    except records.READ_ERRORS as error:
        damage = records.damaged_file(split, file_format)
        if damage is None:
            raise
        raise UserError(f'split {split.name} cannot be read: {damage}') from error
