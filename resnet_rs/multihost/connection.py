"""Connecting the processes of a pod slice."""

import glob
import os
import typing

import jax
from absl import logging
from jax._src.clusters import ClusterEnv

from resnet_rs.multihost import hosts
from resnet_rs.multihost.rendezvous import wait_for_all
from resnet_rs.utils.errors import UserError

COORDINATOR, COUNT, INDEX = 'JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'


class Place(typing.NamedTuple):
    """Which process of a run this one is, as jax.distributed.initialize wants to know it."""

    address: str  # HOST:PORT of process 0
    count: int
    index: int
    local_devices: list[int] | None = None


def connect(start_timeout_seconds: float, lost_after_seconds: float) -> None:
    """Joins the other processes of this run, where there are any, before a device is touched.

    On a TPU VM, on GKE and under Slurm jax finds them itself. Elsewhere the environment says so:
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises UserError naming the processes that did not arrive within `start_timeout_seconds`. From
    then on a process that stops answering for `lost_after_seconds` ends all the others.
    """
    place = find_place(os.environ, start_timeout_seconds)
    if place is None:
        return
    if place.count > 1:
        wait_for_all(place.address, place.count, place.index, start_timeout_seconds)
    jax.distributed.initialize(
        place.address,
        place.count,
        place.index,
        local_device_ids=place.local_devices,
        initialization_timeout=int(start_timeout_seconds) + 1,
        # jax's own watch ends processes with a stack trace; it is there for when ours hangs.
        heartbeat_timeout_seconds=int(lost_after_seconds) + 60,
    )
    hosts.start_watch(lost_after_seconds)


def find_place(environment, timeout_seconds: float) -> Place | None:
    """None for a process that is alone. Raises UserError where the environment contradicts."""
    if COORDINATOR in environment:
        return _explicit_place(environment)
    if not _in_a_cluster(environment):
        return None
    try:
        found = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, int(timeout_seconds)
        )
    except Exception as error:
        raise UserError(
            f'this host belongs to a cluster whose other hosts cannot be found ({error}); set '
            f'{COORDINATOR}, {COUNT} and {INDEX}'
        ) from error
    if found[0] is None:
        logging.warning('no other hosts are known here: this process runs alone')
        return None
    return Place(*found)


def _explicit_place(environment) -> Place:
    if missing := [name for name in (COUNT, INDEX) if name not in environment]:
        raise UserError(f'{COORDINATOR} is set, but {" and ".join(missing)} not; set all three')
    for name in (COUNT, INDEX):
        if not environment[name].isdecimal():
            raise UserError(f'{name} is {environment[name]!r}; it takes a whole number')
    count, index = int(environment[COUNT]), int(environment[INDEX])
    if index >= count:
        raise UserError(f'{INDEX} is {index}, but {COUNT} is {count}; processes count from 0')
    return Place(environment[COORDINATOR], count, index)


def _in_a_cluster(environment) -> bool:
    has_tpu = glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*')
    uses_tpu = 'tpu' in environment.get('JAX_PLATFORMS', 'tpu')
    slurm_tasks = int(environment.get('SLURM_NTASKS', 1))
    return bool(has_tpu and uses_tpu) or 'TPU_WORKER_HOSTNAMES' in environment or slurm_tasks > 1
