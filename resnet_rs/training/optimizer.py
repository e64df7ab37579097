"""Learning-rate schedules; SGD and RMSProp with coupled weight decay, AdamW (docs/fidelity.md)."""

import math
from collections.abc import Callable, Iterable, Sequence

import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import optax

from resnet_rs.config.durations import unrounded_steps, warmup_steps
from resnet_rs.config.trainable import STAGE

LEARNING_RATE_BATCH = 256  # the batch size to which `optimizer.learning_rate` refers


def cosine_schedule(peak: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Returns a cosine from step 0 to zero at `total_steps`, after a linear warm-up.

    As in TF Model Garden, the warm-up rises to the cosine's value at `warmup_steps`. The cosine
    counts from step 0, so with a warm-up the rate never reaches `peak`.
    """

    def cosine(step):
        return peak * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step / total_steps, 1.0)))

    def schedule(step):
        warming = step / max(warmup_steps, 1) * cosine(warmup_steps)
        return jnp.where(step < warmup_steps, warming, cosine(step))

    return schedule


def cosine_after_warmup(peak: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Returns a linear warm-up to `peak`, then a cosine to zero over the steps that are left.

    This is the schedule of Bag of Tricks (He et al. 2019, section 5.1), GluonCV and ResNeSt.
    """

    def schedule(step):
        done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        cosine = peak * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(done, 1.0)))
        return jnp.where(step < warmup_steps, peak * step / max(warmup_steps, 1), cosine)

    return schedule


def step_schedule(
    peak: float, warmup_steps: int, total_steps: int, step_at: Sequence[float]
) -> optax.Schedule:
    """Returns a linear warm-up to `peak`, then a tenth of the rate at each part of `step_at`.

    With 30/90, 60/90 and 80/90 this is the schedule of the authors' released trainer and of the
    additive study's baseline.
    """

    # A third of a float has an error, which must not move the step of an exact third.
    steps = [math.ceil(total_steps * part - 1e-6) for part in step_at]

    def schedule(step):
        drops = sum((jnp.where(step >= first, 1, 0) for first in steps), 0)
        warming = peak * step / max(warmup_steps, 1)
        return jnp.where(step < warmup_steps, warming, peak * 0.1**drops)

    return schedule


def exponential_schedule(
    peak: float, warmup_steps: int, total_steps: int, decay_steps: float, factor: float
) -> optax.Schedule:
    """Returns a linear warm-up to `peak`, then peak * factor ** floor(step / decay_steps).

    Steps are counted from 0, not from the end of the warm-up. This is the schedule of
    EfficientNet's authors (tensorflow/tpu, models/official/efficientnet). It does not depend on
    `total_steps`.
    """
    del total_steps

    def schedule(step):
        warming = peak * step / max(warmup_steps, 1)
        return jnp.where(
            step < warmup_steps, warming, peak * factor ** jnp.floor(step / decay_steps)
        )

    return schedule


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    'cosine': cosine_schedule,
    'cosine_after_warmup': cosine_after_warmup,
    'step': step_schedule,
    'exponential': exponential_schedule,
}


def create_schedule(
    config: ml_collections.ConfigDict, total_steps: int, examples_per_epoch: int
) -> optax.Schedule:
    """Returns the learning rate as a function of the number of completed updates.

    The peak is `optimizer.learning_rate` per 256 images of global batch (linear scaling).
    """
    settings = config.optimizer
    peak = settings.learning_rate * config.batch_size / LEARNING_RATE_BATCH
    warmup = warmup_steps(config, total_steps, examples_per_epoch)
    of_schedule = {}
    if settings.schedule == 'step':
        of_schedule = dict(step_at=settings.step_at)
    elif settings.schedule == 'exponential':
        lengths = dict(batch_size=config.batch_size, examples_per_epoch=examples_per_epoch)
        decay_steps = unrounded_steps(settings.decay_every, **lengths)
        of_schedule = dict(decay_steps=decay_steps, factor=settings.decay_factor)
    return SCHEDULES[settings.schedule](peak, warmup, total_steps, **of_schedule)


WEIGHT_DECAY_ON: dict[str, Callable[[tuple[str, ...]], bool]] = {
    'kernels_and_biases': lambda path: not any('norm' in name for name in path),
    'kernels': lambda path: path[-1] == 'kernel',
    'everything': lambda path: True,
}


def weight_decay_mask(params, which: str):
    """Returns a tree of bools: whether weight decay covers each leaf of `params`.

    'kernels_and_biases': all but batch-norm scale and bias (the authors' code decays the biases
    of squeeze-excite and of the head); 'kernels': kernels only (TF Model Garden, big_vision);
    'everything': batch norm too (PyTorch's examples).
    """
    return flax.traverse_util.path_aware_map(lambda path, _: WEIGHT_DECAY_ON[which](path), params)


