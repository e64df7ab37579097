"""The composition of a training batch from a labelled and a pseudo-labelled source.

A batch consists of groups: with A micro-batches and a ratio r, A labelled images and then A r
pseudo-labelled ones. So every micro-batch, which is every A-th image, and every device whose part
is a number of groups has both kinds in the same ratio.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

OBJECTIVE = 'pseudo_labels'


def has_pseudo_labels(config: ml_collections.ConfigDict) -> bool:
    """Returns whether a run of `config` learns from pseudo-labels."""
    return config.objective == OBJECTIVE


def group_sizes(config: ml_collections.ConfigDict) -> tuple[int, int]:
    """Returns the labelled and the pseudo-labelled images of a group."""
    micro_batches = config.optimizer.accumulation_steps
    return micro_batches, micro_batches * config.pseudo_labels.ratio


def images_per_epoch(config: ml_collections.ConfigDict, examples: int) -> int:
    """Returns the images that training sees in an epoch, which is one of the labelled `examples`.

    As in Noisy Student's code, pseudo-labelled images do not make an epoch longer in steps: they
    come in addition, `ratio` for each labelled one.
    """
    return examples * (1 + config.pseudo_labels.ratio) if has_pseudo_labels(config) else examples


def conflict(settings: Mapping[str, Any]) -> str:
    """Returns why the ratio does not divide the batch, or ''; a relation of the table."""
    if settings['objective'] != OBJECTIVE:
        return ''
    ratio = settings['pseudo_labels.ratio']
    micro_batches = settings['optimizer.accumulation_steps']
    repeats = settings['data.repeated_augmentation']
    group = (1 + ratio) * micro_batches * repeats
    if settings['batch_size'] % group == 0:
        return ''
    parts = [f'1 + pseudo_labels.ratio = {1 + ratio}']
    if micro_batches > 1:
        parts.append(f'optimizer.accumulation_steps = {micro_batches}')
    if repeats > 1:
        parts.append(f'data.repeated_augmentation = {repeats}')
    return (
        f'batch_size is {settings["batch_size"]}, which {" x ".join(parts)} does not divide; make '
        f'--config.batch_size a multiple of {group}'
    )
