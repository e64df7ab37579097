"""Weights that a run reads and does not write: of a work directory or of the Hub."""

import os
from collections.abc import Sequence

import jax
import numpy as np

from resnet_rs.config import DEFAULT_EVALUATION
from resnet_rs.hub.download import is_hub_name
from resnet_rs.hub.timm_repository import describe
from resnet_rs.hub.timm_weights import read_weights
from resnet_rs.models.stacked import stack_blocks_like, unstack_blocks
from resnet_rs.run.checkpoint import NOT_EVALUATED, Checkpoints


def open_source(source: str | os.PathLike, best_by: str = DEFAULT_EVALUATION) -> Checkpoints:
    """Returns the checkpoints of a work directory, or the weights of 'hf:OWNER/NAME', to read.

    `best_by` is the evaluation by which the best checkpoint is chosen. Raises UserError where there
    are no weights.
    """
    if is_hub_name(source):
        return HubWeights(source)
    return Checkpoints(source, best_by=best_by, read_only=True)


class HubWeights(Checkpoints):
    """The weights of a repository of the Hub, as a checkpoint at step 0 that was not evaluated.

    A repository has one set of weights, which serves as the raw and as the EMA weights.
    """

    def __init__(self, source: str | os.PathLike):
        description = describe(source)
        self.directory = description.repository  # in messages
        self._variables = read_weights(description)

    def steps(self) -> list[int]:
        return [0]

    def restore_weights(self, step: int, like: dict, names: Sequence[str] = ('raw', 'ema')) -> dict:
        """Returns {name: variables} for `names`, as in a work directory."""
        stored = unstack_blocks(like)
        self._check_same_shapes(step, dict.fromkeys(names, stored))
        placed = stack_blocks_like(jax.tree.map(_place, stored, self._variables), like)
        return dict.fromkeys(names, placed)

    def __exit__(self, *exception):
        del self._variables

    def _score(self, step: int) -> float:
        return next(iter(NOT_EVALUATED.values()))

    def _stored_weights(self, step: int, names: Sequence[str]) -> dict:
        return dict.fromkeys(names, self._variables)


def _place(like, leaf: np.ndarray):
    """Returns a leaf as `like` has it: on its devices, or in the memory of the host."""
    sharding = getattr(like, 'sharding', None)
    if sharding is None:
        return leaf
    return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)
