"""Connecting the processes of a pod slice."""

import glob
import os

import jax

from resnet_rs.errors import UserError

COORDINATOR, COUNT, INDEX = 'JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'


def connect() -> None:
    """Joins the other processes of this run, where there are any, before a device is touched.

    On a TPU VM, on GKE and under Slurm jax finds them itself. Elsewhere the environment says so:
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    """
    environment = os.environ
    if COORDINATOR in environment:
        if missing := [name for name in (COUNT, INDEX) if name not in environment]:
            raise UserError(f'{COORDINATOR} is set, but {" and ".join(missing)} not; set all three')
        jax.distributed.initialize(
            environment[COORDINATOR], int(environment[COUNT]), int(environment[INDEX])
        )
    elif _in_a_cluster(environment):
        jax.distributed.initialize()


def _in_a_cluster(environment) -> bool:
    has_tpu = glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*')
    uses_tpu = 'tpu' in environment.get('JAX_PLATFORMS', 'tpu')
    slurm_tasks = int(environment.get('SLURM_NTASKS', 1))
    return bool(has_tpu and uses_tpu) or 'TPU_WORKER_HOSTNAMES' in environment or slurm_tasks > 1
