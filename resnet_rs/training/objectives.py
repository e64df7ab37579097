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

from resnet_rs.config import mixture
from resnet_rs.training.mixing import mixed_over_labels
from resnet_rs.training.teacher import Teacher, create_teacher

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
    frozen: the shapes and dtypes of those arrays.
    counts: {value: the value that counts its examples}; the mean of a value that is not here is
      over all examples. The counts themselves are reported as sums.
    """

    values: tuple[str, ...]
    losses: Losses
    frozen: dict = dataclasses.field(default_factory=dict)
    counts: dict[str, str] = dataclasses.field(default_factory=dict)


def create_objective(config: ml_collections.ConfigDict) -> Objective:
    """Returns the objective of a configuration.

    Raises UserError for a distillation whose teacher's directory holds no network.
    """
    smoothing, classes = config.optimizer.label_smoothing, config.model.num_classes
    if config.optimizer.label_smoothing_over == 'other_classes':
        smoothing *= classes / max(classes - 1, 1)  # a class's share is then e / (classes - 1)
    if config.objective == 'distillation':
        return distilled(config.distillation, smoothing, create_teacher(config))
    if mixture.has_pseudo_labels(config):
        return pseudo_labelled(config.pseudo_labels, smoothing)
    return supervised(smoothing)


def supervised(label_smoothing: float) -> Objective:
    """Returns the cross entropy with the smoothed labels; mixed images have two labels."""

    def losses(apply, batch, rngs, frozen):
        logits, batch_stats = apply(batch['image'], rngs)
        loss, correct = _of_labels(logits, batch, label_smoothing)
        return loss, batch_stats, {'top1': correct}

    return Objective(('top1',), losses)


def distilled(
    settings: ml_collections.ConfigDict, label_smoothing: float, teacher: Teacher
) -> Objective:
    """Returns label_weight * (loss of the labels) + (1 - label_weight) * (loss of the teacher).

    `settings` are config.distillation. The loss of the labels is that of `supervised`; the loss of
    the teacher is `teacher_loss`. The teacher sees the student's images, or 'teacher_image', its
    own crops of them. `frozen['teacher']` holds its variables.

    The values are the two losses, the top-1 of student and teacher on the training images, how
    often their predictions agree, and the entropy of the teacher's probabilities at the
    temperature, in nats, which is not finite where its logits are not.
    """
    temperature, weight = settings.temperature, settings.label_weight

    def losses(apply, batch, rngs, frozen):
        logits, batch_stats = apply(batch['image'], rngs)
        target = teacher.logits(frozen['teacher'], batch.get('teacher_image', batch['image']))
        of_labels, correct = _of_labels(logits, batch, label_smoothing)
        of_teacher = teacher_loss(logits, target, settings.form, temperature)
        predicted = target.argmax(-1)
        values = {
            'top1': correct,
            'label_loss': of_labels,
            'teacher_loss': of_teacher,
            'teacher_top1': mixed_over_labels(lambda label: predicted == label, batch),
            'teacher_agreement': logits.argmax(-1) == predicted,
            'teacher_entropy': entropy(target / temperature),
        }
        return weight * of_labels + (1 - weight) * of_teacher, batch_stats, values

    names = ('top1', 'label_loss', 'teacher_loss', 'teacher_top1', 'teacher_agreement')
    return Objective((*names, 'teacher_entropy'), losses, {'teacher': teacher.shapes()})


def pseudo_labelled(settings: ml_collections.ConfigDict, label_smoothing: float) -> Objective:
    """Returns the cross entropy with labels and, of other images, with pseudo-labels.

    `settings` are config.pseudo_labels. A batch has what datasets.sources adds. As in Noisy
    Student's code, labels and hard pseudo-labels are smoothed and soft ones are not.

    The values are the number of images of each kind, and loss and top-1 over them; the top-1 of
    pseudo-labelled images compares with the teacher's prediction.
    """
    names = ('label', 'is_pseudo', 'target') if settings.form == 'soft' else ('label', 'is_pseudo')
    # The mean over all images times 1 + ratio is the sum over the number of labelled images.
    scale = 1 + settings.ratio if settings.normalise_by == 'labelled_images' else 1

    def losses(apply, batch, rngs, frozen):
        logits, batch_stats = apply(batch['image'], rngs)

        def of_label(label, is_pseudo, target=None):
            loss = smoothed_cross_entropy(logits, label, label_smoothing)
            if target is not None:
                loss = jnp.where(is_pseudo, optax.softmax_cross_entropy(logits, target), loss)
            return jnp.stack([loss, logits.argmax(-1) == label])

        loss, correct = mixed_over_labels(of_label, batch, *names[1:])
        pseudo = batch['is_pseudo'].astype(loss.dtype)
        kinds = {'labelled': 1 - pseudo, 'pseudo': pseudo}
        values = {}
        for kind, is_kind in kinds.items():
            values |= {
                f'{kind}_images': is_kind,
                f'{kind}_loss': is_kind * loss,
                f'{kind}_top1': is_kind * correct,
            }
        return scale * loss, batch_stats, {'top1': correct} | values

    kinds = ('labelled', 'pseudo')
    counts = {f'{kind}_{name}': f'{kind}_images' for kind in kinds for name in ('loss', 'top1')}
    values = ('top1', *(f'{kind}_{name}' for kind in kinds for name in ('images', 'loss', 'top1')))
    return Objective(values, losses, counts=counts)


def teacher_loss(
    logits: jax.Array, target: jax.Array, form: str, temperature: float = 1.0
) -> jax.Array:
    """Returns how far the student's `logits` [batch, classes] are from the teacher's, [batch].

    Args:
      logits, target: the logits of student and teacher, [batch, classes].
      form: 'cross_entropy' and 'kl' take the teacher's probabilities p and the student's q, both of
        logits divided by the temperature T: -T^2 sum p log q (He et al. 2018, section 5.2;
        GluonCV) and T^2 sum p log(p / q) (Beyer et al. 2021), which differ by T^2 times the
        entropy of p and have the same gradient. 'hard' is the cross entropy with the teacher's
        prediction as the label (Touvron et al. 2020, DeiT).
      temperature: T. The square keeps the size of the gradient (Hinton et al. 2015).
    """
    if form == 'hard':
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, target.argmax(-1))
        # argmax gives a class for NaN too.
        return jnp.where(jnp.isfinite(target).all(-1), loss, jnp.nan)
    probabilities = jax.nn.softmax(target / temperature)
    loss = -(probabilities * jax.nn.log_softmax(logits / temperature)).sum(-1)
    if form == 'kl':
        loss -= entropy(target / temperature)
    return temperature**2 * loss


def entropy(logits: jax.Array) -> jax.Array:
    """Returns the entropy [batch] in nats of the probabilities of `logits` [batch, classes]."""
    return -(jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum(-1)


def _of_labels(logits, batch, label_smoothing):
    """Returns loss and correctness [2, batch], shared between the labels of a mixed image."""

    def of_label(label):
        loss = smoothed_cross_entropy(logits, label, label_smoothing)
        return jnp.stack([loss, logits.argmax(-1) == label])

    return mixed_over_labels(of_label, batch)


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Returns the cross entropy [batch] with (1 - e) of the one-hot label plus e / classes of each.

    `logits` are [batch, classes], `labels` int32 [batch]; e is `smoothing`.
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)
