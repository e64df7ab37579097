"""The sources of a training batch: labelled images, and pseudo-labelled ones if there are any.

Each source has an order and a position of its own, which follow from the step. A batch of both has
two keys more: 'is_pseudo', bool [B], and for soft pseudo-labels 'target', float32 [B, classes], the
teacher's distribution, 0 for labelled images. The 'label' of a pseudo-labelled image is its
likeliest class.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import ml_collections
import numpy as np

from resnet_rs.config import mixture
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.pseudo_labels import PseudoLabels, Selection, find_images, select
from resnet_rs.utils.errors import UserError

# Added to the seed for pseudo-labelled images, so that two sources of the same size have different
# orders.
_SEED_STEP = 0x5F3759DF


class Source(NamedTuple):
    """A source of images.

    config: the configuration of a run that reads this source alone, with its part of the batch
      and of the memory.
    labels: its pseudo-labels; None for the data's own labels.
    selection: the examples of an epoch; None for every one once.
    """

    config: ml_collections.ConfigDict
    labels: PseudoLabels | None = None
    selection: Selection | None = None


def sources_of(config: ml_collections.ConfigDict) -> list[Source]:
    """Returns the source of labelled images, and that of pseudo-labelled ones if there is one.

    Raises UserError for pseudo-labels of other data, or if none has the least confidence.
    """
    if not mixture.has_pseudo_labels(config):
        return [Source(config)]
    settings = config.pseudo_labels
    labels = PseudoLabels.read(settings.file)
    selection = select(labels, settings.least_confidence, settings.per_class, config.seed)
    if not len(selection.examples):
        raise UserError(
            f'no pseudo-label in {settings.file} has the least confidence '
            f'{settings.least_confidence}; use a smaller --config.pseudo_labels.least_confidence'
        )
    labelled_images, pseudo_images = mixture.group_sizes(config)
    described = labels.description
    parts = []
    for images in (labelled_images, pseudo_images):
        share = images / (labelled_images + pseudo_images)
        part = config.copy_and_resolve_references().unlock()
        part.batch_size = round(config.batch_size * share)
        part.data.host_memory_gib = config.data.host_memory_gib * share
        parts.append(part)
    labelled, pseudo = parts
    pseudo.seed = (config.seed + _SEED_STEP) % 2**31
    pseudo.data.source = described.source
    pseudo.data.name = described.name
    pseudo.data.data_dir = settings.data_dir or config.data.data_dir
    pseudo.data.classes, pseudo.data.label = described.classes, described.label
    pseudo.data.train_split = pseudo.data.eval_split = described.split
    find_images(labels, find_dataset(pseudo.data))
    return [Source(labelled.lock()), Source(pseudo.lock(), labels, selection)]


def batch_joiner(
    config: ml_collections.ConfigDict, sources: Sequence[Source]
) -> Callable[[list[dict]], dict]:
    """Returns the function from a batch of each of `sources` to the batch of a step.

    It raises UserError where an image has another label of its own than when its pseudo-label was
    made.
    """
    if len(sources) == 1:
        return lambda batches: batches[0]
    labels, settings = sources[1].labels, config.pseudo_labels
    predicted, groups = labels.predicted, mixture.group_sizes(config)

    def with_pseudo_labels(batch):
        index = batch['index']
        changed = (labels.label[index] != batch['label']) & (batch['mask'] > 0)
        if changed.any():
            example = index[np.argmax(changed)]
            raise UserError(
                f'example {example} of {labels.description.split} of {labels.description.name} has '
                f'the label {batch["label"][np.argmax(changed)]}, and had '
                f'{labels.label[example]} when {settings.file} was written; write it anew'
            )
        added = {'label': predicted[index], 'is_pseudo': np.ones(len(index), bool)}
        if settings.form == 'soft':
            added['target'] = labels.targets(index, settings.temperature)
        return batch | added

    def without(batch):
        count = len(batch['index'])
        added = {'is_pseudo': np.zeros(count, bool)}
        if settings.form == 'soft':
            added['target'] = np.zeros((count, labels.description.num_classes), np.float32)
        return batch | added

    def join(batches):
        parts = (without(batches[0]), with_pseudo_labels(batches[1]))
        return {name: _in_groups([part[name] for part in parts], groups) for name in parts[0]}

    return join


def _in_groups(parts: list[np.ndarray], sizes: tuple[int, int]) -> np.ndarray:
    """Returns the rows of `parts` in groups of `sizes` rows from each."""
    grouped = [
        part.reshape(-1, size, *part.shape[1:]) for part, size in zip(parts, sizes, strict=True)
    ]
    joined = np.concatenate(grouped, 1)
    return joined.reshape(-1, *joined.shape[2:])
