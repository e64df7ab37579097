"""Geometric operations of RandAugment and AutoAugment on one uint8 image [height, width, 3].

Source: the authors' `models/official/efficientnet/autoaugment.py` (tensorflow/tpu) and the
`tf.contrib.image` transforms it calls. A transform (a0, a1, a2, b0, b1, b2) takes the value of the
output pixel (x, y) from the input pixel nearest to (a0 x + a1 y + a2, b0 x + b1 y + b2), halves
rounded away from zero. Pixels from outside the frame are 128 with fill mode 'constant' (the
authors' code), and come from the mirrored image with 'reflect' (TF Model Garden).

A magnitude allows two transforms only, one per sign. Tracing therefore computes the source of each
pixel, with TensorFlow's own kernel, and a training step only copies pixels. So the height and the
width must be static.
"""

import functools
import math

import numpy as np
import tensorflow as tf

FILL = 128


def rotate(image: tf.Tensor, degrees: float, negate: tf.Tensor, fill_mode: str) -> tf.Tensor:
    """Rotates about the centre by `degrees`, or by -`degrees` where `negate` (int32 []) is 1."""
    return _transform(image, 'rotate', degrees, negate, fill_mode)


def shear_x(image: tf.Tensor, level: float, negate: tf.Tensor, fill_mode: str) -> tf.Tensor:
    """Shifts row y left by `level` * y pixels; the top row stays. `negate` as in `rotate`."""
    return _transform(image, 'shear_x', level, negate, fill_mode)


def shear_y(image: tf.Tensor, level: float, negate: tf.Tensor, fill_mode: str) -> tf.Tensor:
    """Shifts column x up by `level` * x pixels; the left column stays. `negate` as in `rotate`."""
    return _transform(image, 'shear_y', level, negate, fill_mode)


def translate_x(image: tf.Tensor, pixels: float, negate: tf.Tensor, fill_mode: str) -> tf.Tensor:
    """Shifts the image left by `pixels`. `negate` as in `rotate`."""
    if fill_mode == 'constant' and float(pixels).is_integer():
        return _shift(image, int(pixels), negate, axis=1)
    return _transform(image, 'translate_x', pixels, negate, fill_mode)


def translate_y(image: tf.Tensor, pixels: float, negate: tf.Tensor, fill_mode: str) -> tf.Tensor:
    """Shifts the image up by `pixels`. `negate` as in `rotate`."""
    if fill_mode == 'constant' and float(pixels).is_integer():
        return _shift(image, int(pixels), negate, axis=0)
    return _transform(image, 'translate_y', pixels, negate, fill_mode)


def cutout(image: tf.Tensor, half_side: int, center: tf.Tensor) -> tf.Tensor:
    """Fills a square of twice `half_side` pixels with 128, in every fill mode.

    Args:
        image: uint8 [height, width, 3].
        half_side: pixels.
        center: float32 [2], (row, column) as fractions in [0, 1) of height and width. The
            square is clipped at the border of the image.
    """
    if half_side == 0:
        return image
    size = np.array(image.shape[:2], np.int32)
    pixel = tf.cast(center * size.astype(np.float32), tf.int32)
    start = tf.maximum(pixel - half_side, 0)
    end = tf.minimum(pixel + half_side, size)
    top, left = tf.unstack(start)
    bottom, right = tf.unstack(end)
    square = tf.fill([bottom - top, right - left, 3], tf.constant(FILL, tf.uint8))
    middle = tf.concat([image[top:bottom, :left], square, image[top:bottom, right:]], axis=1)
    result = tf.concat([image[:top], middle, image[bottom:]], axis=0)
    return tf.ensure_shape(result, image.shape)


def _shift(image: tf.Tensor, pixels: int, negate: tf.Tensor, axis: int) -> tf.Tensor:
    """Translates by whole pixels: slices the image padded with fill on both sides."""
    pixels = min(pixels, image.shape[axis])
    if pixels == 0:
        return image
    shape = image.shape.as_list()
    shape[axis] = pixels
    band = tf.fill(shape, tf.constant(FILL, tf.uint8))
    banded = tf.concat([band, image, band], axis=axis)
    start = 2 * pixels * (1 - negate)
    begin = [0, start, 0] if axis == 1 else [start, 0, 0]
    return tf.slice(banded, begin, image.shape)


def _transform(
    image: tf.Tensor, kind: str, amount: float, negate: tf.Tensor, fill_mode: str
) -> tf.Tensor:
    height, width, _ = image.shape
    sources = np.stack(
        [source_pixels(height, width, kind, sign * amount, fill_mode) for sign in (1.0, -1.0)]
    )
    if np.array_equal(sources[0], np.arange(height * width)) and (sources[0] == sources[1]).all():
        return image
    return _gather_pixels(image, tf.constant(sources)[negate])


@functools.partial(tf.function, jit_compile=True, autograph=False)
def _gather_pixels(image: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
    """Returns the pixels at the indices `source` (see `source_pixels`), in the shape of `image`."""
    channels = image.shape[2]
    fill = tf.fill([1, channels], tf.constant(FILL, tf.uint8))
    pixels = tf.concat([tf.reshape(image, [-1, channels]), fill], axis=0)
    return tf.reshape(tf.gather(pixels, source), image.shape)


@functools.lru_cache(maxsize=64)
def source_pixels(height: int, width: int, kind: str, amount: float, fill_mode: str) -> np.ndarray:
    """Returns the index of the input pixel of each output pixel.

    Args:
        height, width: the size of the image in pixels.
        kind: 'rotate' (amount in degrees), 'shear_x', 'shear_y' (amount is a slope),
            'translate_x' or 'translate_y' (amount in pixels).
        amount: signed.
        fill_mode: 'constant' or 'reflect'.

    Returns:
        int32 [height * width]: row * width + column of the source, or height * width for fill.
    """
    with tf.init_scope():
        pixels = tf.reshape(tf.range(height * width), [1, height, width, 1])
        transform = _parameters(height, width, kind, tf.constant(amount, tf.float32))
        source = tf.raw_ops.ImageProjectiveTransformV3(
            images=pixels,
            transforms=tf.stack([*transform, 0.0, 0.0])[tf.newaxis],
            output_shape=[height, width],
            fill_value=float(height * width),
            interpolation='NEAREST',
            fill_mode=fill_mode.upper(),
        )
        return source.numpy().reshape(-1)


def _parameters(height: int, width: int, kind: str, amount: tf.Tensor) -> tuple:
    """Returns the six numbers of the transform, rounded to float32 where the reference rounds."""
    if kind == 'shear_x':
        return 1.0, amount, 0.0, 0.0, 1.0, 0.0
    if kind == 'shear_y':
        return 1.0, 0.0, 0.0, amount, 1.0, 0.0
    if kind == 'translate_x':
        return 1.0, 0.0, amount, 0.0, 1.0, 0.0
    if kind == 'translate_y':
        return 1.0, 0.0, 0.0, 0.0, 1.0, amount
    radians = amount * (math.pi / 180.0)
    cos, sin = tf.cos(radians), tf.sin(radians)
    right, bottom = width - 1.0, height - 1.0
    x_offset = (right - (cos * right - sin * bottom)) / 2.0
    y_offset = (bottom - (sin * right + cos * bottom)) / 2.0
    return cos, -sin, x_offset, sin, cos, y_offset
