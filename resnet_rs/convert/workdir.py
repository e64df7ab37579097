"""The configuration of a work directory of converted weights."""

import pathlib
import re

import ml_collections

from resnet_rs.config import SETTINGS, default_config
from resnet_rs.convert.image_sizes import CLIPS_IMAGE_SIZE, IMAGE_SIZES, OTHER_IMAGE_SIZE
from resnet_rs.convert.resnest import evaluation_settings
from resnet_rs.convert.weights import Network
from resnet_rs.models.families import family_of
from resnet_rs.utils.errors import UserError


def choose_image_size(
    path: pathlib.Path, network: Network, chosen: int | None = None
) -> tuple[int, str]:
    """Returns (pixels, reason): `chosen`, 'i160' in the path's last two parts, or the default.

    Raises UserError for a size in the path that no configuration takes.
    """
    if chosen:
        return chosen, 'from --image_size'
    for part in reversed(path.absolute().parts[-2:]):
        if match := re.search(r'(?<![a-zA-Z0-9])i(\d{2,4})(?![0-9])', part):
            size, rule = int(match[1]), SETTINGS['data.image_size'].rule
            if not rule.allows(size):
                raise UserError(
                    f'the name {part!r} gives an image size of {size}, but data.image_size takes '
                    f'{rule.takes}; name the size with --image_size'
                )
            return size, "from the file's name"
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
