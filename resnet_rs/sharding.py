"""The device mesh and where arrays live on it."""

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from resnet_rs.errors import UserError


def create_mesh(devices: list[jax.Device] | None = None) -> jax.sharding.Mesh:
    """One axis, 'data', over `devices`: by default every device of every process."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh(
        (len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices
    )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split_by_batch(mesh: jax.sharding.Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec('data'))


def to_global(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """This process's slice of a batch as part of global arrays, split over the data axis."""
    sharding = split_by_batch(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
    }


def check_divides(name: str, batch_size: int, pieces: int, what: str) -> None:
    """Raises UserError unless `batch_size` splits evenly into `pieces`."""
    if batch_size % pieces or batch_size < pieces:
        below, above = batch_size // pieces * pieces, -(-batch_size // pieces) * pieces
        nearest = ' or '.join(str(size) for size in sorted({below, above}) if size)
        raise UserError(
            f'{name} is {batch_size}, which does not divide over {what}; use {nearest}'
        )
