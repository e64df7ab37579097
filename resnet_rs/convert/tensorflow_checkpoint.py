"""TensorFlow's V2 checkpoints: a prefix, a directory or a tarball of one."""

import contextlib
import pathlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator

import numpy as np

from resnet_rs.errors import UserError


def read_tensors(path: pathlib.Path, wanted) -> dict[str, np.ndarray]:
    """{name: array} of the tensors of which `wanted(name)` is true.

    `path` is a prefix ('DIR/model.ckpt'), its .index file, or a directory or .tar.gz that holds
    one checkpoint, with or without the index file called `checkpoint`. Raises UserError.
    """
    import tensorflow as tf  # takes seconds; other formats do without

    with _prefix(path) as prefix:
        try:
            reader = tf.train.load_checkpoint(prefix)
            names = [name for name in reader.get_variable_to_shape_map() if wanted(name)]
            return {name: reader.get_tensor(name) for name in names}
        except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
            text = str(error).splitlines()[0]
            raise UserError(f'{path} cannot be read as a TensorFlow checkpoint ({text}); it is '
                            'damaged or incomplete') from error


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
            except (tarfile.TarError, EOFError, OSError) as error:
                raise UserError(
                    f'{path} is neither a checkpoint ({path}.index is not there), a directory, '
                    f'nor a readable tarball ({error})'
                ) from error
            yield _only_prefix(pathlib.Path(directory), path)


def _extract(path: pathlib.Path, directory: pathlib.Path) -> None:
    """Unpacks the plain files of a tarball, each at its place below `directory` and nowhere else.

    By hand, because extractall takes its safe filter only since Python 3.11.4.
    """
    with tarfile.open(path) as archive:
        for member in archive:
            target = (directory / member.name).resolve()
            if member.isfile() and target.is_relative_to(directory.resolve()):
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
