"""The names of the classes of a network."""

import os

from etils import epath

from resnet_rs.config.stored import CLASS_NAMES_FILE, read_class_names
from resnet_rs.datasets.imagenet_classes import imagenet_names
from resnet_rs.hub.download import is_hub_name
from resnet_rs.hub.timm_repository import describe
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
