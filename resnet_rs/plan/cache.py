"""A cache of compilation results on disk."""

import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import tempfile

from resnet_rs.plan.topology import CACHE_DIRECTORY, Topology, check_libtpu

FORMAT = '3'  # increases with new fields of Compilation and new compiler options of the steps
COMPILER_SETTINGS = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS', 'JAX_DISABLE_MOST_OPTIMIZATIONS')


class DoesNotFit(Exception):
    """The compiler's error for a program that does not fit the memory of a device.

    `needed` and `available` are the bytes in its message, None if it has none. The message is the
    compiler's own, and long.
    """

    def __init__(self, message: str, needed: int | None, available: int | None):
        super().__init__(message)
        self.message, self.needed, self.available = message, needed, available


@dataclasses.dataclass(frozen=True)
class Compilation:
    """The cached result of a compilation: sizes in bytes of one device, optimised HLO text.

    peak: the most memory in use at once, plus the code. temporaries: the sum of all allocations,
    which in a program with loops can exceed the device's memory although the program fits.
    flops and bytes_accessed are XLA's cost analysis, which counts the body of a loop once.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int
    peak: int
    flops: float
    bytes_accessed: float
    compile_seconds: float
    text: str


class PlanCache:
    """A cache of compilations, one file each, in `directory`; None caches nothing."""

    def __init__(self, directory: str | os.PathLike | None = CACHE_DIRECTORY):
        self.directory = pathlib.Path(directory) if directory else None

    def key(self, lowered, topology: Topology) -> str:
        """Returns a hash of the StableHLO, the topology, the compiler's version and its flags."""
        parts = [
            FORMAT,
            lowered.as_text(),
            topology.name,
            str(len(topology.devices)),
            check_libtpu(),
            *(os.environ.get(name, '') for name in COMPILER_SETTINGS),
        ]
        return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:32]

    def load(self, key: str) -> Compilation | None:
        """Returns the result of an earlier compilation, or raises its DoesNotFit."""
        if self.directory is None or not (path := self._path(key)).exists():
            return None
        try:
            kept = json.loads(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, ValueError):
            return None  # a truncated file, or that of another program: compile and replace it
        if 'needed' in kept:
            raise DoesNotFit(**kept)
        return Compilation(**kept)

    def store(self, key: str, result: Compilation | DoesNotFit) -> None:
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        fields = vars(result) if isinstance(result, DoesNotFit) else dataclasses.asdict(result)
        with tempfile.NamedTemporaryFile(dir=self.directory, delete=False) as file:
            file.write(gzip.compress(json.dumps(fields).encode(), compresslevel=3))
        os.replace(file.name, self._path(key))

    def _path(self, key: str) -> pathlib.Path:
        return self.directory / f'{key}.json.gz'
