"""The transfer of a stored network's classifier to other classes."""

import dataclasses
from collections.abc import Sequence

from resnet_rs.config.stored import CLASS_NAMES_FILE
from resnet_rs.utils.errors import count_of


@dataclasses.dataclass(frozen=True)
class HeadTransfer:
    """The columns of a stored classifier with which a network for other data starts.

    columns: for each class of the data its column in the stored classifier; None for a new head.
    described: the choice in words, for the log.
    """

    columns: tuple[int, ...] | None
    described: str


def transfer_head(
    stored: Sequence[str], stored_number: int, names: Sequence[str], *, same_dataset: bool = False
) -> HeadTransfer:
    """Returns the columns of a classifier with `stored_number` classes for the classes `names`.

    `stored` are the names of the classifier's classes, empty if they are unknown. The result has
    all columns, in the order of `names`, or none. Names that are only numbers, as in sets of
    digits, cannot be compared; `same_dataset` says that both sides number the same classes.
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
        why = ': names that are only numbers mean the same classes, as the dataset is the same'
        return HeadTransfer(tuple(range(len(names))), f'with its head{why if is_numbered else ""}')
    if is_numbered:
        which = 'the data' if are_comparable(stored) else 'the source'
        return HeadTransfer(
            None,
            f'with a new head: the classes of {which} have only numbers as names, which do not '
            'show whether they are the same classes; to keep the head, name them on both sides',
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
