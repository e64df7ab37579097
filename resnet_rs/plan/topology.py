"""TPUs that are not attached: what libtpu can compile for, and what is known of the hardware."""

import dataclasses
import importlib.metadata
import os
import re

from resnet_rs.errors import UserError

INSTALL = 'pip install libtpu==0.0.42.1'
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Hardware:
    """One device of a generation: a core of v2, v3 and TPU7x, a chip of the others.

    hbm_bytes: what the compiler lets a program use, from the message of libtpu 0.0.42.1 for one
      that is too large.
    clock_hz: of the TensorCore; None where no public source gives it.
    peak_flops: of bfloat16, per second, as Google publishes it
      (docs.cloud.google.com/tpu/docs/v2 ... /tpu7x).
    hbm_bytes_per_second: likewise.
    devices_per_chip: 2 where a core is a device.
    example: a slice of it.
    """

    kind: str
    hbm_bytes: int
    clock_hz: float | None
    peak_flops: float
    hbm_bytes_per_second: float
    devices_per_chip: int
    example: str
    chip_config: str | None = None


# The clocks of v2 to v4 are those of the TPU v4 paper (Jouppi et al. 2023, arXiv 2304.01433,
# table 4). docs/plan.md compares each with the published peak through a large matrix product.
HARDWARE = {
    'v2': Hardware('TPU v2', int(7.48 * GIB), 700e6, 23e12, 350e9, 2, 'v2:2x2'),
    'v3': Hardware('TPU v3', int(15.48 * GIB), 940e6, 61.5e12, 450e9, 2, 'v3:2x2'),
    'v4': Hardware('TPU v4', int(30.75 * GIB), 1050e6, 275e12, 1228e9, 1, 'v4:2x2x1', 'megacore'),
    'v5e': Hardware('TPU v5 lite', int(15.75 * GIB), 1500e6, 197e12, 819e9, 1, 'v5e:2x2'),
    'v5p': Hardware('TPU v5', int(95.74 * GIB), 1750e6, 459e12, 2765e9, 1, 'v5p:2x2x1'),
    'v6e': Hardware('TPU v6 lite', int(31.25 * GIB), None, 918e12, 1638e9, 1, 'v6e:2x2'),
    'tpu7x': Hardware('TPU7x', int(94.75 * GIB), None, 1153.5e12, 3690e9, 2, 'tpu7x:2x2x1'),
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice, or the first devices of one, that programs can be compiled for."""

    name: str
    devices: tuple
    hardware: Hardware

    @property
    def hosts(self) -> int:
        return len({device.process_index for device in self.devices})

    @property
    def chips(self) -> int:
        return -(-len(self.devices) // self.hardware.devices_per_chip)


def prepare_environment() -> None:
    """What libtpu reads when it is loaded; to be called before JAX is imported.

    Without these it looks for the metadata server of a TPU VM and complains that there is none,
    and refuses to be loaded while another process has it: only one may have the TPU, but nothing
    here touches one.
    """
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ['TPU_SKIP_MDS_QUERY'] = '1'
    os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
    os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v3-8')
    os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')


def check_libtpu() -> str:
    """The version of libtpu. Raises UserError unless it is the one that the installed JAX wants."""
    try:
        version = importlib.metadata.version('libtpu')
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f'the TPU compiler is not installed; run: {INSTALL}') from error
    wanted = [
        found[1] for requirement in importlib.metadata.requires('jax') or []
        if (found := re.match(r'libtpu\s*==\s*([\d.]+)', requirement))
    ]
    if wanted and not f'{version}.'.startswith(wanted[0]):
        raise UserError(
            f'libtpu is {version}, but jax {importlib.metadata.version("jax")} wants '
            f'{wanted[0]}*; run: {INSTALL}'
        )
    return version


def open_topology(name: str, devices: int | None = None) -> Topology:
    """The slice `name`, 'v3:2x2' for instance, or its first `devices` devices.

    Raises UserError for one that libtpu does not know, with those it does, and for more devices
    than it has.
    """
    generation = name.partition(':')[0]
    examples = ', '.join(hardware.example for hardware in HARDWARE.values())
    if generation not in HARDWARE:
        raise UserError(f'topology {name!r} is not known; there are {examples} and larger slices')
    check_libtpu()
    from jax.experimental import topologies

    hardware = HARDWARE[generation]
    options = {'chip_config_name': hardware.chip_config} if hardware.chip_config else {}
    try:
        found = topologies.get_topology_desc(platform='tpu', topology_name=name, **options)
    except Exception as error:
        raise UserError(
            f'libtpu refuses topology {name!r} ({first_line(error)}); for instance {examples}'
        ) from error
    count = len(found.devices)
    if devices is not None and devices > count:
        raise UserError(f'{name} has {count} devices, fewer than {devices}; name a larger slice')
    return Topology(name, tuple(found.devices[:devices]), hardware)


def first_line(error: Exception) -> str:
    """The first line of a compiler's message, without its status code."""
    return re.sub(r'^[A-Z_]+: ', '', str(error).strip().splitlines()[0])
