"""Reading of host batches from a tf.data pipeline, with handling of invalid images and labels."""

import re
import weakref
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from resnet_rs.datasets import records
from resnet_rs.datasets.examples import is_unlabelled, wrong_label
from resnet_rs.datasets.splits import DatasetInfo, SplitInfo
from resnet_rs.utils.errors import UserError

# Batches in guarded mode without an undecodable image before the plain mode returns. Switching
# modes takes seconds, and this many guarded batches take about as long.
GUARDED_BATCHES = 50


class Reader(Iterator):
    """Iterator over the batches of `open_at(position, guarded, undecodable)`.

    The plain pipeline fails at the first undecodable image and does not name it. The reader then
    opens the pipeline again at the same batch in guarded mode, which is slower and replaces the
    image by a blank, so that the image can be named and, if so configured, skipped. After
    GUARDED_BATCHES without another undecodable image the reader returns to plain mode, with blanks
    for the images that it knows by then (`undecodable`, indices in the split).

    `source` is the split to read, from cached copies if there are any; `split` is the original, for
    messages.
    """

    def __init__(
        self,
        open_at,
        info: DatasetInfo,
        split: SplitInfo,
        source: SplitInfo,
        corrupt_policy,
        position,
    ):
        self.position = position
        self.corrupt_images = 0
        self._open_at = open_at
        self._split = split
        self._source = source
        self._num_classes = info.num_classes
        self._file_format = info.file_format
        self._skips = corrupt_policy == 'skip'
        self._undecodable = set()
        self._guarded = False
        self._plain_at = 0
        # An iterator that is open when Python ends calls into it from TensorFlow's threads, which
        # ends in an abort or never.
        self._iterators = []
        weakref.finalize(self, self._iterators.clear)
        self._open()

    def _open(self):
        self._iterators.clear()
        known = tuple(sorted(self._undecodable))
        # No transform has Python control flow on tensors, and autograph's search takes seconds.
        open_at = tf.autograph.experimental.do_not_convert(self._open_at)
        dataset = open_at(self.position, self._guarded, known)
        self._iterators.append(dataset.as_numpy_iterator())

    def __next__(self):
        if self._guarded and self.position >= self._plain_at:
            self._guarded = False
            self._open()
        try:
            batch = next(self._iterators[0])
        except records.READ_ERRORS as error:
            batch = self._next_guarded(error)
        self._check_labels(batch)
        self._count_corrupt(batch)
        self.position += 1
        return batch

    def _next_guarded(self, error):
        if not self._guarded:
            # Without the name of TensorFlow's operation: '{{function_node ...}} Unknown image ...'.
            reason = re.sub(r'^\{\{.*?\}\} *', '', str(error).strip().partition('\n')[0])
            logging.warning(
                'batch %d failed (%s); reading it again to find the %s',
                self.position,
                reason,
                self._split.noun,
            )
            self._guarded = True
            self._plain_at = self.position + GUARDED_BATCHES
            self._open()
            try:
                return next(self._iterators[0])
            except records.READ_ERRORS as again:
                error = again
        damage = records.damaged_file(self._split, self._file_format) or records.damaged_file(
            self._source, self._file_format
        )
        if damage is None:
            raise error
        raise UserError(f'split {self._split.name} cannot be read: {damage}') from error

    def _check_labels(self, batch):
        wrong = (batch['label'] < 0) | (batch['label'] >= self._num_classes)
        wrong &= batch['mask'] > 0
        if wrong.any():
            first = np.argmax(wrong)
            place = self._split.describe(batch['index'][first])
            raise wrong_label(batch['label'][first], self._num_classes, place)

    def _count_corrupt(self, batch):
        noun = self._split.noun
        blank = batch['index'][(batch['mask'] == 0) & ~is_unlabelled(batch)].tolist()
        self.corrupt_images += len(blank)
        new = [index for index in dict.fromkeys(blank) if index not in self._undecodable]
        if new and not self._skips:
            more = f' and {len(new) - 1} more in the batch' if len(new) > 1 else ''
            raise UserError(
                f'cannot decode the {noun} in {self._split.describe(new[0])}{more}: replace it, or '
                f'train without such {noun}s: --config.data.corrupt_images=skip'
            )
        for index in new:
            logging.warning('skipping undecodable %s: %s', noun, self._split.describe(index))
            self._plain_at = self.position + 1 + GUARDED_BATCHES
        self._undecodable.update(new)
