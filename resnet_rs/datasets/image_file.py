"""Reading of single image files: upright, and with an error that names the file."""

import concurrent.futures
import io
import os
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_rs.datasets.images import MOST_PIXELS, decode_crop, silent_libraries
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.platforms import keep_devices_from_tensorflow

ORIENTATION_TAG = 274  # of EXIF


def unreadable(files: Sequence[str | os.PathLike]) -> dict[str, str]:
    """Returns {file: what is wrong} for the files that cannot be decoded whole."""

    def whole(encoded, orientation):
        return decode_crop(encoded, lambda shape: tf.stack([0, 0, shape[0], shape[1]]))

    def problem(file):
        try:
            _transformed(pathlib.Path(file), whole)
        except UserError as error:
            return str(error)

    keep_devices_from_tensorflow()
    threads = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    with silent_libraries(), threads:
        problems = threads.map(problem, files)
        return {str(file): text for file, text in zip(files, problems, strict=True) if text}


def read_image(path: pathlib.Path, transform: Callable) -> np.ndarray:
    """Reads an image file and applies `transform` (images.evaluation_transform) to it.

    Raises UserError for a file that is not an image, or whose image is too large.
    """
    with silent_libraries():
        return _transformed(path, transform).numpy()


def _transformed(path: pathlib.Path, transform: Callable):
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror})') from error
    try:
        return transform(tf.constant(encoded), exif_orientation(encoded))
    except tf.errors.OpError as error:
        raise UserError(
            f'{path} cannot be decoded: it is damaged, or not a JPEG, PNG, WebP, GIF or '
            f'BMP image, or one of more than {MOST_PIXELS:,} pixels'
        ) from error


def exif_orientation(encoded: bytes) -> int:
    """Returns the EXIF orientation of an image file, 1 to 8; 1 if it has none."""
    if not re.search(rb'exif|tiff:orientation', encoded, re.IGNORECASE):
        return 1
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            value = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # damaged EXIF data raise many kinds, and the pixels may be intact
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
