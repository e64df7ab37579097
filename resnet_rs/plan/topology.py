"""TPUs that are not attached: the topologies of libtpu, and published figures of the hardware."""

import dataclasses
import importlib.metadata
import math
import os
import pathlib
import re

from resnet_rs.utils.errors import UserError, count_of

INSTALL = 'pip install libtpu==0.0.42.1'
CACHE_DIRECTORY = pathlib.Path.home() / '.cache' / 'resnet_rs' / 'plans'
GIB = 2**30
CUBE = 64  # chips of v4 and v5p
# Chips of the largest slice by docs.cloud.google.com/tpu/docs/v2 (v2-512 is its largest type), v3,
# v4, v5e, v6e (a pod) and v5p (a job). libtpu also compiles for larger ones, which do not exist.
LARGEST = {'v2': 256, 'v3': 1024, 'v4': 4096, 'v5p': 6144, 'v5e': 256, 'v6e': 256}


@dataclasses.dataclass(frozen=True)
class Hardware:
    """A device of a TPU generation: a core of v2, v3 and TPU7x, a chip of the others.

    kind: the device_kind in JAX.
    hbm_bytes: the memory that a program may use, from the error of libtpu 0.0.42.1 for a program
      that is too large.
    clock_hz: clock of the TensorCore; None if the sources disagree.
    peak_flops, hbm_bytes_per_second: per device, with peak_flops for bfloat16, as published by
      Google.
    link_bytes_per_second: bandwidth of a chip over all its links; None without a source.
    devices_per_chip: 2 if a core is a device.
    example: a slice of this generation.
    chip_config: libtpu's name for the configuration of the chip on Google Cloud.
    """

    kind: str
    hbm_bytes: int
    clock_hz: float | None
    peak_flops: float
    hbm_bytes_per_second: float
    link_bytes_per_second: float | None
    devices_per_chip: int
    example: str
    chip_config: str | None = None


def _hardware(kind, hbm_gib, clock_mhz, peak_tera, hbm_giga, link_giga, devices, example, **more):
    clock, link = clock_mhz and clock_mhz * 1e6, link_giga and link_giga * 1e9
    return Hardware(
        kind,
        int(hbm_gib * GIB),
        clock,
        peak_tera * 1e12 / devices,
        hbm_giga * 1e9 / devices,
        link,
        devices,
        example,
        **more,
    )


