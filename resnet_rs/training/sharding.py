"""The device mesh, and where arrays live on it (docs/sharding.md).

Axis 'data' is over the devices of a slice; with several slices an axis 'slice' comes first.
Batches are split over both. State is replicated or, in the parts that a strategy names, split over
'data', so that gathering it never leaves a slice.
"""

import math
from collections.abc import Callable

import jax
import ml_collections
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from resnet_rs.training.state import TrainState
from resnet_rs.utils.errors import UserError, count_of

# sharding.strategy: the parts of the state that are split over the devices of a slice.
STRATEGIES = {
    'data_parallel': (),
    'zero1': ('opt_state', 'ema'),  # ZeRO stage 1 (Rajbhandari et al. 2019)
    'fsdp': ('opt_state', 'ema', 'variables'),  # fully sharded data parallel
}


def create_mesh(devices: list[jax.Device] | None = None, slices: int = 0) -> Mesh:
    """A mesh over `devices`, by default every device of every process.

    One axis, 'data'; with several slices ('slice', 'data'). With `slices` 0 there are as many as
    the devices say; another number divides devices that know of none into consecutive parts.
    Raises UserError for a number that the devices contradict or that does not divide them.
    """
    devices = jax.devices() if devices is None else devices
    found = len({getattr(device, 'slice_index', 0) for device in devices})
    slices = slices or found
    if slices < 1 or len(devices) % slices or found not in (1, slices):
        raise UserError(
            f'sharding.slices is {slices}, but there are {count_of(len(devices), "device")} in '
            f'{count_of(found, "slice")}; --config.sharding.slices=0 takes what the devices say'
        )
    per_slice = len(devices) // slices
    if slices == 1:
        return jax.make_mesh((per_slice,), ('data',), axis_types=(AxisType.Auto,), devices=devices)
    if found == slices:
        grid = mesh_utils.create_hybrid_device_mesh((1, per_slice), (slices, 1), devices)
    else:
        grid = np.asarray(devices).reshape(slices, per_slice)
    return Mesh(grid, ('slice', 'data'), axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split_by_batch(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's slice of a batch as part of global arrays, split over the mesh."""
    sharding = split_by_batch(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
    }


def shapes_on(shapes, sharding: Sharding | Callable[[tuple[int, ...]], Sharding]):
    """Returns what a checkpoint is restored to: the leaves of `shapes` with a sharding.

    They are jax.ShapeDtypeStruct. `sharding` is that of all leaves, or a function of their shapes.
    """

    def place(leaf):
        chosen = sharding(leaf.shape) if callable(sharding) else sharding
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=chosen)

    return jax.tree.map(place, shapes)


def place_state(shapes: TrainState, mesh: Mesh, settings: ml_collections.ConfigDict) -> TrainState:
    """Returns `shapes` (jax.ShapeDtypeStruct leaves) with the shardings of config.sharding."""
    split = STRATEGIES[settings.strategy]

    def place(part, shapes):
        least = settings.replicate_below if part in split else math.inf
        return shapes_on(
            shapes,
            lambda shape: NamedSharding(mesh, partition(shape, mesh.shape['data'], least)),
        )

    return TrainState(**{part: place(part, value) for part, value in vars(shapes).items()})


def compiler_options(mesh: Mesh, settings: ml_collections.ConfigDict) -> dict[str, bool]:
    """What the training step is compiled with, beside the compiler's defaults.

    Where gradients are wanted in parts, the compiler of v4 and later would compute each in a loop
    of pieces that travel meanwhile. By its own estimates that costs more than it hides
    (docs/sharding.md).
    """
    if settings.strategy == 'data_parallel' or mesh.devices.flat[0].platform != 'tpu':
        return {}
    return {'xla_tpu_enable_windowed_einsum_for_reduce_scatter': False}


def partition(shape: tuple[int, ...], pieces: int, least: float) -> PartitionSpec:
    """Splits the largest dimension of `shape` that divides into `pieces`; of equals the first.

    Replicates arrays of fewer than `least` elements and those of which no dimension divides.
    """
    dividing = [size if size % pieces == 0 else 0 for size in shape]
    if math.prod(shape) < least or not any(dividing):
        return PartitionSpec()
    axis = dividing.index(max(dividing))
    return PartitionSpec(*(None,) * axis, 'data')


def shardings_of(tree):
    """The sharding of every leaf."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def check_divides(name: str, batch_size: int, pieces: int, what: str) -> None:
    """Raises UserError unless `batch_size` splits evenly into `pieces`."""
    if batch_size % pieces or batch_size < pieces:
        below, above = batch_size // pieces * pieces, -(-batch_size // pieces) * pieces
        nearest = ' or '.join(str(size) for size in sorted({below, above}) if size)
        # `name` may be a quotient of settings.
        change = f'make it {nearest}' if '/' in name else f'use --config.{name}={nearest}'
        raise UserError(f'{name} is {batch_size}, which does not divide over {what}; {change}')
