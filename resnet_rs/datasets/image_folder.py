"""Folders of images, SPLIT/CLASS/**/FILE: the files to read, their order, and the ignored files.

Directories may be local or on a bucket. This module does not import TensorFlow.
"""

import collections
import functools
import itertools
import os
import pathlib
from collections.abc import Sequence

from absl import logging

from resnet_rs.datasets.splits import MINIVAL, TRAIN_WITHOUT_MINIVAL, DatasetInfo, SplitInfo
from resnet_rs.utils.errors import UserError, count_of, first_of

# Suffixes of image files, in lower or upper case; datasets.images decodes these formats.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.gif', '.bmp')
# System folders that count as hidden although their name has no dot: macOS archives and Synology.
_HIDDEN_FOLDERS = ('__MACOSX', '@eaDir')


@functools.lru_cache(maxsize=8)
def find_image_folder(directory: pathlib.Path, wanted: tuple[str, ...]) -> DatasetInfo:
    """Returns the splits `wanted` of directory/SPLIT/CLASS/**/FILE; all must have the same classes.

    Classes are ordered by name. If all class names are numbers, as in ImageNet-V2, classes are
    ordered by number, because by name '10' would come before '2'. A folder `val` replaces a missing
    `validation`. Ignored files are logged, once per split.

    Raises UserError for a missing folder, for a class without images, for a class whose name is not
    UTF-8, which no file of a run could hold, and if the classes differ.
    """
    if not directory.is_dir():
        raise UserError(
            f'image folder {directory} does not exist; name another with --config.data.data_dir'
        )
    there = {path.name for path in directory.iterdir() if path.is_dir()}
    names = {name.partition('[')[0] for name in wanted}
    parts = {name for name in (MINIVAL, TRAIN_WITHOUT_MINIVAL) if name not in there}
    names = {'train' if name in parts else name for name in names}
    names = {'val' if name == 'validation' and name not in there else name for name in names}
    splits = {name: _Split(directory, name) for name in sorted(names & there)}
    if not splits:
        raise UserError(
            f'{directory} has none of the folders {", ".join(wanted)}; name its '
            'folders with --config.data.train_split and --config.data.eval_split'
        )
    for split in splits.values():
        for name in split.classes:
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise UserError(
                    f'{directory / split.name} has a class folder {os.fsencode(name)!r}, whose '
                    'name is not UTF-8; rename it'
                ) from error
    first, *others = splits.values()
    for other in others:
        if problem := _difference(first, other):
            raise UserError(f'{directory}: {problem}; give each split the same class folders')
    infos = {name: split.read() for name, split in splits.items()}
    return DatasetInfo(str(directory), str(directory), 'image_folder', tuple(first.classes), infos)


def read_classes(directory: pathlib.Path) -> tuple[list[str], SplitInfo]:
    """Returns the names of the classes of directory/CLASS/**/FILE, and its images as one split."""
    split = _Split(directory.parent, directory.name)
    return split.classes, split.read()


class _Split:
    """A split while it is read: its class folders, and the files ignored in it.

    Attributes:
      name: name of the folder.
      classes: names of the class folders in label order.
    """

    def __init__(self, root: pathlib.Path, name: str):
        self.name = name
        self._directory = root / name
        above = (self._directory, root, *root.absolute().parents) if '://' not in str(root) else ()
        self._above = {identity(directory) for directory in above}
        self._ignored = []  # (kind, path) of every file that is not read
        files, folders = read_entries(self._directory)
        self.classes = [folder for folder in folders if not is_hidden_folder(folder)]
        if not self.classes:
            raise UserError(f'{self._directory} has no class folders: it must hold CLASS/*.jpg')
        if all(folder.isdecimal() for folder in self.classes):
            self.classes.sort(key=int)
        for file in files:
            self._ignore(_kind(file) or 'in no class folder', file)
        for folder in sorted(set(folders) - set(self.classes)):
            self._images(self._directory / folder, hidden=True)

    def read(self) -> SplitInfo:
        """Returns the images, ordered by class; logs which files were ignored."""
        images, labels = [], []
        for label, class_name in enumerate(self.classes):
            folder = self._directory / class_name
            before = len(self._ignored)
            found = self._images(folder)
            if not found:
                ignored = _count_kinds(self._ignored[before:])
                raise UserError(
                    f'class folder {folder} has no image ending in {", ".join(IMAGE_SUFFIXES)}'
                    + (f'; it holds {ignored}' if ignored else '')
                )
            images += found
            labels.extend(itertools.repeat(label, len(found)))
        self._report(images, labels)
        return SplitInfo(self.name, len(images), (), tuple(images), tuple(labels))

    def _images(self, top, *, hidden: bool = False) -> list[str]:
        images, ignored = _images_below(top, self._directory, self._above, hidden=hidden)
        self._ignored += ignored
        return images

    def _ignore(self, kind: str, place: str) -> None:
        self._ignored.append((kind, place))

    def _report(self, images: list[str], labels: list[int]) -> None:
        depth = str(self._directory).count('/') + 2
        deeper = [image for image in images if image.count('/') > depth]
        if deeper:
            are = (
                'is in a subfolder of its class'
                if len(deeper) == 1
                else ('are in subfolders of their class')
            )
            folders = [os.path.relpath(os.path.dirname(image), self._directory) for image in deeper]
            logging.info(
                '%s: %d of %s %s (%s)',
                self._directory,
                len(deeper),
                count_of(len(images), 'image'),
                are,
                first_of(folders),
            )
        if self._ignored:
            logging.warning(
                '%s: ignored %s (%s); images end in %s',
                self._directory,
                _count_kinds(self._ignored),
                first_of([place for _, place in self._ignored]),
                ', '.join(IMAGE_SUFFIXES),
            )


