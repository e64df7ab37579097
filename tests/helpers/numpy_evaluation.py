"""The evaluation of a split, written out in NumPy after the logits."""

from collections.abc import Callable

import jax
import numpy as np

import input_pipeline
from resnet_rs.training.networks import model_of, normalise


def results_of(
    config, variables: dict, column_of: Callable[[int], int] = int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each image of the evaluation split is right, and its loss; both [images].

    `column_of(label)` is the column of the logits that stands for a label.
    """
    apply = jax.jit(model_of(config, batch_norm_group_size=None).apply, static_argnums=2)
    right, losses = [], []
    for batch in input_pipeline.eval_batches(config):
        counted = batch['mask'] > 0
        images = normalise(jax.numpy.asarray(batch['image'][counted]), config)
        logits = np.asarray(apply(variables, images, False), np.float64)
        columns = np.array([column_of(label) for label in batch['label'][counted]])
        losses += list(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(columns)), columns])
        right += list(logits.argmax(1) == columns)
    return np.array(right), np.array(losses)
