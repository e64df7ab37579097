"""Parts of a split that follow from its labels: some of the classes, and few images of each.

    'train[:55000], 100 per class, seed 3'        100 images of each class, drawn by the seed
    'train[:55000] except 100 per class, seed 3'  the images of train[:55000] that it leaves

With one seed, more images of a class contain those of fewer.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from resnet_rs.utils.errors import UserError, count_of

_DRAW = re.compile(
    r'(?P<split>.+?)(?:,| (?P<rest>except)) (?P<count>\d+) per class, seed (?P<seed>\d+)'
)


@dataclasses.dataclass(frozen=True)
class Draw:
    """A draw of `per_class` images of each class by `seed`; `rest` takes the others instead."""

    per_class: int
    seed: int
    rest: bool

    def __str__(self) -> str:
        return f'{" except" if self.rest else ","} {self.per_class} per class, seed {self.seed}'


def parse(name: str) -> tuple[str, Draw | None]:
    """Returns the split of a name without its draw, and the draw, None where it has none."""
    match = _DRAW.fullmatch(name)
    if not match:
        return name, None
    draw = Draw(int(match['count']), int(match['seed']), bool(match['rest']))
    return match['split'], draw


def choose(
    labels: np.ndarray, classes: Sequence[int], names: Sequence[str], draw: Draw | None, split: str
) -> np.ndarray:
    """Returns the numbers of the examples that belong to `draw`, int64 [n], ascending.

    Args:
      labels: those of all examples of the split, int64 [examples].
      classes: the labels of the wanted examples.
      names: one per class, for messages.
      draw: None takes every example of the classes.
      split: its name, for messages.

    Raises UserError for a class with fewer images than the draw has.
    """
    if draw is None:
        return np.flatnonzero(np.isin(labels, list(classes)))
    chosen = []
    for number, name in zip(classes, names, strict=True):
        members = np.flatnonzero(labels == number)
        if len(members) < draw.per_class:
            raise UserError(
                f'class {name!r} has {count_of(len(members), "image")} in {split}, fewer than '
                f'the {draw.per_class} per class of a split; take fewer per class'
            )
        order = np.random.default_rng([draw.seed, number]).permutation(members)
        chosen.append(order[draw.per_class :] if draw.rest else order[: draw.per_class])
    return np.sort(np.concatenate(chosen))