def create_optimizer(
    config: ml_collections.ConfigDict, schedule: optax.Schedule, modules: Iterable[str]
) -> optax.GradientTransformation:
    """Returns the optimiser of config.optimizer: clipping, then `sgd`, `rmsprop` or `adam`.

    `modules` are the names of all modules of the network, also of those that do not learn, from
    which optimizer.depth_decay counts its stages.

    SGD and RMSProp have coupled L2 weight decay: w * weight_decay, the gradient of
    weight_decay / 2 * |w|^2, is added to the gradient before the momentum. Clipping, if switched
    on, acts on the gradient of the loss alone.
    """
    settings = config.optimizer
    clip = settings.gradient_clip_norm
    decay = optax.add_decayed_weights(
        settings.weight_decay,
        mask=lambda params: weight_decay_mask(params, settings.weight_decay_on),
    )
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        # Flat, as in all checkpoints.
        *OPTIMIZERS[settings.name](settings, decay, optax.scale_by_learning_rate(schedule)),
        *([scale_by_depth(settings.depth_decay, modules)] if settings.depth_decay != 1 else []),
    )


def scale_by_depth(factor: float, modules: Iterable[str]) -> optax.GradientTransformation:
    """Returns a transformation of updates that gives every stage of `modules` its learning rate.

    The update of the head is kept, that of the last stage is multiplied by `factor`, that of the
    stage before by its square and so on; the stem comes after the first stage (ULMFiT, Howard and
    Ruder 2018, section 3.2, has a factor of 1 / 2.6 for each layer).
    """

    modules = tuple(modules)
    stages = {name: int(found[1]) for name in modules if (found := STAGE.fullmatch(name))}
    last = max(stages.values(), default=0)
    depths = {name: last - number + 1 for name, number in stages.items()}
    depths |= {name: last + 1 for name in modules if name.startswith('stem')}

    def scaled(updates, params=None):
        del params
        flat = flax.traverse_util.flatten_dict(updates)
        return flax.traverse_util.unflatten_dict(
            {path: factor ** depths.get(path[0], 0) * leaf for path, leaf in flat.items()}
        )

    return optax.stateless(scaled)


Part = optax.GradientTransformation


def sgd(settings: ml_collections.ConfigDict, decay: Part, rate: Part) -> tuple[Part, ...]:
    """Returns the parts of SGD: the momentum sums gradients, which the rate scales afterwards."""
    return decay, optax.trace(decay=settings.momentum, nesterov=settings.nesterov), rate


def rmsprop(settings: ml_collections.ConfigDict, decay: Part, rate: Part) -> tuple[Part, ...]:
    """Returns the parts of TF1's RMSPropOptimizer: the momentum sums what the rate has scaled.

    Mean squares start at 1 and epsilon is added to them inside the root, which makes the first
    steps small; PyTorch starts at 0 and adds it outside.
    """
    mean_squares = optax.scale_by_rms(
        decay=settings.rmsprop_decay,
        eps=settings.rmsprop_epsilon,
        initial_scale=1.0,
        eps_in_sqrt=True,
    )
    return decay, mean_squares, rate, optax.trace(decay=settings.momentum)


def adam(settings: ml_collections.ConfigDict, decay: Part, rate: Part) -> tuple[Part, ...]:
    """Returns the parts of Adam with decoupled weight decay (Loshchilov and Hutter 2019, AdamW).

    beta1 is `momentum`, beta2 0.999, epsilon 1e-8; `nesterov` gives NAdam. w * weight_decay is
    added to the update, so the rate scales it. (The decay of big_vision is relative to the peak
    rate: its `wd` is this weight_decay times its `lr`.)
    """
    return optax.scale_by_adam(b1=settings.momentum, nesterov=settings.nesterov), decay, rate


OPTIMIZERS = {'sgd': sgd, 'rmsprop': rmsprop, 'adam': adam}


def update_ema(ema, new, updates_done: jax.Array, decay: float):
    """Moves `ema` towards `new` by 1 - min(decay, (1 + t) / (10 + t)), t = updates done.

    This equals tf.train.ExponentialMovingAverage with num_updates. t is 1 at the first update: the
    TF1 trainers of this family (seen in EfficientNet's) apply the average after they have counted
    the step. Leaves stay float32, since 0.9999 is 1 in bfloat16.
    """
    t = updates_done.astype(float)  # float32, or float64 with jax_enable_x64
    rate = 1 - jnp.minimum(decay, (1 + t) / (10 + t))
    return jax.tree.map(lambda old, value: old + rate.astype(old.dtype) * (value - old), ema, new)
