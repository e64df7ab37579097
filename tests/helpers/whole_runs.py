"""Runs of train_lib on the digits, small enough to repeat, and how two of them are compared."""

import json

import jax
import numpy as np
import pytest

from configs import digits
from helpers import prepared
from resnet_rs.run.checkpoint import Checkpoints
from resnet_rs.run.run_log import read_metrics


class Killed(Exception):
    """Ends a run without warning, as a kill does."""


def small_config(**settings):
    config = digits.get_config('debug').unlock()
    config.data.data_dir = prepared.data_dir('digits', 'array_record')
    config.batch_size = 16
    config.duration = '10 steps'
    config.model.dropout_rate = 0.2
    config.model.stochastic_depth_rate = 0.2
    config.model.batch_norm_group_size = 4
    config.eval.batch_size = 64
    config.eval.every = '6 steps'
    config.checkpoint.every = '3 steps'
    config.checkpoint.keep_last = 10
    config.log.every = '2 steps'
    config.update_from_flattened_dict(settings)
    return config


def without_time(workdir):
    return [
        json.dumps({k: v for k, v in line.items() if k != 'time'}) for line in read_metrics(workdir)
    ]


def assert_identical(a, b):
    """Bitwise, also where a number is not one."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def train_until_killed(config, workdir, step):
    """The run ends without warning once it has written the checkpoint of `step`."""
    import train_lib

    save = Checkpoints.save

    def save_and_end(self, state, *arguments):
        save(self, state, *arguments)
        if int(state.step) == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, 'save', save_and_end)
        with pytest.raises(Killed):
            train_lib.train_and_evaluate(config, str(workdir))
