"""Ten steps of our training program, laid open under timm's names, or of clips Model Garden's.

The setting that both sides share: hash-filled weights, hash-filled uint8 images, batch norm that
keeps the last batch, and none of the random parts (dropout, stochastic depth, augmentation).
"""

import dataclasses

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from helpers import clip_networks
from helpers.garden_clips import garden_filled
from helpers.hash_filled import hash_filled_variables, hash_values
from resnet_rs.config import default_config
from resnet_rs.convert.model_garden_clips import garden_key
from resnet_rs.convert.timm import state_key, to_timm_layout
from resnet_rs.models import init_variables
from resnet_rs.training.sharding import create_mesh, to_global
from resnet_rs.training.steps import create_program

STEPS = 10
WARMUP_STEPS = 3
MOMENTUM = 0.9
WEIGHT_DECAY = 4e-5
LABEL_SMOOTHING = 0.1
EMA_DECAY = 0.9999
RMSPROP_DECAY = 0.9
RMSPROP_EPSILON = 1e-3
DECAY_FACTOR, DECAY_STEPS = 0.97, 3  # of the exponential schedule


@dataclasses.dataclass(frozen=True)
class Run:
    """A network and what it is trained with.

    optimizer: 'sgd', with warm-up and cosine, 'rmsprop', with the exponential schedule, or
      'nesterov', with a constant rate.
    frames: of a clip; 0 for images.
    """

    name: str
    batch_size: int
    peak_learning_rate: float
    image_size: int = 64
    num_classes: int = 1000
    width_multiplier: float = 1.0
    optimizer: str = 'sgd'
    frames: int = 0


RESNET_RS_50 = Run('resnet_rs_50', batch_size=4, peak_learning_rate=0.005)
SMALL = Run(
    'resnet_rs_14',
    batch_size=8,
    peak_learning_rate=0.05,
    image_size=32,
    num_classes=10,
    width_multiplier=0.25,
)
RESNEST_14 = dataclasses.replace(SMALL, name='resnest_14')
EFFICIENTNET_B0 = Run(
    'efficientnet_b0',
    batch_size=8,
    peak_learning_rate=0.002,
    image_size=64,
    num_classes=10,
    optimizer='rmsprop',
)

# Of two stages, `clip_networks.TWO_STAGES`.
RESNET_3D_RS = Run(
    clip_networks.NAME,
    batch_size=4,
    peak_learning_rate=0.02,
    image_size=32,
    num_classes=10,
    optimizer='nesterov',
    frames=6,
)

GOLDEN_RUNS = {
    'training_golden.json': SMALL,
    'resnest_training_golden.json': RESNEST_14,
    'efficientnet_training_golden.json': EFFICIENTNET_B0,
    'resnet_3d_training_golden.json': RESNET_3D_RS,
}
KINDS = ('gradient', 'weights', 'statistics', 'ema')
# Differences of both sides that count as rounding.
FLOAT64_TOLERANCE = 1e-9
# Errors grow from step to step in float32 and not in float64, so they are of rounding. The likely
# cause, which was not counted: a ReLU whose input is within rounding of zero opens on one side
# only, and batch norm over 16 values spreads it. The proof is float64.
# {kind: (the first two steps, all ten)}, each about ten times what was measured.
FLOAT32_TOLERANCES = {
    'loss': (1e-6, 1e-4),
    'gradient': (1e-2, 3e-1),
    'weights': (1.5e-7, 5e-6),
    'statistics': (1e-5, 1e-3),
    'ema': (3e-6, 3e-4),
}
Tensors = dict[str, np.ndarray]  # by timm's name, in torch's layout


@dataclasses.dataclass(frozen=True)
class StepResult:
    """The results of one step and the state after it."""

    loss: float
    learning_rate: float
    gradient: Tensors  # of the loss, without the term of weight decay
    weights: Tensors
    statistics: Tensors
    ema: Tensors  # of weights and statistics


