"""TensorFlow's V2 checkpoints: a prefix, a directory or a tarball of one."""

import contextlib
import glob
import pathlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator

import numpy as np

from resnet_rs.convert.apart import BrokenDown, call_apart
from resnet_rs.utils.errors import UserError

MOST_EXPANDED = 20  # times the size of a tarball; weights hardly shrink when they are compressed


def read_tensors(path: pathlib.Path, wanted) -> dict[str, np.ndarray]:
    """Reads the tensors with `wanted(name)` as {name: array}.

    `path` is a prefix ('DIR/model.ckpt'), its .index file, or a directory or .tar.gz with one
    checkpoint, with or without the index file `checkpoint`. Raises UserError for any other file.
    """
    with _prefix(path) as prefix:
        parts = pathlib.Path(prefix)
        size = sum(
            part.stat().st_size for part in parts.parent.glob(f'{glob.escape(parts.name)}.*')
        )
        try:
            problem, tensors = call_apart(_read, prefix, wanted, size=size, library='tensorflow')
        except BrokenDown as error:
            problem = str(error)
    if problem:
        raise UserError(
            f'{path} cannot be read as a TensorFlow checkpoint ({problem}); it is '
            'damaged or incomplete'
        )
    return tensors


def _read(prefix: str, wanted) -> tuple[str, dict[str, np.ndarray]]:
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(prefix)
        names = [name for name in reader.get_variable_to_shape_map() if wanted(name)]
        return '', {name: reader.get_tensor(name) for name in names}
    except Exception as error:  # some of TensorFlow's status codes become Python's own exceptions
        return (str(error).splitlines() or [type(error).__name__])[0], {}


@contextlib.contextmanager
def _prefix(path: pathlib.Path) -> Iterator[str]:
    if path.is_dir():
        yield _only_prefix(path, path)
    elif path.suffix == '.index':
        yield str(path.with_suffix(''))
    elif path.with_name(path.name + '.index').exists():
        yield str(path)
    else:
        with tempfile.TemporaryDirectory() as directory:
            try:
                _extract(path, pathlib.Path(directory))
            except UserError:
                raise
            except Exception as error:  # tarfile, decompressors and disk raise many kinds
                raise UserError(
                    f'{path} is neither a checkpoint ({path}.index is not there), a directory, '
                    f'nor a readable tarball ({error})'
                ) from error
            yield _only_prefix(pathlib.Path(directory), path)


def _extract(path: pathlib.Path, directory: pathlib.Path) -> None:
    """Unpacks the plain files of a tarball, and writes nowhere else than below `directory`.

    extractall has its safe filter only since Python 3.11.4.
    """
    room = MOST_EXPANDED * path.stat().st_size
    with tarfile.open(path) as archive:
        for member in archive:
            target = (directory / member.name).resolve()
            if member.isfile() and target.is_relative_to(directory.resolve()):
                room -= member.size
                if room < 0:
                    raise UserError(
                        f'{path} would be more than {MOST_EXPANDED} times as large '
                        'unpacked; it does not hold weights'
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.extractfile(member) as source, target.open('wb') as file:
                    shutil.copyfileobj(source, file)


def _only_prefix(directory, path):
    found = sorted(directory.rglob('*.index'))
    if len(found) == 1:
        return str(found[0].with_suffix(''))
    if not found:
        raise UserError(f'{path} holds no checkpoint: there is no .index file in it')
    names = ', '.join(str(index.relative_to(directory).with_suffix('')) for index in found)
    raise UserError(f'{path} holds {len(found)} checkpoints: {names}; give the path of one')
