"""Colour jitter and PCA lighting of Bag of Tricks (He et al. 2019, arXiv 1812.01187, section 2.1).

The parameters are those of GluonCV's training script: factors from U[0.6, 1.4] for brightness,
contrast and saturation, no hue (the paper's text names hue, saturation and brightness), and then
noise from N(0, 0.1) along the principal components of ImageNet's RGB values.
"""

import numpy as np
import tensorflow as tf

from resnet_rs.augment import pointwise

JITTER = 0.4
LIGHTING_DEVIATION = 0.1
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Standard deviations along the principal components, on the 0-255 scale, and the components as
# columns over (red, green, blue).
EIGENVALUES = np.array([55.4625, 4.7940, 1.1475], np.float32)
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)


def color_jitter_lighting(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Jitters brightness, contrast and saturation in this order, then adds lighting noise.

    Contrast is taken about the mean luma of the image, saturation about the luma of each pixel.
    The whole transform is linear in the pixel, so each image needs one 3x3 matrix and one offset;
    the result is rounded and clipped once, at the end.

    Args:
        image: uint8 [height, width, 3], RGB.
        seed: int32 [2].

    Returns:
        uint8 [height, width, 3].
    """
    factor_seed, noise_seed = tf.unstack(tf.random.split(seed, 2, alg='philox'))
    brightness, contrast, saturation = tf.unstack(
        tf.random.stateless_uniform([3], factor_seed, 1 - JITTER, 1 + JITTER, alg='philox')
    )
    lighting = _lighting(noise_seed)
    height, width, _ = image.shape
    sums = tf.cast(_channel_sums(image), tf.float32)
    grey = brightness * tf.reduce_sum(sums * (LUMA / np.float32(height * width)))
    # Row vectors: pixel @ matrix. Luma weights sum to 1, so saturation leaves a grey offset alone.
    to_luma = tf.tile(LUMA[:, tf.newaxis], [1, 3])
    matrix = brightness * contrast * (saturation * tf.eye(3) + (1.0 - saturation) * to_luma)
    offset = (1.0 - contrast) * grey + lighting
    return _transformed(image, matrix, offset)


def hue_jitter_lighting(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Scales hue, saturation and value, each by a factor of U[0.6, 1.4], then adds lighting noise.

    This is the text of the paper, which does not say in which colour space; it is taken to be HSV.
    A hue is a part of the colour circle from red on, and wraps round; the other two are cut at 1.

    Args:
        image: uint8 [height, width, 3], RGB.
        seed: int32 [2].

    Returns:
        uint8 [height, width, 3].
    """
    factor_seed, noise_seed = tf.unstack(tf.random.split(seed, 2, alg='philox'))
    factors = tf.random.stateless_uniform([3], factor_seed, 1 - JITTER, 1 + JITTER, alg='philox')
    return _with_scaled_hue(image, factors, _lighting(noise_seed))


def _lighting(seed: tf.Tensor) -> tf.Tensor:
    """Returns what is added to red, green and blue of every pixel, float32 [3]."""
    # tf.matmul adds in an order that depends on the CPU, so it is not used here. Each product has
    # one constant, because TensorFlow's graph optimisation would merge two of them.
    components = np.float32(LIGHTING_DEVIATION) * EIGENVALUES * EIGENVECTORS
    return tf.reduce_sum(components * tf.random.stateless_normal([3], seed, alg='philox'), axis=1)


def _with_scaled_hue(image: tf.Tensor, factors: tf.Tensor, lighting: tf.Tensor) -> tf.Tensor:
    """Returns `image` with hue, saturation and value times `factors`, plus `lighting`.

    XLA is not used: in its form of the conversions it fuses products and sums where the CPU can.
    """
    scaled = factors * tf.image.rgb_to_hsv(tf.cast(image, tf.float32) * np.float32(1 / 255))
    hue, rest = scaled[..., :1], tf.minimum(scaled[..., 1:], 1.0)
    pixels = tf.image.hsv_to_rgb(tf.concat([hue - tf.floor(hue), rest], axis=-1))
    values = tf.round(pixels * 255.0 + lighting)
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)


@pointwise.compiled
def _channel_sums(image: tf.Tensor) -> tf.Tensor:
    """Returns the sum of each channel, int32 [3]; integer sums are exact in every order."""
    return tf.reduce_sum(tf.cast(image, tf.int32), axis=(0, 1))


@pointwise.compiled
def _transformed(image: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Returns pixel @ matrix + offset, rounded to uint8; the terms are added in a fixed order."""
    pixels = tf.cast(tf.reshape(image, [-1, 3]), tf.float32)
    red, green, blue = (pixels[:, channel : channel + 1] for channel in range(3))
    values = tf.round(
        pointwise.product(red, matrix[0])
        - pointwise.product(green, -matrix[1])
        - pointwise.product(blue, -matrix[2])
        - -offset
    )
    return tf.reshape(tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8), image.shape)