def l2_norm(*arrays: np.ndarray) -> float:
    return float(np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in arrays)))


def scales(tensors: Tensors) -> dict[str, float]:
    """The norm of each tensor, but at least a millionth of the norm of all, for comparisons.

    The gradient of a bias before a batch norm is zero: what both sides have of it is rounding.
    """
    least = 1e-6 * l2_norm(*tensors.values())
    return {key: max(l2_norm(array), least) for key, array in tensors.items()}


def initial_scale(key: str) -> float:
    """Returns the factor of a hash-filled tensor of timm's state dict or Model Garden's checkpoint.

    Residual branches are weak in trained networks. At full strength the gradients of a random
    network of 50 layers are so sensitive that float32 is off by a hundredth after one step.
    """
    is_last_norm = key.endswith(('.bn3.weight', '/_norm3/gamma'))
    return 0.25 if is_last_norm else 1.0  # a power of two: exact in any dtype


def fingerprint(tensors: Tensors) -> list[float]:
    """The product of each tensor with a random one of its own, in the order of the names."""
    return [
        float(np.vdot(tensors[key], hash_values(f'fingerprint {key}', tensors[key].shape)))
        for key in sorted(tensors)
    ]


def batches(run: Run):
    """The uint8 images and labels of the ten steps."""
    for step in range(STEPS):
        shape = (run.batch_size, *[run.frames][: run.frames], run.image_size, run.image_size, 3)
        unit = (hash_values(f'images {step}', shape) + 1) / 2
        # Every image has a brightness of its own, so that they differ beyond their noise.
        brightness = (np.arange(run.batch_size) + 1) / run.batch_size
        unit *= brightness.reshape(-1, *[1] * (len(shape) - 1))
        labels = (hash_values(f'labels {step}', shape[:1]) + 1) / 2 * run.num_classes
        yield {
            'image': (unit * 256).astype(np.uint8),
            'label': labels.astype(np.int32),
            'mask': np.ones(run.batch_size, np.float32),
            'index': np.arange(run.batch_size, dtype=np.int32),
        }


def our_config(run: Run, dtype: str):
    config = default_config()
    config.batch_size = run.batch_size
    config.duration = f'{STEPS} steps'
    config.model.update(
        name=run.name,
        num_classes=run.num_classes,
        width_multiplier=run.width_multiplier,
        dtype=dtype,
        param_dtype=dtype,
        dropout_rate=0.0,
        stochastic_depth_rate=0.0,
        batch_norm_momentum=0.0,
        batch_norm_group_size=-1,
    )
    config.data.image_size = run.image_size
    config.data.frames = run.frames
    config.optimizer.learning_rate = run.peak_learning_rate * 256 / run.batch_size
    if run.optimizer == 'rmsprop':
        config.model.update(padding='same', batch_norm_epsilon=1e-3)
        config.optimizer.update(
            name='rmsprop',
            rmsprop_decay=RMSPROP_DECAY,
            rmsprop_epsilon=RMSPROP_EPSILON,
            schedule='exponential',
            decay_factor=DECAY_FACTOR,
            decay_every=f'{DECAY_STEPS} steps',
            warmup='0 steps',
        )
    elif run.optimizer == 'nesterov':
        config.model.padding = 'same'
        config.optimizer.update(
            nesterov=True, schedule='exponential', decay_factor=1.0, warmup='0 steps'
        )
    else:
        config.optimizer.warmup = f'{WARMUP_STEPS} steps'
        config.optimizer.schedule = 'cosine'
    config.optimizer.momentum = MOMENTUM
    config.optimizer.weight_decay = WEIGHT_DECAY
    config.optimizer.weight_decay_on = 'kernels' if run.frames else 'kernels_and_biases'
    config.optimizer.label_smoothing = LABEL_SMOOTHING
    config.ema.decay = EMA_DECAY
    config.eval.batch_size = run.batch_size
    config.log.every = '1 step'
    return config


