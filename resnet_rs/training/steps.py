"""The training step and the evaluation step of a configuration, as functions of arrays."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax.traverse_util import flatten_dict

from resnet_rs.config import mixture
from resnet_rs.config.clips import clip_shape
from resnet_rs.config.durations import to_steps
from resnet_rs.config.second_crop import second_size
from resnet_rs.models import init_variables
from resnet_rs.models.resnet import ResNet
from resnet_rs.training.gradients import create_gradients
from resnet_rs.training.networks import logits_of, model_of
from resnet_rs.training.objectives import create_objective
from resnet_rs.training.optimizer import create_optimizer, create_schedule, update_ema
from resnet_rs.training.sharding import (
    batch_sharding,
    check_divides,
    compiler_options,
    place_part,
    place_state,
    replicated,
    shardings_of,
)
from resnet_rs.training.state import TrainState
from resnet_rs.training.trainable import Phases, create_phases, merge, select
from resnet_rs.training.window import add_to_window, empty_window, window_means
from resnet_rs.utils.errors import count_of


@dataclasses.dataclass(frozen=True)
class Program:
    """The functions of a configuration on a mesh.

    state: the shapes, dtypes and shardings of the state.
    init(): the state before the first step.
    frozen: shapes, dtypes and shardings of the arrays that the objective needs and the run does not
      change.
    phases: the parameters that learn, and until when.
    train_step(state, batch, frozen): returns (state, metrics) and donates the old state.
    eval_step(weights, batch): per-example results of {'raw': variables, 'ema': variables}.
    Batches are those of input_pipeline, sharded over the mesh; weights to evaluate and all results
    are replicated.
    """

    model: ResNet
    total_steps: int
    state: TrainState
    frozen: dict
    phases: Phases
    init: Callable[[], TrainState]
    train_step: Callable
    eval_step: Callable


def batch_norm_group_size(config: ml_collections.ConfigDict, device_count: int) -> int | None:
    """Returns the examples per group in a micro-batch; None for one group of all.

    Raises UserError if the batch does not divide over devices, micro-batches and groups.
    """
    micro_batches = config.optimizer.accumulation_steps
    check_divides(
        'batch_size',
        config.batch_size,
        device_count * micro_batches,
        f'{count_of(device_count, "device")} x {count_of(micro_batches, "accumulation step")}',
    )
    in_micro_batch = config.batch_size // micro_batches
    size = config.model.batch_norm_group_size
    if size == -1:
        return None
    if size == 0:
        return in_micro_batch // device_count
    check_divides(
        'batch_size / optimizer.accumulation_steps',
        in_micro_batch,
        size,
        f'groups of model.batch_norm_group_size={size}',
    )
    return size


def create_program(
    config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh, examples_per_epoch: int
) -> Program:
    """Creates the functions of a run of `config` on `mesh`, without compiling them.

    Raises UserError for invalid settings.
    """
    lengths = dict(batch_size=config.batch_size, examples_per_epoch=examples_per_epoch)
    total_steps = to_steps(config.duration, **lengths)
    log_every = max(to_steps(config.log.every, **lengths), 1)
    group_size = batch_norm_group_size(config, mesh.size)
    model = model_of(config, batch_norm_group_size=group_size)
    schedule = create_schedule(config, total_steps, examples_per_epoch)
    objective = create_objective(config)
    variable_shapes = jax.eval_shape(lambda: init_variables(model, config.data.image_size))
    optimizer = create_optimizer(config, schedule, variable_shapes['params'])
    phases = create_phases(config, variable_shapes['params'], total_steps, examples_per_epoch)

    def new_state(variables: dict) -> TrainState:
        return TrainState(
            seed=jnp.asarray(config.seed, jnp.int32),
            step=jnp.zeros((), jnp.int32),
            variables=variables,
            ema=jax.tree.map(jnp.array, variables),
            opt_state=jax.jit(optimizer.init)(select(variables['params'], phases.learning)),
            window=empty_window(objective.values),
        )

    placed = place_state(jax.eval_shape(new_state, variable_shapes), mesh, config.sharding)
    shardings = shardings_of(placed)
    frozen_shapes = place_part('variables', objective.frozen, mesh, config.sharding)
    everywhere, over_batch = replicated(mesh), batch_sharding(mesh)

    def like_ema(params):
        """Constrains parameters, or their gradients, to the sharding of their average and momentum.

        A sum that each device needs only in part may then be a reduce-scatter.
        """
        chosen = select(shardings.ema['params'], frozenset(flatten_dict(params)))
        return jax.lax.with_sharding_constraint(params, chosen)

    gradient_functions = [
        create_gradients(config, model, objective, phase, like_ema) for phase in phases.phases
    ]

    def train_step(state: TrainState, batch: dict, frozen: dict) -> tuple[TrainState, dict]:
        params = jax.lax.with_sharding_constraint(state.variables['params'], everywhere)
        frozen = jax.tree.map(
            lambda leaf: jax.lax.with_sharding_constraint(leaf, everywhere), frozen
        )
        given = {'params': params, 'schedule': {'progress': state.step / total_steps}}
        gradients, batch_stats, sums = phases.gradients(
            gradient_functions,
            state.replace(variables=state.variables | given),
            batch,
            frozen,
        )
        params = like_ema(select(state.variables['params'], phases.learning))
        updates, opt_state = phases.update(optimizer, gradients, state, params)
        params = merge(state.variables['params'], optax.apply_updates(params, updates))
        variables = {'params': like_ema(params), 'batch_stats': batch_stats}
        step = state.step + 1
        norms = {
            'gradient_norm': optax.global_norm(gradients),
            'parameter_norm': optax.global_norm(variables['params']),
            'update_norm': optax.global_norm(updates),
        }
        window = add_to_window(state, sums, norms, log_every)
        metrics = window_means(window, objective.values, objective.counts) | norms
        metrics['learning_rate'] = schedule(state.step)
        state = state.replace(
            step=step,
            variables=variables,
            ema=update_ema(state.ema, variables, step, config.ema.decay),
            opt_state=opt_state,
            window=window,
        )
        return state, metrics

    return Program(
        model=model,
        total_steps=total_steps,
        state=placed,
        frozen=frozen_shapes,
        phases=phases,
        init=lambda: jax.device_put(
            new_state(init_variables(model, config.data.image_size, config.seed)), shardings
        ),
        train_step=jax.jit(
            train_step,
            in_shardings=(shardings, over_batch, shardings_of(frozen_shapes)),
            out_shardings=(shardings, everywhere),
            donate_argnums=0,
            compiler_options=compiler_options(mesh, config.sharding),
        ),
        eval_step=create_eval_step(config, model, mesh),
    )


def batch_shapes(
    config: ml_collections.ConfigDict, which: str, *, label_sets: bool = False
) -> dict:
    """Returns the shapes and dtypes of a global batch of input_pipeline, 'train' or 'eval'.

    `label_sets` says that a batch has the set of right classes of each example.
    """
    size, pixels = config.batch_size, config.data.image_size
    if which == 'eval':
        size, pixels = config.eval.batch_size, config.eval.image_size or pixels
    shape = (size, *clip_shape(config, which), pixels, pixels, 3)
    shapes = {
        'image': jax.ShapeDtypeStruct(shape, jnp.uint8),
        'label': jax.ShapeDtypeStruct((size,), jnp.int32),
        'mask': jax.ShapeDtypeStruct((size,), jnp.float32),
        'index': jax.ShapeDtypeStruct((size,), jnp.int32),
    }
    if which == 'train' and (second := second_size(config)):
        shapes['teacher_image'] = jax.ShapeDtypeStruct((size, second, second, 3), jnp.uint8)
    if which == 'train' and mixture.has_pseudo_labels(config):
        shapes['is_pseudo'] = jax.ShapeDtypeStruct((size,), bool)
        if config.pseudo_labels.form == 'soft':
            targets = (size, config.model.num_classes)
            shapes['target'] = jax.ShapeDtypeStruct(targets, jnp.float32)
    if label_sets:
        shapes['label_set'] = jax.ShapeDtypeStruct((size, config.model.num_classes), bool)
    return shapes


def create_eval_step(
    config: ml_collections.ConfigDict, model: ResNet, mesh: jax.sharding.Mesh
) -> Callable:
    """Returns eval_step({'raw': variables, 'ema': variables}, batch), with results per example.

    For both weights 'loss' (without smoothing), 'prediction', its probability 'confidence', 'top1'
    and, of more than five classes, 'top5', each [batch]; beside them the batch's 'index', 'label'
    and 'mask'. With a 'label_set' in the batch a prediction is right when it is in the set, and the
    loss is that of the whole set's probability. Of videos the probabilities of all views are
    averaged. The batch has to divide over the mesh.
    """

    def eval_step(weights: dict, batch: dict) -> dict:
        results = {
            name: _per_example_results(
                logits_of(model, variables, batch['image'], config),
                batch['label'],
                batch.get('label_set'),
            )
            for name, variables in weights.items()
        }
        return results | {name: batch[name] for name in ('index', 'label', 'mask')}

    everywhere, over_batch = replicated(mesh), batch_sharding(mesh)
    return jax.jit(eval_step, in_shardings=(everywhere, over_batch), out_shardings=everywhere)


def create_inference_step(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Callable:
    """Returns inference_step(variables, images), from uint8 images to logits [batch, num_classes].

    Both are sharded over the mesh.
    """
    model = model_of(config, batch_norm_group_size=None)

    def inference_step(variables: dict, images: jax.Array) -> jax.Array:
        return logits_of(model, variables, images, config)

    over_batch = batch_sharding(mesh)
    return jax.jit(
        inference_step, in_shardings=(replicated(mesh), over_batch), out_shardings=over_batch
    )


def _per_example_results(logits, labels, label_sets=None):
    """Loss without smoothing, prediction, its probability, and whether a right label is first.

    'top5' says whether one is in the first five; only for more than five classes.

    The right class is the label, or any class of a given set, bool [batch, classes].
    """
    right = jax.nn.one_hot(jnp.maximum(labels, 0), logits.shape[-1], dtype=bool)
    is_known = labels >= 0
    if label_sets is not None:
        right, is_known = label_sets, label_sets.any(-1)
    of_label = jnp.where(right, logits, -jnp.inf).max(-1, keepdims=True)
    finite = jnp.isfinite(logits).all(-1)
    prediction = logits.argmax(-1).astype(jnp.int32)
    is_right = jnp.take_along_axis(right, prediction[:, None], axis=-1)[:, 0]
    total = jax.nn.logsumexp(logits, -1)
    results = {
        'loss': total - jax.nn.logsumexp(logits, -1, where=right),
        'prediction': prediction,
        'confidence': jnp.where(finite, jnp.exp(logits.max(-1) - total), 0),
        'top1': is_right & is_known & finite,
    }
    if logits.shape[-1] > 5:  # of five classes every one is among the first five
        results['top5'] = ((logits > of_label).sum(-1) < 5) & finite
    return results
