"""Work directories made of converted weights."""

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

import ml_collections

from resnet_rs.config import default_config
from resnet_rs.config.stored import write_config
from resnet_rs.convert.resnest import evaluation_settings
from resnet_rs.convert.weights import Network
from resnet_rs.models.families import family_of
from resnet_rs.run.checkpoint import Checkpoints, Run
from resnet_rs.utils.errors import UserError

# Resolution of timm's released weights by depth and of the authors of ResNeSt and EfficientNet, for
# files whose name does not contain it.
IMAGE_SIZES = {
    'resnet_rs_50': 160,
    'resnet_rs_101': 192,
    'resnet_rs_152': 256,
    'resnet_rs_200': 256,
    'resnet_rs_270': 256,
    'resnet_rs_350': 256,
    'resnet_rs_420': 320,
    'resnest_101': 256,
    'resnest_200': 320,
    'resnest_269': 416,
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
CLIPS_IMAGE_SIZE = 256  # of the thirty views of Model Garden


def choose_image_size(path: pathlib.Path, network: Network) -> tuple[int, str]:
    """Returns (pixels, reason): 'i160' in the last two parts of the path, else the default."""
    for part in reversed(path.absolute().parts[-2:]):
        if match := re.search(r'(?<![a-zA-Z0-9])i(\d{2,4})(?![0-9])', part):
            return int(match[1]), "from the file's name"
    other = CLIPS_IMAGE_SIZE if family_of(network.name).clips else OTHER_IMAGE_SIZE
    size = IMAGE_SIZES.get(network.name, other)
    return size, f'the default of {network.name}; --image_size sets another'


def network_config(network: Network, image_size: int, data: dict) -> ml_collections.ConfigDict:
    """Returns the configuration that builds and evaluates `network`; `data` updates config.data."""
    config = default_config()
    config.model.update(
        {'name': network.name, 'num_classes': network.num_classes, **network.settings}
    )
    config.data.update({'image_size': image_size, **evaluation_settings(network.name), **data})
    return config


def write_workdir(directory: pathlib.Path, config, weights: dict) -> None:
    """Writes a work directory with `weights` as its checkpoint at step 0."""
    write_config(directory, config)
    with Checkpoints(directory) as checkpoints:
        checkpoints.save_weights(weights, Run(elapsed_seconds=0.0, batch_norm_group_size=None))


def check_absent(output: pathlib.Path) -> None:
    """Raises UserError if `output` exists."""
    if output.exists() or output.is_symlink():
        raise UserError(f'{output} exists already; give another --output')


@contextlib.contextmanager
def created_whole(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path next to `output`; renames it to `output`, or removes it after an error."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f'.{output.name}.partial-{os.getpid()}')
    try:
        yield partial
        partial.rename(output)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)
