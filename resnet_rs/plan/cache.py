"""Compiled programs kept on disk, found again by what they were compiled from."""

import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import tempfile

from resnet_rs.plan.topology import CACHE_DIRECTORY, Topology, check_libtpu

FORMAT = '3'  # raised when Compilation has other fields, or steps other compiler options
COMPILER_SETTINGS = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS', 'JAX_DISABLE_MOST_OPTIMIZATIONS')


class DoesNotFit(Exception):
    """The compiler found no way to fit a program; bytes as its message says, None if it does not.

    The message is the compiler's own, and long.
    """

    def __init__(self, message: str, needed: int | None, available: int | None):
        super().__init__(message)
        self.message, self.needed, self.available = message, needed, available


@dataclasses.dataclass(frozen=True)
class Compilation:
    """What is kept of a compiled program: sizes in bytes of one device, optimised HLO text.

    peak: the most that is alive at once, and the code. temporaries are all that is ever allocated;
    in a program with loops they can be more than the device has, although it fits.
    flops and bytes_accessed are XLA's cost analysis, which takes the body of a loop once.
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
    """Results of compiling, one file each, in `directory`; nothing is kept where it is None."""

    def __init__(self, directory: str | os.PathLike | None = CACHE_DIRECTORY):
        self.directory = pathlib.Path(directory) if directory else None

    def key(self, lowered, topology: Topology) -> str:
        """Of the StableHLO text, the devices, the compiler and what changes its mind."""
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
        """The result of an earlier compilation; raises DoesNotFit where that was it."""
        if self.directory is None or not (path := self._path(key)).exists():
            return None
        try:
            kept = json.loads(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, ValueError):
            return None  # cut short or of another program: compiled again, and written over
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
