"""The composition of a training batch from a labelled and a pseudo-labelled source.

A batch consists of groups: with A micro-batches and a ratio r, A labelled images and then A r
pseudo-labelled ones. So every micro-batch, which is every A-th image, and every device whose part
is a number of groups has both kinds in the same ratio.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from resnet_rs.config import relations
from resnet_rs.config.setting import Change, Setting
from resnet_rs.utils.rules import choice, number, text, whole

OBJECTIVE = 'pseudo_labels'


def has_pseudo_labels(config: ml_collections.ConfigDict) -> bool:
    """Returns whether a run of `config` learns from pseudo-labels."""
    return config.objective == OBJECTIVE


def group_sizes(config: ml_collections.ConfigDict) -> tuple[int, int]:
    """Returns the labelled and the pseudo-labelled images of a group."""
    micro_batches = config.optimizer.accumulation_steps
    return micro_batches, micro_batches * config.pseudo_labels.ratio


def images_per_epoch(config: ml_collections.ConfigDict, examples: int) -> int:
    """Returns the number of images in an epoch, which has each of the labelled `examples` once.

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


# The settings of pseudo-labels, for the table in table.py.
OF_PSEUDO_LABELS = {
    'pseudo_labels.file': Setting(
        '', text(), 'file of resnet_rs.pseudo_label; empty: none', Change.HOST),
    'pseudo_labels.data_dir': Setting(
        '', text(), 'directory of the images that the file has labels of; empty: data.data_dir',
        Change.HOST),
    'pseudo_labels.ratio': Setting(
        1, whole(1, 1000), 'pseudo-labelled images for each labelled one in a batch',
        relation=conflict),
    'pseudo_labels.form': Setting(
        'soft', choice('soft', 'hard'),
        "soft: the target is the teacher's distribution; hard: its prediction is a label, with "
        'label smoothing'),
    'pseudo_labels.temperature': Setting(
        1.0, number(0, above=True), 'T of soft labels: p^(1/T), normalised',
        relation=relations.pseudo_label_temperature),
    'pseudo_labels.least_confidence': Setting(
        0.0, number(0, 1), 'least probability of a prediction that is learnt from'),
    'pseudo_labels.per_class': Setting(
        0, whole(0), 'images of each predicted class: the most confident ones, or copies where '
        'there are fewer; 0: all images'),
    'pseudo_labels.normalise_by': Setting(
        'all_images', choice('all_images', 'labelled_images'),
        "divisor of the summed loss; labelled_images, as in Noisy Student's code: the mean over "
        'labelled images plus ratio times the mean over pseudo-labelled ones'),
}  # fmt: skip
