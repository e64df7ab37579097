"""Small folders of videos whose frames show their number, their label and the column."""

import io
import itertools
import pathlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 20, 28
LENGTHS = {'train': (9, 12, 3), 'validation': (10, 5)}  # of the videos of each class


def encoded(frame) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, 'PNG')
    return buffer.getvalue()


def frame_of(number, label=0) -> np.ndarray:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[..., 0], frame[..., 1], frame[..., 2] = number * 10, label * 100, np.arange(WIDTH) * 9
    return frame


def write_folder(root: pathlib.Path, lengths=None) -> None:
    """Writes root/SPLIT/class0 and class1/VIDEO/FRAME.png."""
    for split, of_split in (lengths or LENGTHS).items():
        for label, (number, length) in itertools.product(range(2), enumerate(of_split)):
            folder = root / split / f'class{label}' / f'video{number}'
            folder.mkdir(parents=True)
            for index in range(length):
                (folder / f'frame{index}.png').write_bytes(encoded(frame_of(index, label)))
