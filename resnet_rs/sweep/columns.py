"""The columns of the table of results that follow from a run's configuration."""

import functools
import hashlib
import json
import re

import ml_collections

from resnet_rs.config import experiment_settings
from resnet_rs.utils.rules import DURATION


def depth_of(config: ml_collections.ConfigDict) -> int | None:
    """Returns the depth in a network's name, 50 for resnet_3d_50; None for efficientnet_b0."""
    number = re.search(r'_(\d+)(?!\d|d_)', config.model.name)
    return int(number[1]) if number else None


def epochs_of(config: ml_collections.ConfigDict) -> float | None:
    number, unit = DURATION.fullmatch(config.duration).groups()[:2]
    return float(number) if unit == 'epoch' else None


def cost_of(config: ml_collections.ConfigDict) -> tuple[int, int]:
    """Returns (parameters, multiply-adds of one training image or clip)."""
    model = json.dumps(config.model.to_dict())
    return _cost(model, config.data.image_size, config.data.frames)


@functools.cache
def _cost(model: str, image_size: int, frames: int) -> tuple[int, int]:
    from resnet_rs.models.cost import count_cost
    from resnet_rs.training.networks import model_of

    config = ml_collections.ConfigDict({'model': json.loads(model)})
    cost = count_cost(model_of(config, batch_norm_group_size=None), image_size, frames)
    return cost.parameters, cost.multiply_adds


def settings_digest(config: ml_collections.ConfigDict) -> str:
    """Returns twelve hexadecimal digits that all runs of an experiment share."""
    settings = json.dumps(experiment_settings(config), sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:12]
