"""Loading of the weights in a work directory, from a run or converted."""

import os

import jax
import ml_collections

from resnet_rs.config.stored import stored_config_of
from resnet_rs.models.resnet import ResNet
from resnet_rs.run.checkpoint import Checkpoints
from resnet_rs.training import WEIGHTS
from resnet_rs.training.networks import model_of, variable_shapes
from resnet_rs.utils.errors import UserError


def load_workdir(
    workdir: str | os.PathLike, weights: str, checkpoint: str = 'last', **overrides
) -> tuple[ml_collections.ConfigDict, ResNet, dict]:
    """Returns (config, network, variables) of a work directory; the variables are on one device.

    Args:
      workdir: the work directory of a run or of converted weights.
      weights: 'ema' or 'raw'.
      checkpoint: 'last', 'best' or a step.
      **overrides: settings of config.model, such as dtype='float32'.
    """
    if weights not in WEIGHTS:
        raise UserError(f'weights is {weights!r}; there are {" and ".join(WEIGHTS)}')
    config = stored_config_of(workdir)
    model = model_of(config, batch_norm_group_size=None, scan_blocks=False, **overrides)
    # Without a sharding, weights would go to the devices of the run, which may not exist here.
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = variable_shapes(model, device)
    with Checkpoints(workdir, best_by=config.checkpoint.best_by, read_only=True) as checkpoints:
        step = checkpoints.find(checkpoint)
        variables = checkpoints.restore_weights(step, like, (weights,))[weights]
    return config, model, variables


def find_step(workdir: str | os.PathLike, checkpoint: str) -> int:
    """Returns the step of the checkpoint 'last', 'best' or a step of a work directory.

    Raises UserError for a directory without such a checkpoint.
    """
    best_by = stored_config_of(workdir).checkpoint.best_by
    with Checkpoints(workdir, best_by=best_by, read_only=True) as checkpoints:
        return checkpoints.find(checkpoint)
