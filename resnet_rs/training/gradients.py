"""The gradients of a global batch: mixing, masks, micro-batches and sums around an objective."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from resnet_rs.training.mixing import IMAGES, is_mixed, mix_images, with_partners
from resnet_rs.training.networks import normalise
from resnet_rs.training.objectives import Objective
from resnet_rs.training.state import TrainState
from resnet_rs.training.trainable import (
    Phase,
    keep_statistics,
    merge,
    running_frozen_modules_in_evaluation,
    select,
)

RANDOM_STREAMS = ('dropout', 'stochastic_depth')
MIXING = 2**30  # fold_in constant of mixup and CutMix, larger than any number of micro-batches


def create_gradients(
    config: ml_collections.ConfigDict,
    model: nn.Module,
    objective: Objective,
    phase: Phase,
    place: Callable,
) -> Callable:
    """Returns a function of (state, batch, frozen), the arguments of a training step.

    It returns the gradients of the mean loss with respect to the parameters that learn in `phase`,
    the new batch statistics, and the sums of the loss and of the objective's values.

    With accumulation_steps A, micro-batch k takes the examples k, k + A, k + 2 A and so on, so that
    each device holds an equal part of it. Batch statistics are the mean over micro-batches. `place`
    constrains the sharding of the gradients of each.
    """
    micro_batches = config.optimizer.accumulation_steps

    def images_of(name: str, part: dict) -> jax.Array:
        """Returns normalised images of a micro-batch, mixed with their partners."""
        images = normalise(part[name], config)
        if not is_mixed(config):
            return images
        return mix_images(images, normalise(part[f'partner_{name}'], config), part)

    def gradients_of(state: TrainState, batch: dict, frozen: dict) -> tuple[dict, dict, dict]:
        examples = batch['mask'].sum()
        rng = jax.random.fold_in(jax.random.key(state.seed), state.step)
        if config.data.corrupt_images == 'skip':
            batch = batch | {
                name: replace_skipped(batch[name], batch['mask'])
                for name in IMAGES
                if name in batch
            }
        if is_mixed(config):
            batch = with_partners(batch, config, jax.random.fold_in(rng, MIXING))

        def loss_and_sums(learning, part, index):
            rngs = {
                name: jax.random.fold_in(jax.random.fold_in(rng, index), stream)
                for stream, name in enumerate(RANDOM_STREAMS)
            }
            variables = state.variables | {'params': merge(state.variables['params'], learning)}
            images = {name: images_of(name, part) for name in IMAGES if name in part}

            def apply(images, rngs):
                with running_frozen_modules_in_evaluation(phase):
                    logits, updated = model.apply(
                        variables, images, True, rngs=rngs, mutable=['batch_stats']
                    )
                return logits, updated['batch_stats']

            losses, batch_stats, values = objective.losses(apply, part | images, rngs, frozen)
            names = ('loss', *objective.values)
            of_examples = jnp.stack([losses, *(values[name] for name in objective.values)])
            sums = dict(zip(names, (of_examples * part['mask']).sum(-1), strict=True))
            loss = sums['loss'] / jnp.maximum(examples, 1)
            return loss, (batch_stats, sums | {'examples': part['mask'].sum()})

        def one_micro_batch(part, index):
            differentiate = jax.grad(loss_and_sums, has_aux=True)
            learning = select(state.variables['params'], phase.learning)
            gradients, (batch_stats, sums) = differentiate(learning, part, index)
            return place(gradients), batch_stats, sums

        if micro_batches == 1:
            return one_micro_batch(batch, 0)
        parts = jax.tree.map(
            lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), batch
        )

        def add(total, part_and_index):
            return jax.tree.map(jnp.add, total, one_micro_batch(*part_and_index)), None

        first = jax.tree.map(lambda x: x[0], parts)
        shapes = jax.eval_shape(one_micro_batch, first, 0)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (gradients, batch_stats, sums), _ = jax.lax.scan(
            add, zeros, (parts, jnp.arange(micro_batches))
        )
        batch_stats = jax.tree.map(lambda x: x / micro_batches, batch_stats)
        batch_stats = keep_statistics(state.variables['batch_stats'], batch_stats, phase)
        return gradients, batch_stats, sums

    return gradients_of


def replace_skipped(images: jax.Array, mask: jax.Array) -> jax.Array:
    """Replaces each of `images` [batch, ...] with mask 0 by the nearest one before it.

    The batch is a ring: the last image precedes the first. Images do not change if all have mask
    0. Batch statistics ignore the mask, so otherwise they would include the blanks of undecodable
    images.
    """

    def is_unfinished(images_and_done):
        done = images_and_done[1]
        return done.any() & ~done.all()

    # Shifting by one costs devices an exchange of one image, and only where one was skipped;
    # a gather would collect the whole batch on every device.
    def shift_into_place(images_and_done):
        images, done = images_and_done
        keeps = done.reshape(-1, *[1] * (images.ndim - 1))
        return jnp.where(keeps, images, jnp.roll(images, 1, 0)), done | jnp.roll(done, 1)

    return jax.lax.while_loop(is_unfinished, shift_into_place, (images, mask > 0))[0]