def _images_below(
    top, root, above: set, *, hidden: bool = False
) -> tuple[list[str], list[tuple[str, str]]]:
    """Returns the images below `top`: those of a folder by name, then those of its subfolders.

    Each folder is read once, and none of `above`, the identities of those that contain `top`, so
    links cannot form a cycle. Returns also (why, path below `root`) of every ignored file; all of
    a hidden folder are.
    """
    images, ignored = [], []
    visited = set(above)
    stack = [(top, hidden)]
    while stack:
        folder, hidden = stack.pop()
        place = os.path.relpath(folder, root)
        if (found := identity(folder)) in visited:
            ignored.append(('links to a folder that is read already', place))
            continue
        visited.update({found} - {None})
        files, folders = read_entries(folder)
        for file in files:
            if kind := 'in hidden folders' if hidden else _kind(file):
                ignored.append((kind, os.path.join(place, file)))
            else:
                images.append(os.path.join(folder, file))
        stack += [(folder / name, hidden or is_hidden_folder(name)) for name in reversed(folders)]
    return images, ignored


def identity(directory) -> tuple[int, int] | None:
    """Returns a unique identity of a local folder; None for a bucket, which has no links."""
    if '://' in str(directory):
        return None
    status = os.stat(directory)
    return status.st_dev, status.st_ino


def read_entries(directory) -> tuple[list[str], list[str]]:
    """Returns the names of the files and of the folders in it, both sorted; links are followed."""
    files, folders = [], []
    try:
        if '://' in str(directory):
            for path in directory.iterdir():
                # On a bucket each call costs a request.
                is_folder = not path.name.lower().endswith(IMAGE_SUFFIXES) and path.is_dir()
                (folders if is_folder else files).append(path.name)
        else:
            with os.scandir(directory) as entries:
                for entry in entries:
                    # DirEntry.is_dir raises for a link to itself.
                    is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
                    (folders if is_folder else files).append(entry.name)
    except OSError as error:
        raise UserError(f'{directory} cannot be read ({error.strerror or error})') from error
    return sorted(files), sorted(folders)


def _kind(file: str) -> str:
    """Returns why a file is ignored; '' for an image."""
    if file.startswith('.'):
        return 'hidden'
    suffix = os.path.splitext(file)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return ''
    return suffix or 'without a suffix'


def is_hidden_folder(name: str) -> bool:
    return name.startswith('.') or name in _HIDDEN_FOLDERS


def _count_kinds(ignored: list[tuple[str, str]]) -> str:
    """Returns '3 files: 2 .txt, 1 hidden', or '' for none."""
    if not ignored:
        return ''
    kinds = collections.Counter(kind for kind, _ in ignored).most_common()
    kinds = ', '.join(f'{count:,} {kind}' for kind, count in kinds)
    return f'{count_of(len(ignored), "file")}: {kinds}'


def _difference(first: _Split, second: _Split) -> str:
    """Returns which classes are in one split only, such as "class 'a' is in b/ but not in c/"."""
    problems = []
    for here, there in ((first, second), (second, first)):
        odd = [repr(name) for name in here.classes if name not in set(there.classes)]
        if odd:
            what = (
                f'class {odd[0]} is'
                if len(odd) == 1
                else (f'{count_of(len(odd), "class")} ({first_of(odd)}) are')
            )
            problems.append(f'{what} in {here.name}/ but not in {there.name}/')
    return ', '.join(problems)


def find_images(paths: Sequence[str]) -> list[pathlib.Path]:
    """Returns the named files, and the images of the named folders and their subfolders.

    Of a folder it takes the files that training would, in the same order.

    Raises UserError for a path that does not exist and for a folder without images.
    """
    files = []
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            found, ignored = _images_below(path, path, set(map(identity, path.absolute().parents)))
            if not found:
                holds = f'; it holds {_count_kinds(ignored)}' if ignored else ''
                raise UserError(f'{path} holds no image ({", ".join(IMAGE_SUFFIXES)}){holds}')
            files += map(pathlib.Path, found)
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f'{path} does not exist')
    return files
