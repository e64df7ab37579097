"""Colour operations of RandAugment and AutoAugment on one uint8 image [height, width, 3], RGB.

Source: the authors' `models/official/efficientnet/autoaugment.py` (tensorflow/tpu). The results
equal the authors' to the last bit, float32 roundings included; the implementation differs. The
cheapest operations are a few TensorFlow operations on the image; XLA compiles the others into one
loop each.

Two compilers may change the rounding of these formulas. XLA fuses a product and a sum into one
rounding where the processor can; `product` prevents that. TensorFlow's graph optimisation merges
chains of additions and sorts the terms by their names, but leaves subtractions alone. So sums whose
rounding decides a bit are written as differences from negated terms.

Every function returns an image of the same shape and dtype. The height and width must be static.
"""

import functools
import itertools

import numpy as np
import tensorflow as tf

compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def invert(image: tf.Tensor) -> tf.Tensor:
    """Replaces each value by 255 - value."""
    return tf.bitwise.invert(image)


def posterize(image: tf.Tensor, bits: int) -> tf.Tensor:
    """Keeps the highest `bits` bits of each value.

    With `bits` 0, as in AutoAugment's sub-policy 'Posterize, level 2', one bit stays, because
    TensorFlow limits shifts of a uint8 to 7. More than 8 bits change nothing.
    """
    cleared = min(8 - bits, 7)
    if cleared <= 0:
        return image
    return tf.bitwise.bitwise_and(image, tf.constant(0xFF >> cleared << cleared, tf.uint8))


def solarize(image: tf.Tensor, threshold: int) -> tf.Tensor:
    """Inverts values of at least `threshold` modulo 256.

    The reference compares uint8 values with a threshold that was itself turned into uint8, so 256
    (magnitude 10) inverts everything and 384 (magnitude 15) acts as 128.
    """
    threshold %= 256
    if threshold == 0:
        return invert(image)
    at_least = tf.cast(image >= tf.constant(threshold, tf.uint8), tf.uint8)
    return tf.bitwise.bitwise_xor(image, at_least * tf.constant(255, tf.uint8))


def solarize_add(image: tf.Tensor, addition: int) -> tf.Tensor:
    """Adds `addition` to values below 128, and limits the sum to 255."""
    if addition == 0:
        return image
    values = tf.cast(image, tf.float32)
    below = tf.clip_by_value(128.0 - values, 0.0, 1.0)
    return tf.cast(tf.minimum(values + below * float(addition), 255.0), tf.uint8)


def brightness(image: tf.Tensor, factor: float) -> tf.Tensor:
    """Multiplies each value by `factor`, truncated: a blend from black."""
    if factor == 1.0:
        return image
    scaled = tf.cast(image, tf.float32) * factor
    return tf.cast(scaled if factor < 1.0 else tf.minimum(scaled, 255.0), tf.uint8)


