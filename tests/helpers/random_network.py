"""A work directory with random weights, for commands that read a trained network."""

import jax
import numpy as np

from configs import digits
from helpers import prepared
from resnet_rs.models import init_variables
from resnet_rs.run.workdir import write_workdir
from resnet_rs.training.networks import model_of


def digits_config():
    """The debug configuration of the digits, with evaluation batches for eight devices."""
    config = digits.get_config('debug').unlock()
    config.data.data_dir = prepared.data_dir('digits', 'array_record')
    config.eval.batch_size = 96
    return config


def write_network(directory, seed=0):
    """A network of `digits_config`, whose raw weights are others than its EMA weights."""
    config = digits_config()
    variables = init_variables(model_of(config, batch_norm_group_size=None), 32, seed)
    random = np.random.default_rng(seed)
    ema = jax.tree.map(
        lambda leaf: leaf + 0.1 * np.abs(random.normal(size=leaf.shape)).astype(leaf.dtype),
        variables,
    )
    write_workdir(directory, config, {'raw': variables, 'ema': ema})
    (directory / 'class_names.txt').write_text(''.join(f'{number}\n' for number in range(10)))
    return directory
