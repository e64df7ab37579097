"""The names of the classes of a network, and whether data have the same classes."""

import os
from collections.abc import Sequence

from etils import epath

from resnet_rs.config.stored import CLASS_NAMES_FILE, read_class_names
from resnet_rs.datasets.imagenet_classes import imagenet_names
from resnet_rs.datasets.splits import DatasetInfo
from resnet_rs.hub.download import is_hub_name
from resnet_rs.hub.timm_repository import describe
from resnet_rs.training.transfer import are_comparable
from resnet_rs.utils.errors import UserError, count_of


def stored_class_names(workdir: str | os.PathLike, num_classes: int) -> tuple[str, ...]:
    """Returns the names of the classes of the network in `workdir`, or () if they are unknown.

    The names are those of the training run (class_names.txt), or of the Hub's repository if
    `workdir` is 'hf:OWNER/NAME', else the synsets of ImageNet for 1000 classes. Raises UserError
    for a class_names.txt with another number of classes.
    """
    if is_hub_name(workdir):
        return describe(workdir).class_names
    path = epath.Path(workdir) / CLASS_NAMES_FILE
    if path.exists():
        names = tuple(read_class_names(workdir))
        if len(names) != num_classes:
            raise UserError(
                f'{path} has {count_of(len(names), "name")}, but the network has '
                f'{count_of(num_classes, "class")}; correct the file or remove it'
            )
        return names
    known = tuple(imagenet_names())
    return known if num_classes == len(known) else ()


def class_names(workdir: str | os.PathLike, num_classes: int) -> list[str]:
    """Returns a readable name for each class of the network in `workdir`.

    The names are those of `stored_class_names`, with words added to ImageNet's synsets, else
    numbers. Raises UserError for a class_names.txt with another number of classes.
    """
    names = stored_class_names(workdir, num_classes)
    known = imagenet_names()
    return [f'{name} {known[name]}' if name in known else name for name in names] or [
        f'class {number}' for number in range(num_classes)
    ]


def check_class_count(info: DatasetInfo, number: int, where: str) -> None:
    """Raises UserError unless the dataset has as many classes as `where`, which has `number`."""
    if info.num_classes != number:
        raise UserError(
            f'{where} has {count_of(number, "class")}, but {info.name} has '
            f'{info.num_classes}; evaluate it on data of its own classes'
        )


def check_class_order(info: DatasetInfo, workdir: str | os.PathLike) -> None:
    """Raises UserError if classes or their order differ between the dataset and the run."""
    path = epath.Path(workdir) / CLASS_NAMES_FILE
    check_same_classes(info, read_class_names(workdir), f'{path} of the network')


def check_same_classes(
    info: DatasetInfo,
    names: Sequence[str],
    where: str,
    *,
    remedy: str = 'evaluate it on data of its own classes',
    consequence: str = 'the network would be scored against wrong labels',
) -> None:
    """Raises UserError where the dataset has other classes than `names`, or another order.

    `where` says whose names they are. Classes that are only numbers in either of them (folders of
    ImageNet-V2) cannot be compared.
    """
    if not are_comparable(names, info.class_names):
        return
    lacking = [name for name in names if name not in info.class_names]
    unknown = [name for name in info.class_names if name not in names]
    if lacking or unknown:
        differences = [f'lacks class {name!r}' for name in lacking[:1]]
        differences += [f'has class {name!r}' for name in unknown[:1]]
        raise UserError(f'{info.name} {" and ".join(differences)}, other than {where}; {remedy}')
    for number, (trained, here) in enumerate(zip(names, info.class_names, strict=False)):
        if trained != here:
            raise UserError(
                f'class {number} is {trained!r} in {where}, but {here!r} in {info.name}: '
                f'{consequence}; name or order the classes alike'
            )