def our_steps(run: Run, dtype: str):
    """Yields a StepResult per step; 'float64' needs `jax.enable_x64`."""
    config = our_config(run, dtype)
    mesh = create_mesh(jax.devices()[:1])
    program = create_program(config, mesh, examples_per_epoch=run.batch_size)
    layout = _garden_layout if run.frames else _timm_layout
    variables = _initial_variables(program.model, layout, dtype)
    state = program.init().replace(variables=variables, ema=jax.tree.map(jnp.copy, variables))
    if dtype == 'float64':
        state = jax.tree.map(_widened, state)

    def named(tree):
        return _by_name(program.model.architecture, layout, tree)

    weights = named(variables['params'])
    velocity = {key: np.zeros_like(array) for key, array in weights.items()}
    for batch in batches(run):
        state, metrics = program.train_step(state, to_global(batch, mesh), {})
        new_velocity = named(optax.tree_utils.tree_get(state.opt_state, 'trace'))
        gradient = {key: new_velocity[key] - MOMENTUM * velocity[key] for key in weights}
        if run.optimizer == 'rmsprop':
            mean_squares = named(optax.tree_utils.tree_get(state.opt_state, 'nu'))
            gradient = {
                key: -array
                / metrics['learning_rate']
                * np.sqrt(mean_squares[key] + RMSPROP_EPSILON)
                for key, array in gradient.items()
            }
        gradient = {
            key: array - WEIGHT_DECAY * _is_decayed(key) * weights[key]
            for key, array in gradient.items()
        }
        velocity, weights = new_velocity, named(state.variables['params'])
        np.testing.assert_allclose(l2_norm(*gradient.values()), metrics['gradient_norm'], rtol=1e-5)
        yield StepResult(
            loss=float(metrics['loss']),
            learning_rate=float(metrics['learning_rate']),
            gradient=gradient,
            weights=weights,
            statistics=named(state.variables['batch_stats']),
            ema=named(state.ema['params']) | named(state.ema['batch_stats']),
        )


def _initial_variables(model, layout, dtype):
    if layout is _garden_layout:
        shapes = jax.eval_shape(lambda: init_variables(model, 32))
        filled = garden_filled(shapes, model.architecture.stage_sizes, 'deep', dtype)
    else:
        filled = hash_filled_variables(model, dtype)
    flat = flax.traverse_util.flatten_dict(filled, sep='/')
    for path, leaf in flat.items():
        key, _ = layout(path.split('/', 1)[1], model.architecture, leaf)
        flat[path] = leaf * initial_scale(key)
    return flax.traverse_util.unflatten_dict(flat, sep='/')


def _widened(leaf):
    """float64, and counters int64: from an int32 counter JAX would derive float32 rates."""
    return leaf.astype(jnp.int64 if jnp.issubdtype(leaf.dtype, jnp.integer) else jnp.float64)


def _is_decayed(key: str) -> bool:
    """Returns whether weight decay applies to a variable.

    By timm's names: to kernels, the biases of squeeze-excite and of the head; not to batch norm. By
    Model Garden's: to kernels.
    """
    if '/' in key:
        return key.endswith('/kernel')
    *_, module, _ = key.split('.')
    stem_norms = ('conv1.1.', 'conv1.4.', 'bn1.', 'maxpool.1.')
    return not (module.startswith('bn') or '.downsample.2.' in key or key.startswith(stem_norms))


def _timm_layout(path, architecture, leaf):
    return state_key(path, architecture), to_timm_layout(path, leaf)


def _garden_layout(path, architecture, leaf):
    return garden_key(path, architecture.stage_sizes, 'deep'), leaf


def _by_name(architecture, layout, tree) -> Tensors:
    # A copy: the step gives the buffers up, and a view would read what replaces them.
    return dict(
        layout(path, architecture, np.array(leaf))
        for path, leaf in flax.traverse_util.flatten_dict(tree, sep='/').items()
    )
