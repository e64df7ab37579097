"""The part of a stored network that a network for other data starts with."""

import dataclasses
from collections.abc import Sequence

from resnet_rs.config.stored import CLASS_NAMES_FILE
from resnet_rs.utils.errors import count_of


@dataclasses.dataclass(frozen=True)
class HeadTransfer:
    """The part of a stored classifier that a network for other data starts with.

    columns: for each class of the data its column in the stored classifier; None for a new one.
    described: in words, for the log.
    """

    columns: tuple[int, ...] | None
    described: str


def transfer_head(
    stored: Sequence[str], stored_number: int, names: Sequence[str], *, same_dataset: bool = False
) -> HeadTransfer:
    """Returns which columns of a classifier for `stored_number` classes belong to the classes
    `names`.

    `stored` are the names of its classes, empty where they are not known. All columns are taken,
    in the order of `names`, or none. Names that are only numbers, as in sets of digits, tell
    nothing; `same_dataset` says that both sides nevertheless number the same classes.
    """
    if stored_number != len(names):
        return HeadTransfer(
            None,
            f'with a new head: the source has {count_of(stored_number, "class")}, not {len(names)}',
        )
    if not stored:
        return HeadTransfer(
            None,
            f'with a new head: the source has no {CLASS_NAMES_FILE}; to keep its head, write '
            'the names of its classes there, one a line in the order of the classifier',
        )
    is_numbered = not are_comparable(stored, names)
    if tuple(stored) == tuple(names) and (same_dataset or not is_numbered):
        return HeadTransfer(tuple(range(len(names))), 'with its head')
    if is_numbered:
        which = 'the data' if are_comparable(stored) else 'the source'
        return HeadTransfer(
            None,
            f'with a new head: the classes of {which} have numbers for names, which do not '
            'say whether they are the same classes',
        )
    if unknown := sorted(set(names) - set(stored)):
        return HeadTransfer(
            None, f'with a new head: class {unknown[0]!r} is not among the classes of the source'
        )
    return HeadTransfer(
        tuple(map(list(stored).index, names)),
        'with its head, its columns put in the order of these classes',
    )


def are_comparable(*sides: Sequence[str]) -> bool:
    """Returns whether each side names its classes; numbers alone, as of ImageNet-V2, do not."""
    return not any(all(map(str.isdecimal, side)) for side in sides)
