"""Splits one folder of images, SOURCE/CLASS/**/FILE, into DIR/train, DIR/validation and DIR/test.

    python -m resnet_rs.datasets.split_folder SOURCE --output=DIR [--validation=0.1] [--test=0.1]

The command splits every class separately, and each part gets at least one image of each class. The
seed, the name of the class and the path of the image in it determine the part, so that the same
command makes the same parts on every machine. DIR gets hard links if the file system allows them,
else copies. SOURCE does not change; but an image that is edited in place changes on both sides of
a hard link.
"""

import argparse
import hashlib
import math
import os
import pathlib
import shutil

from resnet_rs.datasets.image_folder import read_classes
from resnet_rs.utils.errors import CommandParser, UserError, count_of, first_of, one_line_errors
from resnet_rs.utils.log_lines import log_for_people

PARTS = ('train', 'validation', 'test')


def split_folder(
    source: pathlib.Path, output: pathlib.Path, *, validation: float, test: float = 0, seed: int = 0
) -> tuple[dict[str, int], int]:
    """Writes the parts of `source` into `output`, all or nothing.

    Args:
      source: a folder with one folder per class; subfolders of a class are kept.
      output: a new or an empty folder.
      validation: fraction of each class's images, rounded to at least one image.
      test: the same; 0 for no test split.
      seed: seed of the random split.

    Returns ({part: number of images}, number of files that were copied instead of linked).
    Raises UserError for a class with too few images, and for an output that holds anything.
    """
    _check_places(source, output)
    classes, split = read_classes(source)
    if 'train' in classes and set(classes) <= {*PARTS, 'val'}:
        raise UserError(f'{source} holds {", ".join(classes)}: it is split already')
    if missing := [image for image in split.images if not os.path.isfile(image)]:
        raise UserError(f'{source} has broken links: {first_of(missing)}')
    images_of = [[] for _ in classes]
    for image, label in zip(split.images, split.labels, strict=True):
        images_of[label].append(os.path.relpath(image, source))
    fractions = {'validation': validation, **({'test': test} if test else {})}
    if few := [
        name
        for name, images in zip(classes, images_of, strict=True)
        if len(images) <= len(fractions)
    ]:
        raise UserError(
            f'a class needs an image for each of {", ".join(["train", *fractions])}, '
            f'but {len(few):,} of {source} have fewer: {first_of(few)}'
        )
    parts = {part: [] for part in ('train', *fractions)}
    for images in images_of:
        images.sort(key=lambda image: _key(image, seed))
        start = 0
        for part, count in _counts(len(images), fractions).items():
            parts[part] += images[start : start + count]
            start += count
        parts['train'] += images[start:]
    copied = _write(source, output, parts)
    return {part: len(images) for part, images in parts.items()}, copied


def _check_places(source: pathlib.Path, output: pathlib.Path) -> None:
    if not source.is_dir():
        raise UserError(f'{source} is not a folder')
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f'--output={output} lies in {source}, which stays as it is; name another')
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f'--output={output} is not empty; name a new folder')


def _key(image: str, seed: int) -> bytes:
    """Returns the sort key of an image in its class: random, but equal on every machine."""
    return hashlib.sha256(b'%d/%s' % (seed, os.fsencode(image))).digest()


def _counts(images: int, fractions: dict[str, float]) -> dict[str, int]:
    """Returns the number of images per part, at least one, with at least one left to train on."""
    counts = {
        part: max(math.floor(images * fraction + 0.5), 1) for part, fraction in fractions.items()
    }
    while sum(counts.values()) >= images:
        counts[max(counts, key=counts.get)] -= 1
    return counts


def _write(source: pathlib.Path, output: pathlib.Path, parts: dict[str, list[str]]) -> int:
    """Links or copies all files, then moves them to `output` as a whole; returns the copies."""
    output = output.absolute()
    ending = f'.partial-{os.getpid()}'
    # A folder that exists is not replaced, because it may be the working directory of a shell.
    exists = output.exists()
    partial = output / ending if exists else output.with_name(output.name + ending)
    copied = 0
    try:
        try:
            for part, images in parts.items():
                for image in images:
                    target = partial / part / image
                    target.parent.mkdir(parents=True, exist_ok=True)
                    copied += _link_or_copy(source / image, target)
            if exists:
                for part in parts:
                    (partial / part).replace(output / part)
            else:
                partial.replace(output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(f'--output={output} cannot be written ({error})') from error
    return copied


def _link_or_copy(source: pathlib.Path, target: pathlib.Path) -> bool:
    """Makes `target` the same file as `source` or a copy; returns whether it is a copy."""
    try:
        os.link(os.path.realpath(source), target)  # links the file, not a symbolic link to it
    except OSError:  # another disk, or no support for hard links
        shutil.copy2(source, target)
        return True
    return False


def _path(text: str) -> pathlib.Path:
    return pathlib.Path(text).expanduser()  # the shell does not expand ~ in --output=~/images


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number between 0 and 1')
    return value


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    parser = CommandParser(prog='python -m resnet_rs.datasets.split_folder', description=__doc__)
    parser.add_argument('source', type=_path, help='the folder that holds CLASS/*.jpg')
    parser.add_argument(
        '--output', type=_path, required=True, metavar='DIR', help='a new or an empty folder'
    )
    parser.add_argument(
        '--validation',
        type=_fraction,
        default=0.1,
        metavar='FRACTION',
        help='part of the images of each class (default: %(default)s)',
    )
    parser.add_argument(
        '--test',
        type=_fraction,
        default=0,
        metavar='FRACTION',
        help='the same (default: no test split)',
    )
    parser.add_argument('--seed', type=int, default=0, help='(default: %(default)s)')
    options = parser.parse_args(arguments)
    if options.validation + options.test >= 1:
        parser.error('--validation and --test together must be less than 1')
    with one_line_errors(UserError, OSError):
        counts, copied = split_folder(**vars(options))
    total = sum(counts.values())
    parts = ', '.join(f'{part}: {count_of(count, "image")}' for part, count in counts.items())
    kinds = ((total - copied, 'linked'), (copied, 'copied'))
    kinds = ' and '.join(f'{count:,} {kind}' for count, kind in kinds if count)
    print(f'{parts}; {kinds} into {options.output}')


if __name__ == '__main__':
    log_for_people()
    main()
