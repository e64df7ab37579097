"""Small archives in the exact format of ILSVRC2012, so that tfds' own builder can be run on them.

The pictures are synthetic and learnable: a class is a colour and a direction of stripes.
"""

import io
import pathlib
import tarfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def write_archives(
    directory,
    *,
    classes: int = 5,
    train_per_class: int = 8,
    validation: int = 13,
    size: int = 64,
    seed: int = 0,
) -> pathlib.Path:
    """Writes ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into `directory`.

    tfds gives the i-th validation image the i-th of its 50,000 labels, whatever the archive
    holds. The training classes are therefore the first different ones of those labels, so that
    the trained classes are evaluated; with fewer training classes, the others occur in validation
    only.

    Args:
      directory: is created; returned as a path, to be used as tfds' manual_dir.
      classes: synsets in the training archive.
      train_per_class: images of each.
      validation: images in the validation archive.
      size: the longer side of the images, in pixels; sides differ from image to image.
      seed: the seed of the noise.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    synsets = _tfds_lines('labels.txt')
    labels = _tfds_lines('validation_labels.txt')
    with tarfile.open(directory / 'ILSVRC2012_img_train.tar', 'w') as archive:
        for synset in list(dict.fromkeys(labels))[:classes]:
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode='w') as synset_archive:
                for number in range(train_per_class):
                    jpeg = picture(synsets.index(synset), number, size, random)
                    _add(synset_archive, f'{synset}_{number}.JPEG', jpeg)
            _add(archive, f'{synset}.tar', inner.getvalue())
    with tarfile.open(directory / 'ILSVRC2012_img_val.tar', 'w') as archive:
        for number, synset in enumerate(labels[:validation]):
            jpeg = picture(synsets.index(synset), number, size, random)
            _add(archive, f'ILSVRC2012_val_{number + 1:08d}.JPEG', jpeg)
    return directory


def picture(label: int, number: int, size: int, random: np.random.Generator) -> bytes:
    """A JPEG of the given class, `size` pixels on its longer side."""
    shorter = size * (3 + number % 2) // 5
    height, width = (shorter, size) if number % 3 else (size, shorter)
    angle = label * 2.399963  # the golden angle: neighbouring classes differ most
    y, x = np.mgrid[:height, :width] / size
    stripes = np.sin(2 * np.pi * 6 * (x * np.cos(angle) + y * np.sin(angle)))
    colour = 128 + 70 * np.cos(angle * 3 + np.array([0, 2.1, 4.2]))
    pixels = colour + 40 * stripes[..., None] + random.normal(0, 12, (height, width, 3))
    encoded = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(encoded, 'JPEG', quality=85)
    return encoded.getvalue()


def _tfds_lines(name: str) -> list[str]:
    return tfds.core.tfds_path(f'datasets/imagenet2012/{name}').read_text().split()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
