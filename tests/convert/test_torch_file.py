"""Files of PyTorch are read without running what they hold, and damaged ones are refused."""

import os
import pathlib
import pickle
import shutil
import zipfile

import ml_dtypes
import numpy as np
import pytest

from resnet_rs.convert.torch_file import read_torch_file
from resnet_rs.utils.errors import UserError

DATA = pathlib.Path(__file__).parent / 'data'


class Malicious:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(refuse, tmp_path):
    mark = tmp_path / 'executed'
    payload = pickle.dumps({'conv1.weight': Malicious(mark)}, protocol=2)
    pickle.loads(payload)  # the payload works where it is trusted
    mark.rmdir()
    with zipfile.ZipFile(tmp_path / 'zip.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', payload)
    (tmp_path / 'plain.pth').write_bytes(payload)
    for name in ('zip.pth', 'plain.pth'):
        assert 'posix.mkdir' in refuse('timm', tmp_path / name)
        assert not mark.exists()


@pytest.mark.parametrize(
    'module, name',
    [
        ('torch._utils', '_rebuild_tensor_v2'),
        ('builtins', 'getattr'),
        ('collections', 'defaultdict'),
        ('torch', 'load'),
    ],
)
def test_only_the_globals_of_tensors_are_known(module, name, tmp_path):
    payload = f'c{module}\n{name}\n.'.encode()
    with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', payload)
    expected = 'holds no state dict' if name.startswith('_rebuild') else f'{module}.{name}'
    with pytest.raises(UserError, match=expected):
        read_torch_file(tmp_path / 'a.pth')


def test_a_tensor_may_not_look_beyond_its_storage(tmp_path):
    def write(offset, shape, stride):
        payload = (
            b'}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((U\x07storage'
            b'ctorch\nFloatStorage\nU\x010U\x03cpuI4\ntQI%d\n(I%d\nt(I%d\ntI00\nNtRs.'
        ) % (offset, shape, stride)
        with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as archive:
            archive.writestr('archive/data.pkl', payload)
            archive.writestr('archive/data/0', np.arange(4, dtype='<f4').tobytes())
        return read_torch_file(tmp_path / 'a.pth')['a'].tolist()

    assert write(1, 2, 2) == [1.0, 3.0]
    for view in ((1, 4, 1), (0, 3, 2), (4, 1, 1), (-1, 2, 1), (3, 2, -1), (0, 5, 0)):
        with pytest.raises(UserError, match='outside its storage'):
            write(*view)


@pytest.mark.parametrize('name', ['torch_zip.pth', 'torch_wrapped.pth', 'torch_legacy.pth'])
def test_files_that_torch_wrote(name):
    """Recorded with torch 2.13: views, several dtypes, a parameter, an empty tensor."""
    tensors = read_torch_file(DATA / name)
    full = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        'full': full,
        'transposed': full.T,
        'part': full[1:3, 2:5],
        'half': np.arange(5, dtype=np.float16) / np.float16(4),
        'brain': np.arange(0, 15, 3).astype(ml_dtypes.bfloat16),
        'count': np.int64(7),
        'flags': np.array([True, False]),
        'parameter': np.array([1.5, -2], np.float32),
        'empty': np.zeros((0, 3), np.float32),
        'double': np.array([[0.1]]),
    }
    assert tensors.keys() == expected.keys()
    for key, array in expected.items():
        assert tensors[key].dtype == array.dtype, key
        np.testing.assert_array_equal(tensors[key], array, err_msg=key)


@pytest.mark.parametrize('name', ['torch_zip.pth', 'torch_legacy.pth'])
def test_torch_files_cut_short(name, refuse, tmp_path):
    whole = (DATA / name).read_bytes()
    for length in range(0, len(whole) - 1, 97):
        (tmp_path / 'cut.pth').write_bytes(whole[:length])
        assert 'cut.pth' in refuse('timm', tmp_path / 'cut.pth')


def test_other_torch_content(refuse, tmp_path):
    shutil.copy(DATA / 'torch_zip.pth', tmp_path / 'a.pth')
    assert '10 tensors' in refuse('timm', tmp_path / 'a.pth')
    (tmp_path / 'tar.pth').write_bytes(b'\0' * 257 + b'ustar' + b'\0' * 250)
    assert 'tar archive' in refuse('timm', tmp_path / 'tar.pth')
    (tmp_path / 'text.pth').write_text('not weights')
    assert 'text.pth' in refuse('timm', tmp_path / 'text.pth')
