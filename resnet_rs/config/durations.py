"""Durations with a unit: '350 epochs', '1000 steps', '5000 examples'."""

import ml_collections
from absl import logging

from resnet_rs.utils.errors import UserError
from resnet_rs.utils.rules import DURATION


def to_steps(duration: str, *, batch_size: int, examples_per_epoch: int) -> int:
    """Returns the optimiser steps of `duration`, rounded to the nearest.

    350 epochs of ImageNet at batch 4096 are 109,475 steps, as in the authors' configurations.
    Raises UserError for text that is not a number and a unit.
    """
    return round(
        unrounded_steps(duration, batch_size=batch_size, examples_per_epoch=examples_per_epoch)
    )


def unrounded_steps(duration: str, *, batch_size: int, examples_per_epoch: int) -> float:
    """Returns the optimiser steps of `duration`: 2.4 epochs of ImageNet at batch 4096 are 750.68.

    Raises UserError for text that is not a number and a unit.
    """
    match = DURATION.fullmatch(str(duration))
    if not match:
        raise UserError(
            f"{duration!r} is not a duration; write a number and a unit, as in '350 epochs', "
            "'1000 steps' or '5000 examples'"
        )
    number, unit = float(match[1]), match[2]
    examples = {'epoch': examples_per_epoch, 'step': batch_size, 'example': 1}[unit] * number
    return examples / batch_size


def warmup_steps(
    config: ml_collections.ConfigDict, total_steps: int, examples_per_epoch: int
) -> int:
    """Returns the steps of optimizer.warmup; a tenth of `total_steps` if the run is too short."""
    steps = to_steps(
        config.optimizer.warmup,
        batch_size=config.batch_size,
        examples_per_epoch=examples_per_epoch,
    )
    if steps < total_steps:
        return steps
    logging.info(
        'the warm-up of %s (%d steps) is shortened to %d of the %d steps of this run',
        config.optimizer.warmup,
        steps,
        total_steps // 10,
        total_steps,
    )
    return total_steps // 10
