"""Connection of the processes of a pod slice."""

import glob
import os
import typing

import jax
from absl import logging
from jax._src.clusters import ClusterEnv  # JAX has no public function that only detects a cluster

from resnet_rs.multihost import hosts
from resnet_rs.multihost.rendezvous import wait_for_all
from resnet_rs.utils.errors import UserError

COORDINATOR, COUNT, INDEX = 'JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'


class Process(typing.NamedTuple):
    """The identity of this process, in the arguments of jax.distributed.initialize."""

    address: str  # HOST:PORT of process 0
    count: int
    index: int
    local_devices: list[int] | None = None


def connect(start_timeout_seconds: float, lost_after_seconds: float) -> None:
    """Connects the processes of this run, if there are several, before a device is touched.

    On a TPU VM, on GKE and under Slurm JAX finds the other processes. Elsewhere the environment
    names them: JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID.

    Raises UserError naming the processes that do not arrive within `start_timeout_seconds`. After
    that, a process that does not answer for `lost_after_seconds` ends all the others.
    """
    process = find_process(os.environ, start_timeout_seconds)
    if process is None:
        return
    if process.count > 1:
        wait_for_all(process.address, process.count, process.index, start_timeout_seconds)
    jax.distributed.initialize(
        process.address,
        process.count,
        process.index,
        local_device_ids=process.local_devices,
        initialization_timeout=int(start_timeout_seconds) + 1,
        # JAX's own watchdog ends processes with a stack trace, so it only backs up ours.
        heartbeat_timeout_seconds=int(lost_after_seconds) + 60,
    )
    hosts.start_watch(lost_after_seconds)


def find_process(environment, timeout_seconds: float) -> Process | None:
    """Returns the identity of this process, None if it runs alone.

    Raises UserError for an incomplete or contradictory environment.
    """
    if COORDINATOR in environment:
        return _explicit_process(environment)
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
        logging.warning('no other hosts were found: this process runs alone')
        return None
    return Process(*found)


def _explicit_process(environment) -> Process:
    if missing := [name for name in (COUNT, INDEX) if name not in environment]:
        raise UserError(f'{COORDINATOR} is set, but {" and ".join(missing)} not; set all three')
    for name in (COUNT, INDEX):
        if not environment[name].isdecimal():
            raise UserError(f'{name} is {environment[name]!r}; it takes a whole number')
    count, index = int(environment[COUNT]), int(environment[INDEX])
    if index >= count:
        raise UserError(f'{INDEX} is {index}, but {COUNT} is {count}; processes count from 0')
    return Process(environment[COORDINATOR], count, index)


def _in_a_cluster(environment) -> bool:
    has_tpu = glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*')
    uses_tpu = 'tpu' in environment.get('JAX_PLATFORMS', 'tpu')
    slurm_tasks = int(environment.get('SLURM_NTASKS', 1))
    return bool(has_tpu and uses_tpu) or 'TPU_WORKER_HOSTNAMES' in environment or slurm_tasks > 1
