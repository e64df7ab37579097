"""The weights in a work directory, from a run or converted, and those of the Hub."""

import os
import pathlib

import jax
import ml_collections

from resnet_rs.config.stored import write_config
from resnet_rs.hub.timm_repository import source_config
from resnet_rs.models.resnet import ResNet
from resnet_rs.run.checkpoint import Checkpoints, RunMetadata
from resnet_rs.run.source import open_source
from resnet_rs.training import WEIGHTS
from resnet_rs.training.networks import model_of, variable_shapes
from resnet_rs.utils.errors import UserError


def load_workdir(
    workdir: str | os.PathLike, weights: str, checkpoint: str = 'last', **overrides
) -> tuple[ml_collections.ConfigDict, ResNet, dict]:
    """Returns (config, network, variables) of a work directory; the variables are on one device.

    Args:
      workdir: the work directory of a run or of converted weights, or 'hf:OWNER/NAME'.
      weights: 'ema' or 'raw'.
      checkpoint: 'last', 'best' or a step.
      **overrides: settings of config.model, such as dtype='float32'.
    """
    if weights not in WEIGHTS:
        raise UserError(f'weights is {weights!r}; there are {" and ".join(WEIGHTS)}')
    config = source_config(workdir)
    model = model_of(config, batch_norm_group_size=None, scan_blocks=False, **overrides)
    # Without a sharding, weights would go to the devices of the run, which may not exist here.
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = variable_shapes(model, device)
    with open_source(workdir, config.checkpoint.best_by) as checkpoints:
        step = checkpoints.find(checkpoint)
        variables = checkpoints.restore_weights(step, like, (weights,))[weights]
    return config, model, variables


def find_step(workdir: str | os.PathLike, checkpoint: str) -> int:
    """Returns the step of the checkpoint 'last', 'best' or a step of a work directory.

    Weights of the Hub have step 0. Raises UserError for a directory without such a checkpoint.
    """
    with open_source(workdir, source_config(workdir).checkpoint.best_by) as checkpoints:
        return checkpoints.find(checkpoint)


def write_workdir(directory: pathlib.Path, config, weights: dict) -> None:
    """Writes a work directory with {'raw': variables, 'ema': variables} as its step 0."""
    write_config(directory, config)
    with Checkpoints(directory) as checkpoints:
        checkpoints.save_weights(
            weights, RunMetadata(elapsed_seconds=0.0, batch_norm_group_size=None)
        )
