"""Digests of the pixels that the input pipeline makes of three photographs, on this machine.

    PYTHONPATH=. python tests/pixels/digests.py [--threads=N]
    PYTHONPATH=. python tests/pixels/digests.py --record      # what other machines compare with

Prints JSON: 'digests', {what: digest of all its images}, and 'fuses', whether XLA here rounds a
product and the sum it goes into only once. --record writes the digests into digests.json instead.
"""

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import re
from collections.abc import Callable, Iterator

import numpy as np

from resnet_rs.utils import platforms

platforms.import_tensorflow()

import tensorflow as tf  # noqa: E402

import input_pipeline  # noqa: E402
from resnet_rs.augment import create_augment, policies  # noqa: E402
from resnet_rs.config import default_config  # noqa: E402
from resnet_rs.datasets.images import RESIZE  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
RECORD = HERE / 'digests.json'
SIZE = 160
BATCH, BATCHES = 6, 4
VARIED = (
    'autoaugment_v0',
    'color_jitter_lighting',
    'autoaugment_imagenet',
    'hue_jitter_lighting',
)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--record', action='store_true')
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    digests = {
        name: hashlib.sha256(images.tobytes()).hexdigest()[:16]
        for name, images in all_images(options.threads)
    }
    if options.record:
        record = {
            'recorder': 'tests/pixels/digests.py',
            'versions': f'tensorflow-cpu {importlib.metadata.version("tensorflow-cpu")}',
            'machine': machine(),
            'digests': digests,
        }
        RECORD.write_text(json.dumps(record, indent=1) + '\n')
    else:
        print(json.dumps({'digests': digests, 'fuses': fuses()}))


def all_images(threads: int) -> Iterator[tuple[str, np.ndarray]]:
    """Pairs of (what, uint8 [images, SIZE, SIZE, 3])."""
    crops = {resize: training_crops(threads, resize) for resize in RESIZE}
    for resize in RESIZE:
        yield f'training crop, {resize}', crops[resize]
        (batch,) = input_pipeline.eval_batches(config(threads, resize))
        yield f'evaluation crop, {resize}', batch['image']
    # After ten attempts without a crop of these sides the centre is taken.
    narrow = dict(crop_area=(0.9, 1.0), crop_ratio=(3.0, 4.0))
    yield 'training crop where none fits', training_crops(threads, 'bicubic', **narrow)
    (batch,) = input_pipeline.eval_batches(config(threads, 'bicubic', eval_crop='fraction 0.875'))
    yield 'evaluation crop of a fraction', batch['image']

    single = {
        f'{operation} at {magnitude}': create_augment(
            'randaugment', layers=1, magnitude=magnitude, operations=(operation,)
        )
        for operation in policies.RANDAUGMENT_OPERATIONS
        for magnitude in (10, 15)
    }
    for operation in ('Contrast', 'Rotate'):  # these two differ from the authors'
        single[f'{operation} of Model Garden'] = create_augment(
            'randaugment_model_garden', layers=1, operations=(operation,)
        )
    yield from augmented(crops['bicubic_tf1'], single)
    # Each image takes a few of their many ways; so there are more images.
    varied = {name: create_augment(name) for name in VARIED}
    yield from augmented(np.concatenate([crops['area']] * 4), varied)


def training_crops(threads: int, resize: str, **settings) -> np.ndarray:
    batches = input_pipeline.train_batches(config(threads, resize, **settings))
    return np.concatenate([next(batches)['image'] for _ in range(BATCHES)])


def config(threads: int, resize: str, **settings):
    config = default_config()
    config.batch_size = config.eval.batch_size = BATCH
    config.data.update(
        {
            'source': 'image_folder',
            'data_dir': str(HERE),
            'train_split': 'photographs',
            'eval_split': 'photographs',
            'image_size': SIZE,
            'resize': resize,
            'augment': 'none',
            'threads': threads,
            **settings,
        }
    )
    return config


def augmented(images: np.ndarray, augments: dict[str, Callable]) -> Iterator:
    """Pairs of (name, `images` after that augmentation), all made in one pipeline."""
    dataset = (
        tf.data.Dataset.from_tensor_slices(images)
        .enumerate()
        .map(
            lambda i, image: {
                name: augment(image, tf.stack([tf.cast(i, tf.int32), 17]))
                for name, augment in augments.items()
            },
            num_parallel_calls=2,
        )
    )
    (made,) = dataset.batch(len(images)).as_numpy_iterator()
    yield from made.items()


def fuses() -> bool:
    """Returns whether a * b - c has one rounding when XLA compiles it; True from AVX2 on."""
    a, b = np.random.default_rng(0).random((2, 1000), np.float32)
    difference = tf.function(lambda a, b, c: a * b - c, jit_compile=True)
    return bool(tf.reduce_any(difference(a, b, a * b) != 0))


def machine() -> dict[str, str]:
    """Returns the circumstances in which the digests are made."""
    description = pathlib.Path('/proc/cpuinfo').read_text()
    kinds = ('avx2', 'fma', 'avx512f', 'avx512_bf16', 'avx512_fp16', 'amx_tile')
    return {
        'cpu': re.search(r'model name\s*: (.*)', description)[1],
        'instructions': ' '.join(kind for kind in kinds if kind in description.split()),
        'libc': ' '.join(platform.libc_ver()),
        'python': platform.python_version(),
    }


if __name__ == '__main__':
    main()
