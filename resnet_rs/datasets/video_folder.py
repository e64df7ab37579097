"""Folders of videos and files of SequenceExamples, such as SPLIT-00000-of-00100.tfrecord.

A video is a folder of its frames, SPLIT/CLASS/VIDEO/FRAME, or a file, SPLIT/CLASS/VIDEO.mp4.

This module does not import TensorFlow.
"""

import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence

from etils import epath

from resnet_rs.datasets.image_folder import IMAGE_SUFFIXES, is_hidden_folder, read_entries
from resnet_rs.datasets.splits import (
    MINIVAL,
    TRAIN_WITHOUT_MINIVAL,
    DatasetInfo,
    Shard,
    SplitInfo,
)
from resnet_rs.datasets.video_file import VIDEO_SUFFIXES, check_decoder
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.files import read_text
from resnet_rs.utils.natural_order import natural_key

CLASS_NAMES = 'class_names.txt'
_FRAME_BYTES = 16  # per record of a TFRecord file: its length and two checksums


@functools.lru_cache(maxsize=8)
def find_video_folder(directory: pathlib.Path, wanted: tuple[str, ...]) -> DatasetInfo:
    """Returns the splits `wanted` of directory/SPLIT/CLASS.

    A class folder holds VIDEO/FRAME, or files of videos such as VIDEO.mp4. Classes and videos are
    ordered by name, numbers in names by their value; frames are listed when a video is read. Hidden
    files and folders and other files are ignored.

    Raises UserError for a missing folder, for a class without videos, if the splits have different
    classes, for a split with both kinds of videos, and for files of videos without a decoder.
    """
    _check_exists(directory)
    splits, classes = {}, {}
    for name in _whole_splits(wanted, lambda name: (directory / name).is_dir()):
        classes[name] = _folders(directory / name)
        splits[name] = _read_split(directory / name, classes[name])
    if not splits:
        raise UserError(
            f'{directory} has none of the folders {", ".join(wanted)}; name its folders with '
            '--config.data.train_split and --config.data.eval_split'
        )
    first, *others = classes
    for other in others:
        if odd := sorted(set(classes[first]) ^ set(classes[other])):
            raise UserError(
                f'{directory}: class {odd[0]!r} is in one of {first}/ and {other}/ alone; give '
                'each split the same class folders'
            )
    return DatasetInfo(
        str(directory), str(directory), 'video_folder', tuple(classes[first]), splits
    )


def _read_split(place: pathlib.Path, classes: Sequence[str]) -> SplitInfo:
    """Returns the split of the class folders `classes` of `place`."""
    videos, labels, example_of = [], [], {}
    for label, class_name in enumerate(classes):
        folder = place / class_name
        of_class = _videos(folder)
        if not of_class:
            raise UserError(
                f'class folder {folder} has no video; it takes VIDEO/*.jpg, a folder of frames for '
                f'each video, or files ending in {", ".join(VIDEO_SUFFIXES)}'
            )
        for name, form in of_class:
            example_of.setdefault(form, folder / name)
            videos.append(str(folder / name))
            labels.append(label)
    if len(example_of) > 1:
        raise UserError(
            f'{place} has folders of frames, such as {example_of["folder"]}, and files of videos, '
            f'such as {example_of["file"]}; give a split one kind of videos'
        )
    form = next(iter(example_of), 'folder')
    if form == 'file':
        check_decoder(str(example_of[form]))
    return SplitInfo(place.name, len(videos), (), tuple(videos), tuple(labels), video_form=form)


def _videos(folder: pathlib.Path) -> list[tuple[str, str]]:
    """Returns (name, 'folder' or 'file') of the videos of a class, in natural order."""
    files, _ = read_entries(folder)
    videos = [(name, 'folder') for name in _folders(folder)]
    videos += [(name, 'file') for name in video_files_in(files)]
    return sorted(videos, key=lambda video: natural_key(video[0]))


