"""Parts of a split that follow from its labels: some of the classes, and few images of each.

    'train[:55000], 100 per class, seed 3'        100 images of each class, drawn by the seed
    'train[:55000] except 100 per class, seed 3'  the images of train[:55000] that it leaves

With one seed, more images of a class contain those of fewer.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from resnet_rs.utils.errors import UserError, count_of

if TYPE_CHECKING:
    from resnet_rs.datasets.splits import DatasetInfo, SplitInfo

_DRAW = re.compile(
    r'(?P<split>.+?)(?:,| (?P<rest>except)) (?P<count>\d+) per class, seed (?P<seed>\d+)'
)
_READ_AT_ONCE = 4096  # records


@dataclasses.dataclass(frozen=True)
class Draw:
    """A draw of `per_class` images of each class by `seed`; `rest` takes the others instead."""

    per_class: int
    seed: int
    rest: bool


def parse(name: str) -> tuple[str, Draw | None]:
    """Returns the split of a name without its draw, and the draw, None where it has none."""
    match = _DRAW.fullmatch(name)
    if not match:
        return name, None
    draw = Draw(int(match['count']), int(match['seed']), bool(match['rest']))
    return match['split'], draw


def select(split: 'SplitInfo', info: 'DatasetInfo', draw: Draw | None) -> 'SplitInfo':
    """Returns the examples of `split` that have the classes of `info` and belong to `draw`.

    They keep their order and are numbered anew. Raises UserError for a class with fewer images
    than the draw has, for no image, and for a set whose images have several right labels.
    """
    if split.label_set_feature:
        raise UserError(
            f'{info.name} has sets of labels ({split.label_set_feature}), so its images have no '
            'one class to choose them by; use whole splits and all classes'
        )
    kept = _chosen(split, info.file_format, info.classes, info.class_names, draw)
    name = split.name if draw is None else f'{split.name}{_text(draw)}'
    if not len(kept):
        raise UserError(f'split {name!r} of {info.name} holds no example; take another part')
    found = dataclasses.replace(split, name=name, num_examples=len(kept))
    if not split.images:
        return dataclasses.replace(found, records=tuple(kept.tolist()), classes=info.classes)
    numbers = {old: new for new, old in enumerate(info.classes)}
    labels = [split.labels[number] for number in kept]
    return dataclasses.replace(
        found,
        images=tuple(split.images[number] for number in kept),
        labels=tuple(numbers.get(label, label) for label in labels),
    )


@functools.lru_cache(maxsize=16)
def _chosen(
    split: 'SplitInfo',
    file_format: str,
    classes: tuple[int, ...],
    class_names: Sequence[str],
    draw: Draw | None,
) -> np.ndarray:
    """Returns the numbers of the chosen examples in `split`, int64 [n], ascending."""
    labels = read_labels(split, file_format)
    classes = classes or range(len(class_names))
    if draw is None:
        return np.flatnonzero(np.isin(labels, list(classes)))
    chosen = []
    for number, name in zip(classes, class_names, strict=True):
        members = np.flatnonzero(labels == number)
        if len(members) < draw.per_class:
            raise UserError(
                f'class {name!r} has {count_of(len(members), "image")} in {split.name}, fewer than '
                f'the {draw.per_class} per class of a split; take fewer per class'
            )
        order = np.random.default_rng([draw.seed, number]).permutation(members)
        chosen.append(order[draw.per_class :] if draw.rest else order[: draw.per_class])
    return np.sort(np.concatenate(chosen))


@functools.lru_cache(maxsize=4)
def read_labels(split: 'SplitInfo', file_format: str) -> np.ndarray:
    """Returns the labels of a split in its order, int64 [examples]; decodes no image."""
    if split.images:
        return np.array(split.labels, np.int64)
    from resnet_rs.utils.platforms import import_tensorflow

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


def _text(draw: Draw) -> str:
    return f'{" except" if draw.rest else ","} {draw.per_class} per class, seed {draw.seed}'
