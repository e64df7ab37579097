"""What the classes of a network are called."""

import functools
import os
import pathlib

from etils import epath

from resnet_rs.errors import UserError
from resnet_rs.stored_config import CLASS_NAMES_FILE, read_class_names

IMAGENET_FILE = pathlib.Path(__file__).with_name('imagenet_classes.txt')


@functools.cache
def imagenet_names() -> dict[str, str]:
    """{WordNet synset: names} of the 1000 classes of ImageNet 2012, in label order."""
    lines = IMAGENET_FILE.read_text().splitlines()
    return dict(line.split('\t') for line in lines if not line.startswith('#'))


def class_names(workdir: str | os.PathLike, num_classes: int) -> list[str]:
    """One name per class of the network in `workdir`.

    They come from the training run (class_names.txt), else are those of ImageNet for 1000
    classes, else numbers. Synsets of ImageNet are followed by their names. Raises UserError for
    a class_names.txt of another number of classes.
    """
    path = epath.Path(workdir) / CLASS_NAMES_FILE
    if path.exists():
        names = read_class_names(workdir)
        if len(names) != num_classes:
            raise UserError(f'{path} has {len(names)} names, but the network tells {num_classes} '
                            'classes apart; mend the file or remove it')
    elif num_classes == len(imagenet_names()):
        names = list(imagenet_names())
    else:
        names = [f'class {number}' for number in range(num_classes)]
    known = imagenet_names()
    return [f'{name} {known[name]}' if name in known else name for name in names]