# Peak and bandwidth are per chip, from docs.cloud.google.com/tpu/docs/v3, v4, v5e, v5p, v6e, tpu7x;
# for v2, and for the bandwidth of TPU7x, from the table of chips in jax.experimental.pallas.tpu.
# Links: half of the bidirectional bandwidth; for v3 and v4 a pod's all-reduce bandwidth over its
# chips. Clocks: the peak divided by the multiply-adds of the documented 128x128 units (v2 2, v3
# 4, v4 8, v5e 4, v5p 8 per chip), rounded to 10 MHz. By the same pages v6e and TPU7x would run at
# 3.5 and 4.4 GHz, which contradicts the compiler (docs/plan.md), so their clocks are unknown.
HARDWARE = {
    'v2': _hardware('TPU v2', 7.48, 700, 46, 716, None, 2, 'v2:2x2'),
    'v3': _hardware('TPU v3', 15.48, 940, 123, 900, 332, 2, 'v3:2x2'),
    'v4': _hardware('TPU v4', 30.75, 1050, 275, 1200, 268, 1, 'v4:2x2x1', chip_config='megacore'),
    'v5e': _hardware('TPU v5 lite', 15.75, 1500, 197, 819, 200, 1, 'v5e:2x2'),
    'v5p': _hardware('TPU v5', 95.74, 1750, 459, 2765, 600, 1, 'v5p:2x2x1'),
    'v6e': _hardware('TPU v6 lite', 31.25, None, 918, 1638, 400, 1, 'v6e:2x2'),
    'tpu7x': _hardware('TPU7x', 94.75, None, 2307, 7400, None, 2, 'tpu7x:2x2x1'),
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice, or its first devices, as a target of compilation.

    chips_per_host: the chips of a host in the whole slice, as libtpu divides it.
    """

    name: str
    devices: tuple
    hardware: Hardware
    chips_per_host: int = 4

    @property
    def hosts(self) -> int:
        return len({device.process_index for device in self.devices})

    @property
    def chips(self) -> int:
        return -(-len(self.devices) // self.hardware.devices_per_chip)


def prepare_environment() -> None:
    """Sets the environment variables of libtpu; call it before JAX is imported.

    Without them libtpu looks for the metadata server of a TPU VM and prints errors, and it refuses
    to be loaded while another process uses it, because only one may use the TPU; compiling uses
    none.
    """
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ['TPU_SKIP_MDS_QUERY'] = '1'
    os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
    os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v3-8')
    os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')


def check_libtpu() -> str:
    """Returns the version of libtpu; raises UserError unless it fits the installed JAX."""
    try:
        version = importlib.metadata.version('libtpu')
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f'the TPU compiler is not installed; run: {INSTALL}') from error
    wanted = [
        found[1]
        for requirement in importlib.metadata.requires('jax') or []
        if (found := re.match(r'libtpu\s*==\s*([\d.]+)', requirement))
    ]
    if wanted and not f'{version}.'.startswith(wanted[0]):
        raise UserError(
            f'libtpu is {version}, but jax {importlib.metadata.version("jax")} needs '
            f'{wanted[0]}*; run: {INSTALL}'
        )
    return version


def slice_name(name: str) -> str:
    """Returns the topology 'v3:4x4' of Google Cloud's accelerator type 'v3-32'; others unchanged.

    The number counts cores for v2 to v5p and chips for v5e (also v5litepod) and v6e. Sources: the
    tables of docs.cloud.google.com/tpu/docs/v5e, v5p and v6e, and for all sizes of v4, v5p, v5e and
    v6e the table of Google's MaxText (src/maxtext/utils/accelerator_to_spec_map.py at e591f30),
    which agree. For v2 and v3 the pages say only that the pod is a torus in two dimensions; their
    shape is a square or twice as long as wide, as in the tables of v5e and v6e.
    """
    found = re.fullmatch(r'(v2|v3|v4|v5p|v5e|v5litepod|v6e)-(\d+)', name)
    if not found:
        return name
    generation, number = found[1].replace('v5litepod', 'v5e'), int(found[2])
    cores = 1 if generation in ('v5e', 'v6e') else 2
    chips = number // cores
    shape = (_box if generation in ('v4', 'v5p') else _rectangle)(chips)
    if number % cores or chips > LARGEST[generation] or not shape:
        return name
    return f'{generation}:{"x".join(map(str, shape))}'


def _rectangle(chips: int) -> tuple[int, ...]:
    """Returns the sides of a slice in two dimensions, () if no slice has so many chips."""
    if chips < 1 or chips & (chips - 1) or chips == 2:
        return ()
    power = chips.bit_length() - 1
    return 2 ** (power // 2), 2 ** (power - power // 2)


def _box(chips: int) -> tuple[int, ...]:
    """Returns the sides of a slice in three dimensions, () if no slice has so many chips.

    Large slices consist of cubes of 4x4x4.
    """
    if chips < CUBE:
        return {4: (2, 2, 1), 8: (2, 2, 2), 16: (2, 2, 4), 32: (2, 4, 4)}.get(chips, ())
    cubes = chips // CUBE
    shapes = [
        (a, b, cubes // (a * b))
        for a in range(1, round(cubes ** (1 / 3)) + 1)
        if cubes % a == 0
        for b in range(a, math.isqrt(cubes // a) + 1)
        if cubes // a % b == 0
    ]
    return () if chips % CUBE else tuple(4 * side for side in min(shapes, key=sum))


def check_name(name: str) -> Hardware:
    """Returns the hardware of slice `name`; raises UserError, with examples, for any other name."""
    generation, _, slice_shape = name.partition(':')
    if generation not in HARDWARE or not re.fullmatch(r'\d+(x\d+){1,2}', slice_shape):
        examples = ', '.join(hardware.example for hardware in HARDWARE.values())
        raise UserError(
            f'topology {name!r} is not known; there are {examples} and larger slices, and the '
            'names of accelerator types such as v3-32'
        )
    return HARDWARE[generation]


def open_topology(name: str, devices: int | None = None) -> Topology:
    """Opens the slice `name`, such as 'v3:2x2', or its first `devices` devices.

    Raises UserError for a slice that libtpu does not know, and for more devices than it has.
    """
    hardware = check_name(name)
    check_libtpu()
    import jax
    from jax.experimental import topologies

    options = {'chip_config_name': hardware.chip_config} if hardware.chip_config else {}
    if name.endswith(':1x1'):  # libtpu's default is four chips per host
        options['chips_per_host_bounds'] = [1, 1, 1]
    try:
        found = topologies.get_topology_desc(platform='tpu', topology_name=name, **options)
    except jax.errors.JaxRuntimeError as error:
        if 'lockfile' in str(error):
            raise UserError(
                'another process has libtpu and its lock file /tmp/libtpu_lockfile; set '
                'ALLOW_MULTIPLE_LIBTPU_LOAD=1, because planning uses no TPU'
            ) from error
        raise UserError(
            f'libtpu refuses topology {name!r}: {first_line(error)}; for instance '
            f'{hardware.example}'
        ) from error
    count = len(found.devices)
    if devices is not None and devices > count:
        raise UserError(
            f'{name} has {count_of(count, "device")}, fewer than {devices}; name a larger slice'
        )
    hosts = len({device.process_index for device in found.devices})
    return Topology(
        name,
        tuple(found.devices[:devices]),
        hardware,
        chips_per_host=count // hosts // hardware.devices_per_chip,
    )


def first_line(error: Exception) -> str:
    """Returns the first line of a compiler's message, without its status code."""
    return re.sub(r'^[A-Z_]+: ', '', str(error).strip().splitlines()[0])
