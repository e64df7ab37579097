"""JPEGs like ImageNet's from real photographs: 500 x 375 pixels, about 110 kB each."""

import io
import pathlib

import numpy as np

WIDTH, HEIGHT = 500, 375
BYTES = 110_000
CLASSES = 8


def write_photographs(directory: pathlib.Path, count: int, seed: int = 0) -> None:
    """Writes directory/train/CLASS/*.JPEG and one image per class under directory/validation.

    Every file is a random crop of one of nine photographs that scikit-image and scikit-learn ship,
    resized to 500 x 375, mirrored half of the time, with a little sensor noise, and stored at the
    quality whose size is closest to 110 kB, the mean of ImageNet. The function does nothing if that
    many files exist.
    """
    if len(list(directory.glob('train/*/*.JPEG'))) == count:
        return
    random = np.random.default_rng(seed)
    sources = _photographs()
    for split, number in (('train', count), ('validation', CLASSES)):
        for index in range(number):
            folder = directory / split / str(index % CLASSES)
            folder.mkdir(parents=True, exist_ok=True)
            image = _random_crop(sources[random.integers(len(sources))], random)
            (folder / f'{index:05d}.JPEG').write_bytes(_encode(image))


def _photographs():
    import skimage.data
    from sklearn.datasets import load_sample_images

    names = (
        'astronaut',
        'chelsea',
        'coffee',
        'hubble_deep_field',
        'immunohistochemistry',
        'retina',
        'rocket',
    )
    return [getattr(skimage.data, name)()[..., :3] for name in names] + load_sample_images().images


def _random_crop(photograph, random):
    from PIL import Image

    height, width = photograph.shape[:2]
    largest = min(width / WIDTH, height / HEIGHT)
    scale = largest * random.uniform(0.6, 1.0)
    crop_width, crop_height = int(WIDTH * scale), int(HEIGHT * scale)
    x, y = random.integers(width - crop_width + 1), random.integers(height - crop_height + 1)
    crop = Image.fromarray(photograph[y : y + crop_height, x : x + crop_width])
    pixels = np.asarray(crop.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS), np.float32)
    pixels = pixels[:, ::-1] if random.integers(2) else pixels
    noisy = pixels + random.normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _encode(image) -> bytes:
    low, high = 50, 98
    while low < high:
        quality = (low + high + 1) // 2
        stream = io.BytesIO()
        image.save(stream, 'JPEG', quality=quality)
        low, high = (quality, high) if stream.tell() <= BYTES else (low, quality - 1)
    stream = io.BytesIO()
    image.save(stream, 'JPEG', quality=low)
    return stream.getvalue()
