"""Small text files, which may be damaged; outputs, which appear whole; the limit of open files."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
from collections.abc import Iterator
from typing import Any

from resnet_rs.utils.errors import UserError


def read_text(path, remedy: str) -> str:
    """Returns the text of `path`, a pathlib or etils.epath Path.

    Raises UserError with the file and the `remedy` if it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text()
    except FileNotFoundError as error:
        raise UserError(f'{path} is missing; {remedy}') from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path} cannot be read ({error}); {remedy}') from error


def parse_json(text: str, path, remedy: str) -> Any:
    """Returns the JSON document `text`; raises UserError as `read_text` does."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: lists in lists in lists
        raise UserError(f'{path} is damaged ({error}); {remedy}') from error


def read_json(path, remedy: str) -> Any:
    """Returns the JSON document in `path`; raises UserError as `read_text` does."""
    return parse_json(read_text(path, remedy), path, remedy)


@contextlib.contextmanager
def replacing(path) -> Iterator:
    """Yields a path next to `path` to write to, and then moves that file to `path`.

    A reader of `path`, a pathlib or etils.epath Path, sees the old file or the whole new one.
    """
    partial = path.with_name(f'{path.name}.partial')
    yield partial
    partial.replace(path)


def make_readable(folder: pathlib.Path) -> None:
    """Lets everyone read `folder` and all files in it, modes 0755 and 0644, whatever the umask."""
    for path in (folder, *folder.rglob('*')):
        path.chmod(0o755 if path.is_dir() else 0o644)


def check_absent(output: pathlib.Path, flag: str = '--output') -> None:
    """Raises UserError if `output`, the value of `flag`, exists."""
    if output.exists() or output.is_symlink():
        raise UserError(f'{output} exists already; give another {flag}')


def has_directory(path: os.PathLike) -> bool:
    """Returns whether a file can be put at `path`; a bucket makes the directory with the file."""
    return '://' in os.fspath(path) or path.parent.is_dir()


@contextlib.contextmanager
def created_whole(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path next to `output`; renames it to `output`, or removes it after an error."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f'.{output.name}.partial-{os.getpid()}')
    try:
        yield partial
        partial.rename(output)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)


def allow_open_files(count: int) -> None:
    """Raises this process's limit of open files to at least `count`, as far as the system allows.

    The limit is often 1,024. Every file of an array_record set stays open, and ImageNet has 1,024
    files for training alone.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1024
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