def contrast(image: tf.Tensor, factor: float) -> tf.Tensor:
    """Blends from a grey of (number of pixels / 256), at most 255.

    The reference intends the mean grey, but it averages the counts of the histogram instead of the
    values: 100 for 160x160 pixels, 196 for 224x224, 255 from 256x256 on.
    """
    height, width, _ = image.shape
    grey = float(min(height * width // 256, 255))
    return image if factor == 1.0 else blend(tf.constant(grey), image, _scalar(factor))


def contrast_by_mean(image: tf.Tensor, factor: float) -> tf.Tensor:
    """Scales the distance to the mean of each channel (TF Model Garden's Contrast)."""
    return tf.image.adjust_contrast(image, factor)


def color(image: tf.Tensor, factor: float) -> tf.Tensor:
    """Blends from the grey image (luma of `tf.image.rgb_to_grayscale`, to the last bit)."""
    return image if factor == 1.0 else _blend_from_luma(image, _scalar(factor))


def sharpness(image: tf.Tensor, factor: float) -> tf.Tensor:
    """Blends from the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13; the border stays as it is."""
    height, width, channels = image.shape
    if factor == 1.0 or height < 3 or width < 3:
        return image
    # Neighbours are shifts of the flattened image; the values that wrap at the left and the right
    # edge are overwritten.
    row = width * channels
    flat = tf.reshape(image, [-1])
    inside = _blend_from_smooth(flat, _scalar(factor), row, channels)
    result = tf.concat([flat[: row + channels], inside, flat[-row - channels :]], axis=0)
    result = tf.reshape(result, image.shape)
    return tf.concat([image[:, :1], result[:, 1:-1], image[:, -1:]], axis=1)


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel so that its least value becomes 0 and its greatest 255, truncated."""
    height, width, channels = image.shape
    rows = tf.cast(tf.reshape(image, [height, width * channels]), tf.float32)
    low = tf.reduce_min(tf.reshape(tf.reduce_min(rows, axis=0), [width, channels]), axis=0)
    high = tf.reduce_max(tf.reshape(tf.reduce_max(rows, axis=0), [width, channels]), axis=0)
    flat = high <= low
    scale = tf.where(flat, 1.0, 255.0 / (high - low))
    offset = tf.where(flat, 0.0, -low * scale)
    # Broadcasting a whole row is several times faster than broadcasting three values.
    rows = rows * tf.tile(scale, [width]) + tf.tile(offset, [width])
    return tf.reshape(tf.cast(rows, tf.uint8), image.shape)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Equalises the histogram of each channel by PIL's rule.

    With step = (pixels - count of the greatest value present) // 255, a value maps to
    (count of smaller values + step // 2) // step, at most 255; a channel of step 0 stays.
    """
    height, width, channels = image.shape
    # One histogram and one table serve the three channels: entry 256 * channel + value.
    entries = _table_entries(image)
    bins = 256 * channels
    counts = tf.histogram_fixed_width(entries, [0, bins], nbins=bins)
    counts = tf.reshape(counts, [channels, 256])
    values = tf.range(256)
    greatest = tf.reduce_max(tf.where(counts > 0, values, 0), axis=1)
    last_count = tf.gather(counts, greatest, batch_dims=1)
    step = ((height * width - last_count) // 255)[:, tf.newaxis]
    smaller = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.minimum((smaller + step // 2) // tf.maximum(step, 1), 255)
    table = tf.cast(tf.where(step == 0, values, table), tf.uint8)
    return _look_up(tf.reshape(table, [bins]), image)


@compiled
def blend(start: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Returns start + factor * (image - start), truncated to uint8.

    Args:
        start: float32 whole numbers, with a shape that broadcasts to the image's.
        image: uint8, any shape.
        factor: float32 [].

    Returns:
        uint8 of the image's shape.
    """
    return _blend(start, tf.cast(image, tf.float32), factor)


def _scalar(factor: float) -> tf.Tensor:
    """Returns `factor` as a tensor: a Python number would be traced again for each value."""
    return tf.constant(factor, tf.float32)


@compiled
def _blend_from_luma(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(tf.reshape(image, [-1, 3]), tf.float32)
    red, green, blue = tf.unstack(product(pixels, 1 / 255), axis=-1)
    luma = product(red, 0.2989) - product(green, -0.5870) - product(blue, -0.1140)
    grey = tf.floor(luma * 255.5)
    return tf.reshape(_blend(grey[:, tf.newaxis], pixels, factor), image.shape)


@compiled
def _blend_from_smooth(flat: tf.Tensor, factor: tf.Tensor, row: int, pixel: int) -> tf.Tensor:
    """Returns all but the first and last `row` + `pixel` of the flattened image's values.

    The nine products are added in the order of TensorFlow's depthwise convolution. The order
    matters, because the smoothed value is truncated: where it should be a whole number, rounding
    errors of the sum decide whether it drops by one (for 16 % of the values of flat areas).
    """
    size = flat.shape[0] - 2 * (row + pixel)

    def neighbour(down, right):
        start = down * row + right * pixel
        return tf.cast(flat[start : start + size], tf.float32)

    weight = np.float32(1) / np.float32(13)
    center_weight = np.float32(5) / np.float32(13)
    smooth = product(neighbour(0, 0), weight)
    for down, right in itertools.product(range(3), range(3)):
        if down == right == 0:
            continue
        smooth -= product(
            neighbour(down, right), -(center_weight if down == right == 1 else weight)
        )
    return _blend(tf.floor(smooth), neighbour(1, 1), factor)


@compiled
def _table_entries(image: tf.Tensor) -> tf.Tensor:
    """Returns 256 * channel + value of each value, int32 [height * width * 3]."""
    pixels = tf.cast(tf.reshape(image, [-1, 3]), tf.int32)
    return tf.reshape(pixels + tf.range(3) * 256, [-1])


@compiled
def _look_up(table: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Maps each value by `table`, uint8 [768] with 256 entries per channel."""
    pixels = tf.cast(tf.reshape(image, [-1, 3]), tf.int32)
    entries = tf.reshape(pixels + tf.range(3) * 256, [-1])
    return tf.reshape(tf.gather(table, entries), image.shape)


def _blend(start: tf.Tensor, end: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends two float images as `blend` does."""
    result = start + product(end - start, factor)
    return tf.cast(tf.clip_by_value(result, 0.0, 255.0), tf.uint8)


def product(values: tf.Tensor, factor: float | tf.Tensor) -> tf.Tensor:
    """Returns values * factor, below 2^20, always rounded to float32.

    The limit prevents a fused multiply-add, which would not round the product: the compiler can
    fuse a product only with a sum that follows at once, and it cannot know that no value reaches
    the limit.
    """
    return tf.minimum(values * factor, 2.0**20)
