"""The device mesh, and the shardings of arrays over it (docs/sharding.md).

The axis 'data' spans the devices of a slice; with several slices an axis 'slice' comes first.
Batches are sharded over both. The state is replicated, or a strategy shards parts of it over
'data', so that gathering them stays within a slice.
"""

import math
from collections.abc import Callable, Iterable

import jax
import ml_collections
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from resnet_rs.training.state import TrainState
from resnet_rs.utils.errors import UserError, count_of

# sharding.strategy: the parts of the state that are sharded over the devices of a slice.
STRATEGIES = {
    'data_parallel': (),
    'zero1': ('opt_state', 'ema'),  # ZeRO stage 1 (Rajbhandari et al. 2019)
    'fsdp': ('opt_state', 'ema', 'variables'),  # fully sharded data parallel
}


def create_mesh(devices: list[jax.Device] | None = None, slices: int = 0) -> Mesh:
    """Returns a mesh over `devices`, by default all devices of all processes.

    The devices of a process stand next to each other, in the order of the processes, because each
    process reads a contiguous part of every batch; the physical order of some slices interleaves
    them. The axes are ('data',), or ('slice', 'data') with several slices. `slices` 0 takes the
    slices that the devices report; any other number divides devices that report none into
    consecutive parts. Raises UserError for a number that contradicts the devices or does not divide
    them.
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
        types = (AxisType.Auto,)
        mesh = jax.make_mesh((per_slice,), ('data',), axis_types=types, devices=devices)
        return Mesh(by_process(mesh.devices), mesh.axis_names, axis_types=types)
    if found == slices:
        grid = mesh_utils.create_hybrid_device_mesh((1, per_slice), (slices, 1), devices)
    else:
        grid = np.asarray(devices).reshape(slices, per_slice)
    grid = np.stack([by_process(row) for row in grid])
    return Mesh(grid, ('slice', 'data'), axis_types=(AxisType.Auto,) * 2)


def by_process(devices: Iterable[jax.Device]) -> np.ndarray:
    """Returns the devices in the order of their processes; those of a process keep theirs."""
    return np.asarray(sorted(devices, key=lambda device: device.process_index))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Returns global arrays sharded over the mesh, of which `batch` is this process's part."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
    }


def shapes_on(shapes, sharding: Sharding | Callable[[tuple[int, ...]], Sharding]):
    """Returns the target of a restore: `shapes` with shardings, as jax.ShapeDtypeStruct.

    `sharding` is that of all leaves, or a function of their shapes.
    """

    def place(leaf):
        chosen = sharding(leaf.shape) if callable(sharding) else sharding
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=chosen)

    return jax.tree.map(place, shapes)


def place_state(shapes: TrainState, mesh: Mesh, settings: ml_collections.ConfigDict) -> TrainState:
    """Returns `shapes` (jax.ShapeDtypeStruct leaves) with the shardings of config.sharding."""
    return TrainState(
        **{part: place_part(part, value, mesh, settings) for part, value in vars(shapes).items()}
    )


def place_part(part: str, shapes, mesh: Mesh, settings: ml_collections.ConfigDict):
    """Returns a tree of `shapes` with the shardings that the strategy gives this part of a state.

    `part` is a field of TrainState; a teacher's weights are sharded like 'variables'.
    """
    is_split = part in STRATEGIES[settings.strategy]
    least = settings.replicate_below if is_split else math.inf
    return shapes_on(
        shapes,
        lambda shape: NamedSharding(mesh, partition(shape, mesh.shape['data'], least)),
    )


def compiler_options(mesh: Mesh, settings: ml_collections.ConfigDict) -> dict[str, bool]:
    """Returns the compiler options of the training step that differ from the defaults.

    For sharded gradients, the compiler of TPU v4 and later would compute each gradient in a loop
    that overlaps its pieces with their communication. By the compiler's own estimates the loop
    costs more than it hides (docs/sharding.md).
    """
    if settings.strategy == 'data_parallel' or mesh.devices.flat[0].platform != 'tpu':
        return {}
    return {'xla_tpu_enable_windowed_einsum_for_reduce_scatter': False}


def partition(shape: tuple[int, ...], pieces: int, least: float) -> PartitionSpec:
    """Returns the sharding of an array over its largest dimension that divides into `pieces`.

    Of equal dimensions it takes the first. Arrays of fewer than `least` elements, and those
    without such a dimension, are replicated.
    """
    dividing = [size if size % pieces == 0 else 0 for size in shape]
    if math.prod(shape) < least or not any(dividing):
        return PartitionSpec()
    axis = dividing.index(max(dividing))
    return PartitionSpec(*(None,) * axis, 'data')


def shardings_of(tree):
    """Returns the sharding of every leaf."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def bytes_per_device(tree) -> int:
    """Returns the bytes that arrays, or shapes with a sharding, take on each device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def check_divides(name: str, batch_size: int, pieces: int, what: str) -> None:
    """Raises UserError unless `batch_size` splits evenly into `pieces`.

    `name` is a setting, a quotient of settings, or a flag of a command, which begins with '--'.
    """
    if batch_size % pieces or batch_size < pieces:
        below, above = batch_size // pieces * pieces, -(-batch_size // pieces) * pieces
        nearest = ' or '.join(str(size) for size in sorted({below, above}) if size)
        if '/' in name:  # a quotient of settings
            change = f'make it {nearest}'
        else:
            flag = name if name.startswith('--') else f'--config.{name}'
            change = f'use {flag}={nearest}'
        raise UserError(f'{name} is {batch_size}, which does not divide over {what}; {change}')