def video_files_in(names: Iterable[str]) -> list[str]:
    """Returns the names of files of videos among `names` in their order, without hidden ones."""
    return [
        name for name in names if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith('.')
    ]


def frames_in(names: Iterable[str]) -> list[str]:
    """Returns the names of images among `names`, those of a folder, frame 9 before frame 10."""
    frames = [
        name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')
    ]
    return sorted(frames, key=natural_key)


@functools.lru_cache(maxsize=8)
def find_sequence_examples(directory: pathlib.Path, wanted: tuple[str, ...]) -> DatasetInfo:
    """Returns the splits `wanted` of the files directory/SPLIT-NUMBER.tfrecord, in order of names.

    The number, as 00000-of-00100, also stands after '_' or '.', or at the end of the name; a split
    of one file needs none. A file of 'train_held_out' is not one of 'train'.

    The records are Model Garden's: tf.train.SequenceExample with 'clip/label/index' and
    'image/encoded'. The names of the classes are the lines of directory/class_names.txt. Raises
    UserError for missing and for damaged files.
    """
    _check_exists(directory)
    advice = 'write the names of the classes there, one a line in the order of the labels'
    if not (directory / CLASS_NAMES).exists():
        raise UserError(f'{directory} has no {CLASS_NAMES}; {advice}')
    names = tuple(read_text(directory / CLASS_NAMES, advice).splitlines())
    splits = {}

    def files_of(name):
        numbered = re.compile(re.escape(name) + r'([-_.]\d.*)?\.tfrecord.*')
        return sorted(
            path
            for path in directory.glob(f'{name}*.tfrecord*')
            if path.is_file() and numbered.fullmatch(path.relative_to(directory).as_posix())
        )

    for name in _whole_splits(wanted, files_of):
        files = files_of(name)
        counts = [count_records(str(file)) for file in files]
        shards = tuple(
            Shard(str(file), 0, count, count) for file, count in zip(files, counts, strict=True)
        )
        splits[name] = SplitInfo(
            name, sum(counts), shards, label_feature='clip/label/index', video_form='sequence'
        )
    if not splits:
        raise UserError(
            f'{directory} has no files {", ".join(f"{name}-NUMBER.tfrecord" for name in wanted)}; '
            'name its splits with --config.data.train_split and --config.data.eval_split'
        )
    return DatasetInfo(str(directory), str(directory), 'tfrecord', names, splits)


def count_records(path: str) -> int:
    """Returns the number of records of a TFRecord file, read from their lengths alone."""
    size, position, count = epath.Path(path).stat().length, 0, 0
    with epath.Path(path).open('rb') as file:
        while position < size:
            file.seek(position)
            position += int.from_bytes(file.read(8), 'little') + _FRAME_BYTES
            if position > size:
                raise UserError(
                    f'{path} is damaged after {count} records: the next is longer than the file; '
                    'copy it again'
                )
            count += 1
    return count


def _whole_splits(wanted: tuple[str, ...], exists: Callable) -> list[str]:
    """Returns the splits that those of `wanted` are parts of, and for which `exists(name)`.

    'val' replaces a missing 'validation'.
    """
    bases = [part.partition('[')[0] for name in wanted for part in name.split('+')]
    bases = ['train' if base in (MINIVAL, TRAIN_WITHOUT_MINIVAL) else base for base in bases]
    bases = ['val' if base == 'validation' and not exists(base) else base for base in bases]
    return [base for base in dict.fromkeys(bases) if exists(base)]


def _check_exists(directory: pathlib.Path) -> None:
    if not directory.is_dir():
        raise UserError(f'{directory} does not exist; name another with --config.data.data_dir')


def _folders(directory: pathlib.Path) -> list[str]:
    """Returns the names of the folders in a directory that are not hidden, in natural order."""
    folders = [name for name in read_entries(directory)[1] if not is_hidden_folder(name)]
    return sorted(folders, key=natural_key)
