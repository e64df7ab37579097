"""Whether the training step fits the memory of the devices at hand."""

import jax
import ml_collections

from resnet_rs.errors import UserError
from resnet_rs.plan.cache import DoesNotFit
from resnet_rs.plan.program import compile_lowered, lower_step
from resnet_rs.plan.topology import GIB, HARDWARE, Topology


def check_memory(
    config: ml_collections.ConfigDict, devices: list[jax.Device], examples: int
) -> list[str]:
    """Compiles the training step for `devices`, TPUs; returns a line with the memory it takes.

    Nothing is compiled or returned for devices of another kind, such as CPUs. The run finds the
    program in the compilation cache. Raises UserError for a step that does not fit.
    """
    kinds = {hardware.kind: hardware for hardware in HARDWARE.values()}
    kind = devices[0].device_kind
    if kind not in kinds:
        return []
    topology = Topology(kind, tuple(devices), kinds[kind])
    try:
        step = compile_lowered(lower_step(config, topology, 'train', examples_per_epoch=examples))
    except DoesNotFit as error:
        per_device = config.batch_size // len(devices)
        needed = f', {error.needed / GIB:.2f} GiB are needed' if error.needed else ''
        raise UserError(
            f'a training step of {per_device} images per {kind} does not fit{needed}: a device has '
            f'{kinds[kind].hbm_bytes / GIB:.2f} GiB; use more devices, a smaller batch_size or '
            'optimizer.accumulation_steps (python -m resnet_rs.plan says what fits)'
        ) from error
    return [
        f'memory: {step.peak / GIB:.2f} of {kinds[kind].hbm_bytes / GIB:.2f} GiB per {kind} for a '
        'training step, by its compiler'
    ]
