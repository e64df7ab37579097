"""Durations with a unit: '350 epochs', '1000 steps', '5000 examples'."""

import ml_collections

from resnet_rs.errors import UserError
from resnet_rs.rules import DURATION


def to_steps(duration: str, *, batch_size: int, examples_per_epoch: int) -> int:
    """Returns the optimiser steps of `duration`, rounded to the nearest.

    350 epochs of ImageNet at batch 4096 are 109,475 steps, as in the authors' configurations.
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
    return round(examples / batch_size)


def warmup_steps(
    config: ml_collections.ConfigDict, total_steps: int, examples_per_epoch: int
) -> int:
    """Returns the steps of optimizer.warmup, a tenth of the run where that would not be over."""
    steps = to_steps(
        config.optimizer.warmup, batch_size=config.batch_size,
        examples_per_epoch=examples_per_epoch,
    )
    return steps if steps < total_steps else total_steps // 10
