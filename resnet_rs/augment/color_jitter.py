"""Colour jitter and PCA lighting of Bag of Tricks (He et al. 2019, arXiv 1812.01187, section 2.1).

The figures are those of GluonCV's training script: brightness, contrast and saturation each by a
factor of U[0.6, 1.4] and no hue (the paper's text names hue, saturation and brightness), then
noise along the principal components of ImageNet's RGB values, N(0, 0.1).
"""

import numpy as np
import tensorflow as tf

JITTER = 0.4
LIGHTING_DEVIATION = 0.1
LUMA = (0.299, 0.587, 0.114)
# Standard deviations along the principal components, on the 0-255 scale, and the components as
# columns over (red, green, blue).
EIGENVALUES = np.array([55.4625, 4.7940, 1.1475], np.float32)
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]],
    np.float32)


def color_jitter_lighting(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Jitters brightness, contrast and saturation in this order, then adds lighting noise.

    Contrast is taken about the mean luma of the image, saturation about the luma of each pixel.
    All of it is linear in the pixel, so it is one 3x3 matrix and one offset per image; the result
    is rounded and clipped once, at the end.

    Args:
        image: uint8 [height, width, 3], RGB.
        seed: int32 [2].

    Returns:
        uint8 [height, width, 3].
    """
    factor_seed, noise_seed = tf.unstack(tf.random.split(seed, 2, alg='philox'))
    brightness, contrast, saturation = tf.unstack(tf.random.stateless_uniform(
        [3], factor_seed, 1 - JITTER, 1 + JITTER, alg='philox'))
    alpha = tf.random.stateless_normal(
        [3], noise_seed, stddev=LIGHTING_DEVIATION, alg='philox')
    lighting = tf.linalg.matvec(EIGENVECTORS, alpha * EIGENVALUES)

    pixels = tf.reshape(tf.cast(image, tf.float32), [-1, 3])
    mean = tf.reduce_mean(pixels, axis=0)
    luma = tf.constant(LUMA)
    grey = brightness * tf.tensordot(mean, luma, 1)
    # Row vectors: pixel @ matrix. Luma weights sum to 1, so saturation leaves a grey offset alone.
    to_luma = tf.tile(luma[:, tf.newaxis], [1, 3])
    matrix = brightness * contrast * (saturation * tf.eye(3) + (1.0 - saturation) * to_luma)
    offset = (1.0 - contrast) * grey + lighting
    result = tf.round(tf.matmul(pixels, matrix) + offset)
    return tf.reshape(tf.cast(tf.clip_by_value(result, 0.0, 255.0), tf.uint8), image.shape)
