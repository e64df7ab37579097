"""Reads state dicts that torch.save wrote, without torch and without running their pickles' code.

A torch file is a pickle that names classes and functions, which an ordinary unpickler would call.
The one here knows the few that tensors need, as plain data, and refuses every other.
Source: torch 2.13, torch/serialization.py (_save, _legacy_save) and torch/_utils.py.
"""

import collections
import dataclasses
import io
import math
import pathlib
import pickle
import zipfile
from collections.abc import Callable

import ml_dtypes
import numpy as np

from resnet_rs.errors import UserError

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
# Where a training checkpoint keeps the state dict among other things.
WRAPPERS = ('state_dict', 'model')


def read_torch_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    """{name: array} of a file in torch's zip format, or in the one before it (torch 0.2 to 1.5).

    Raises UserError for anything else, for a pickle that names other classes or functions (which
    are not run), and for a damaged file.
    """
    try:
        with open(path, 'rb') as file:
            state = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(file, path)
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, AttributeError, ValueError,
            TypeError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f'{path} cannot be read as a torch file ({error or type(error).__name__}); '
                        'it is damaged, cut short or of another format') from error
    return _plain_state_dict(state, path)


class _Sealed:
    """Pickles may not set attributes of these."""

    def __setstate__(self, state):
        raise pickle.UnpicklingError('an object with a state of its own')


@dataclasses.dataclass
class _Storage(_Sealed):
    """One buffer of a file; its bytes may come later than the tensors that look into it."""

    dtype: np.dtype
    count: int
    values: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class _Tensor(_Sealed):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """A copy of the tensor's values; raises ValueError for a view beyond its storage."""
        numbers = (self.offset, *self.shape, *self.strides)
        last = self.offset + sum(
            (size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)
        )
        available = self.storage.values[self.offset:]
        if min(numbers) < 0 or max(last - self.offset + 1, math.prod(self.shape)) > len(available):
            raise ValueError('a tensor lies outside its storage')
        strides = [stride * self.storage.dtype.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(available, self.shape, strides).copy()


def _rebuild_tensor(storage, offset, shape, strides, *unused):
    del unused  # requires_grad, backward hooks, metadata
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError('a tensor without storage')
    numbers = (offset, *shape, *strides)
    if not all(isinstance(number, int) for number in numbers):
        raise pickle.UnpicklingError('a tensor whose shape is not of integers')
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *unused):
    del unused
    return tensor


ALLOWED = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch._utils', '_rebuild_tensor'): _rebuild_tensor,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
    ('torch._utils', '_rebuild_parameter'): _rebuild_parameter,
} | {('torch', name): name for name in STORAGE_DTYPES}


class _ForbiddenGlobalError(Exception):
    """Not an UnpicklingError: the file is whole, but it is not only data."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that can only build dicts, lists, numbers, text and `_Tensor`s."""

    def __init__(self, file, storage_of: Callable[[np.dtype, str, int], _Storage]):
        super().__init__(file, encoding='utf-8')
        self._storage_of = storage_of

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise _ForbiddenGlobalError(f'{module}.{name}')
        return ALLOWED[module, name]

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != 'storage':
            raise pickle.UnpicklingError('an unknown kind of storage')
        _, name, key, _, count, *view = pid
        if view and view[0] is not None:
            raise pickle.UnpicklingError('a view of a storage, as torch 0.1 wrote them')
        return self._storage_of(np.dtype(STORAGE_DTYPES[name]), key, count)


def _load(file, storage_of, path):
    try:
        return _Unpickler(file, storage_of).load()
    except _ForbiddenGlobalError as error:
        raise UserError(
            f'{path} is a pickle that asks for {error}, which plain weights do not need; it was '
            'refused and nothing of it was run. Save only the state dict, best as .safetensors'
        ) from error


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise ValueError('a zip archive without data.pkl')
        prefix = pickles[0].removesuffix('data.pkl')
        order = '<'
        if prefix + 'byteorder' in archive.namelist():
            order = {b'little': '<', b'big': '>'}[archive.read(prefix + 'byteorder')]
        storages = {}

        def storage_of(dtype, key, count):
            if key not in storages:
                data = archive.read(f'{prefix}data/{key}')
                values = np.frombuffer(data, dtype.newbyteorder(order), count).astype(dtype)
                storages[key] = _Storage(dtype, count, values)
            return storages[key]

        return _load(io.BytesIO(archive.read(pickles[0])), storage_of, path)


def _read_legacy(file, path):
    """Five pickles in a row (magic, version, system, object, storage keys), then the storages."""
    storages = {}

    def storage_of(dtype, key, count):
        return storages.setdefault(key, _Storage(dtype, count))

    if file.read(262)[257:] == b'ustar':
        raise UserError(f"{path} is in torch's oldest format, a tar archive; load it with torch "
                        'and save it anew')
    file.seek(0)
    if _load(file, storage_of, path) != LEGACY_MAGIC:
        raise ValueError('a pickle that torch.save did not write')
    _load(file, storage_of, path)
    system = _load(file, storage_of, path)
    order = '<' if system.get('little_endian', True) else '>'
    state = _load(file, storage_of, path)
    for key in _load(file, storage_of, path):
        storage = storages[key]
        count = int.from_bytes(file.read(8), 'little' if order == '<' else 'big')
        if count != storage.count:
            raise ValueError(f'storage {key} has {count} values instead of {storage.count}')
        data = file.read(count * storage.dtype.itemsize)
        storage.values = np.frombuffer(data, storage.dtype.newbyteorder(order), count).astype(
            storage.dtype
        )
    return state


def _plain_state_dict(state, path):
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state:
        raise UserError(f'{path} holds no state dict but {type(state).__name__}; save '
                        'model.state_dict()')
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, _Tensor):
            raise UserError(f'{path} holds {key!r}, which is no tensor; save only '
                            'model.state_dict()')
    try:
        return {key: value.array() for key, value in state.items()}
    except ValueError as error:
        raise UserError(f'{path} is damaged: {error}') from error
