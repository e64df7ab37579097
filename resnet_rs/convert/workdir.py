"""Weights in and out of a work directory."""

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

import ml_collections

from resnet_rs.config import default_config
from resnet_rs.config.stored import write_config
from resnet_rs.convert.weights import Network
from resnet_rs.run.checkpoint import Checkpoints, Run
from resnet_rs.utils.errors import UserError

# Where the file's name does not tell: the resolution of timm's released weights of that depth,
# and of EfficientNet's authors.
IMAGE_SIZES = {
    'resnet_rs_50': 160,
    'resnet_rs_101': 192,
    'resnet_rs_152': 256,
    'resnet_rs_200': 256,
    'resnet_rs_270': 256,
    'resnet_rs_350': 256,
    'resnet_rs_420': 320,
    'efficientnet_b0': 224,
    'efficientnet_b1': 240,
    'efficientnet_b2': 260,
    'efficientnet_b3': 300,
    'efficientnet_b4': 380,
    'efficientnet_b5': 456,
    'efficientnet_b6': 528,
    'efficientnet_b7': 600,
    'efficientnet_b8': 672,
    'efficientnet_l2': 800,
}
OTHER_IMAGE_SIZE = 224


def choose_image_size(path: pathlib.Path, network: Network) -> tuple[int, str]:
    """(pixels, why): from 'i160' in the last two parts of the path, else the network's default."""
    for part in reversed(path.absolute().parts[-2:]):
        if match := re.search(r'(?<![a-zA-Z0-9])i(\d{2,4})(?![0-9])', part):
            return int(match[1]), 'as the name of the file says'
    size = IMAGE_SIZES.get(network.name, OTHER_IMAGE_SIZE)
    return size, f'the default of {network.name}; --image_size sets another'


def network_config(network: Network, image_size: int, data: dict) -> ml_collections.ConfigDict:
    """The configuration that builds and evaluates `network`; `data` updates config.data."""
    config = default_config()
    config.model.update(
        {'name': network.name, 'num_classes': network.num_classes, **network.settings}
    )
    config.data.update({'image_size': image_size, **data})
    return config


def write_workdir(directory: pathlib.Path, config, weights: dict) -> None:
    """A work directory with `weights` as its checkpoint at step 0."""
    write_config(directory, config)
    with Checkpoints(directory) as checkpoints:
        run = Run(seed=config.seed, elapsed_seconds=0.0, batch_norm_group_size=None)
        checkpoints.save_weights(weights, run)


def check_absent(output: pathlib.Path) -> None:
    """Raises UserError if `output` is there already."""
    if output.exists() or output.is_symlink():
        raise UserError(f'{output} exists already; give another --output')


@contextlib.contextmanager
def created_whole(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path beside `output` to write to; renamed to `output` if all goes well, else removed."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f'.{output.name}.partial-{os.getpid()}')
    try:
        yield partial
        partial.rename(output)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)
