"""Objectives: the loss of every example, as a pure function.

The step (steps.py) prepares the batch (normalised images, mixed with their partners), calls the
objective and differentiates the mean of its losses; the step also does masks, accumulation and
sums. A new way of learning is another function here.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import optax

from resnet_rs.training.mixing import mixed_over_labels

Apply = Callable[[jax.Array, dict], tuple[jax.Array, dict]]
Losses = Callable[[Apply, dict, dict, dict], tuple[jax.Array, dict, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss of each example, with the values that are reported in addition.

    values: names of the reported values, such as 'top1'.
    losses(apply, batch, rngs, frozen): returns (loss [batch], new batch statistics,
      {name in values: [batch]}). `apply(images, rngs)` runs the network in training mode and
      returns (logits, new batch statistics). `batch` holds 'image' float [batch, S, S, 3], 'label'
      int32 [batch] and, for a mixed batch, what mixing.with_partners adds. `frozen` holds arrays
      that the objective needs and the run does not change, such as the weights of a teacher.
    """

    values: tuple[str, ...]
    losses: Losses


def create_objective(config: ml_collections.ConfigDict) -> Objective:
    """Returns the objective of a configuration."""
    return supervised(config.optimizer.label_smoothing)


def supervised(label_smoothing: float) -> Objective:
    """Returns the cross entropy with the smoothed labels; mixed images have two labels."""

    def losses(apply, batch, rngs, frozen):
        logits, batch_stats = apply(batch['image'], rngs)

        def of_label(label):
            loss = smoothed_cross_entropy(logits, label, label_smoothing)
            return jnp.stack([loss, logits.argmax(-1) == label])

        loss, correct = mixed_over_labels(of_label, batch)
        return loss, batch_stats, {'top1': correct}

    return Objective(('top1',), losses)


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Returns the cross entropy [batch] with (1 - e) of the one-hot label plus e / classes of each.

    `logits` are [batch, classes], `labels` int32 [batch]; e is `smoothing`.
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)
