"""Augmentations, applied to one image."""

import numpy as np
import tensorflow as tf

from helpers import augment_references as reference
from resnet_rs.augment import policies

SETTINGS = policies.Settings(translate_constant=100, cutout_constant=40)
IMAGE = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
IMAGES = reference.edge_images()


def run(name, magnitude, image, negate=0, center=(0.5, 0.5), settings=SETTINGS):
    draw = policies.Draw(tf.constant(negate), tf.constant(center, tf.float32))
    operation = policies.make_operation(name, magnitude, settings)
    result = operation(tf.constant(image), draw)
    assert result.dtype == tf.uint8
    return result.numpy()


def augmented(augment, image=IMAGE, count=24, parallel=None) -> np.ndarray:
    dataset = (
        tf.data.Dataset.from_tensors(image)
        .repeat(count)
        .enumerate()
        .map(
            lambda i, image: augment(image, tf.stack([tf.cast(i, tf.int32), 5])),
            num_parallel_calls=parallel,
        )
    )
    return np.stack(list(dataset.as_numpy_iterator()))
