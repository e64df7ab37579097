"""A reader of state dicts from torch.save, without torch and without running their pickles' code.

A torch file is a pickle that names classes and functions, which an ordinary unpickler would call.
data_pickle.py instead treats the few that tensors need as plain data, and refuses all others. Every
number in a file is checked against the size of the file before its use.
Source: torch 2.13, torch/serialization.py (_save, _legacy_save) and torch/_utils.py.
"""

import dataclasses
import io
import math
import mmap
import pathlib
import zipfile
import zlib

import ml_dtypes
import numpy as np

from resnet_rs.convert import data_pickle
from resnet_rs.utils.errors import UserError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_DTYPES = {
    'DoubleStorage': np.float64,
    'FloatStorage': np.float32,
    'HalfStorage': np.float16,
    'BFloat16Storage': ml_dtypes.bfloat16,
    'LongStorage': np.int64,
    'IntStorage': np.int32,
    'ShortStorage': np.int16,
    'CharStorage': np.int8,
    'ByteStorage': np.uint8,
    'BoolStorage': np.bool_,
}
# Keys under which training checkpoints store the state dict.
WRAPPERS = ('state_dict', 'model')
MOST_DIMENSIONS = 8


def read_torch_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads {name: array} from a file in torch's zip format or the older one of torch 0.2 to 1.5.

    Raises UserError for any other file, for a pickle that names other classes or functions (none is
    run), and for a damaged file.
    """
    try:
        if zipfile.is_zipfile(path):
            return _plain_state_dict(_read_zip(path), path)
        with open(path, 'rb') as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _plain_state_dict(_read_legacy(content, path), path)
    except data_pickle.ForbiddenPickleError as error:
        raise UserError(
            f'{path} is a pickle that asks for {error}, which plain weights do not need; it was '
            'refused, and none of its code was run. Save only the state dict, best as .safetensors'
        ) from error
    # RuntimeError: an encrypted member of a zip archive. ValueError: an empty file too.
    except (
        data_pickle.DamagedPickleError,
        ValueError,
        KeyError,
        EOFError,
        OSError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f'{path} cannot be read as a torch file ({error or type(error).__name__}); '
            'it is damaged, cut short or of another format'
        ) from error


@dataclasses.dataclass
class _Storage:
    """A buffer of a file, whose bytes may follow after the tensors that use it."""

    dtype: np.dtype
    count: int
    values: np.ndarray | None = None

    def fill(self, data: bytes, order: str) -> None:
        """Sets the bytes of the buffer, in the byte order '<' or '>'."""
        values = np.frombuffer(data, self.dtype.newbyteorder(order), self.count)
        self.values = values.astype(self.dtype, copy=False)


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """Returns a read-only view of the storage; raises ValueError for a view beyond it."""
        if self.storage.values is None:
            raise ValueError('a tensor whose storage is not in the file')
        numbers = (self.offset, *self.shape, *self.strides)
        last = self.offset + sum(
            (size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)
        )
        available = self.storage.values[self.offset :]
        if min(numbers) < 0 or max(last - self.offset + 1, math.prod(self.shape)) > len(available):
            raise ValueError('a tensor lies outside its storage')
        strides = [stride * self.storage.dtype.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(available, self.shape, strides, writeable=False)


def _rebuild_tensor(storage, offset, shape, strides, *unused):
    del unused  # requires_grad, backward hooks, metadata
    if not isinstance(storage, _Storage):
        raise data_pickle.DamagedPickleError('a tensor without storage')
    if max(len(shape), len(strides)) > MOST_DIMENSIONS:
        raise data_pickle.DamagedPickleError(f'a tensor of more than {MOST_DIMENSIONS} dimensions')
    if not all(isinstance(number, int) and number < 2**63 for number in (offset, *shape, *strides)):
        raise data_pickle.DamagedPickleError('a tensor whose shape is not of integers')
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *unused):
    del unused
    return tensor


def _ordered_dict(items=()):
    """Returns a dict; a pickle of Python 2 passes all items at once."""
    if not all(isinstance(key, str) for key, _ in items):
        raise data_pickle.DamagedPickleError('a dict with a key that is not text')
    return dict(items)


FUNCTIONS = {
    'collections OrderedDict': _ordered_dict,
    'torch._utils _rebuild_tensor': _rebuild_tensor,
    'torch._utils _rebuild_tensor_v2': _rebuild_tensor,
    'torch._utils _rebuild_parameter': _rebuild_parameter,
} | {f'torch {name}': name for name in STORAGE_DTYPES}


class _Storages(dict):
    """The storages that a pickle refers to, by their keys, in a file of `size` bytes."""

    def __init__(self, size: int):
        super().__init__()
        self._size = size

    def find(self, pid) -> _Storage:
        """Returns the storage of a persistent id, and creates it at the first request."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != 'storage':
            raise data_pickle.DamagedPickleError('an unknown kind of storage')
        _, name, key, _, count, *view = pid
        if view and view[0] is not None:
            raise data_pickle.DamagedPickleError('a view of a storage, as torch 0.1 wrote them')
        if not isinstance(key, str) or not isinstance(count, int):
            raise data_pickle.DamagedPickleError('a storage without a name or a size')
        if key not in self:
            dtype = np.dtype(STORAGE_DTYPES[name])
            if not 0 <= count * dtype.itemsize <= self._size:
                raise data_pickle.DamagedPickleError(
                    f'storage {key} of {count} values in a file of {self._size} bytes'
                )
            self[key] = _Storage(dtype, count)
        return self[key]


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise ValueError('a zip archive without data.pkl')
        prefix = pickles[0].removesuffix('data.pkl')
        storages = _Storages(path.stat().st_size)

        def read(name):
            # torch never compresses, so a member cannot be larger than the file.
            if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
                raise ValueError(f'{name} is compressed')
            return archive.read(name)

        order = '<'
        if prefix + 'byteorder' in names:
            order = {b'little': '<', b'big': '>'}[read(prefix + 'byteorder')]
        state = data_pickle.load(io.BytesIO(read(pickles[0])), FUNCTIONS, storages.find)
        for key, storage in storages.items():
            storage.fill(read(f'{prefix}data/{key}'), order)
        return state


def _read_legacy(file, path):
    """Reads five pickles (magic, version, system, object, storage keys), then the storages."""
    storages = _Storages(len(file))

    def load():
        return data_pickle.load(file, FUNCTIONS, storages.find)

    if file[257:262] == b'ustar':
        raise UserError(
            f"{path} is in torch's oldest format, a tar archive; load it with torch "
            'and save it anew'
        )
    if load() != LEGACY_MAGIC:
        raise ValueError('a pickle that torch.save did not write')
    load()
    system = load()
    state, keys = load(), load()
    if not isinstance(system, dict) or not isinstance(keys, list):
        raise ValueError('the pickles of a torch file in another order')
    order = '<' if system.get('little_endian', True) else '>'
    for key in keys:
        storage = storages[str(key)]
        count = int.from_bytes(file.read(8), 'little' if order == '<' else 'big')
        if count != storage.count:
            raise ValueError(f'storage {key} has {count} values instead of {storage.count}')
        storage.fill(file.read(count * storage.dtype.itemsize), order)
    return state


def _plain_state_dict(state, path):
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state:
        raise UserError(
            f'{path} holds no state dict but {type(state).__name__}; save model.state_dict()'
        )
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, _Tensor):
            raise UserError(
                f'{path} holds {key!r:.80}, which is not a tensor; save only model.state_dict()'
            )
    return {key: value.array() for key, value in state.items()}
