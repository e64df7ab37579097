"""The teacher's own crop of each training image, at another resolution than the student's."""

from collections.abc import Mapping
from typing import Any

import ml_collections


def second_size(config: ml_collections.ConfigDict) -> int:
    """Returns the side in pixels of the teacher's crop; 0 where it sees the student's pixels."""
    return config.distillation.image_size if config.distillation.second_crop else 0


def conflict(settings: Mapping[str, Any]) -> str:
    """Returns why there can be no second crop, or ''; a relation of the table."""
    if not settings['distillation.second_crop']:
        return ''
    start = 'distillation.second_crop is True, but '
    if settings['objective'] != 'distillation':
        return (
            f'{start}objective is {settings["objective"]!r}, which has no teacher; use '
            '--config.distillation.second_crop=False'
        )
    if not settings['distillation.image_size']:
        return (
            f"{start}distillation.image_size is 0; give the side of the teacher's crop with "
            '--config.distillation.image_size'
        )
    for name, off in (('data.augment', 'none'), ('data.cutmix_alpha', 0)):
        if settings[name] != off:
            return (
                f'{start}{name} is {settings[name]!r}, which would change both crops differently; '
                f'use --config.{name}={off}'
            )
    return ''
