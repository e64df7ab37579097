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
    for folder, length, label in _videos(root, lengths):
        folder.mkdir(parents=True)
        for index in range(length):
            (folder / f'frame{index}.png').write_bytes(encoded(frame_of(index, label)))


def write_files(root: pathlib.Path, lengths=None) -> None:
    """Writes the same videos without loss as root/SPLIT/CLASS/VIDEO.mkv."""
    for folder, length, label in _videos(root, lengths):
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_file(folder.with_suffix('.mkv'), length, label, codec='ffv1')


def _videos(root: pathlib.Path, lengths):
    for split, of_split in (lengths or LENGTHS).items():
        for label, (number, length) in itertools.product(range(2), enumerate(of_split)):
            yield root / split / f'class{label}' / f'video{number}', length, label


def write_file(path: pathlib.Path, length: int, label=0, codec='libx264', **settings) -> None:
    """Writes a video of frames as `frame_of` has them; after 25 frames they begin anew.

    In all codecs but 'ffv1' there is a loss, and frames are four times as large.
    """
    import av

    scale = 1 if codec == 'ffv1' else 4
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = scale * WIDTH, scale * HEIGHT
        stream.pix_fmt = {'ffv1': 'bgr0', 'mjpeg': 'yuvj420p'}.get(codec, 'yuv420p')
        stream.codec_context.gop_size, stream.codec_context.bit_rate = 6, 4_000_000
        if rotation := settings.pop('rotation', 0):
            stream.set_display_rotation(rotation)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for number in range(length):
            pixels = frame_of(number % 25, label).repeat(scale, 0).repeat(scale, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
        container.mux(stream.encode())
