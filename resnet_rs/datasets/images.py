"""From encoded bytes to a square uint8 image: crop, decode only the crop, resize.

The formats are JPEG (grey and CMYK too), PNG, WebP, GIF and BMP; the bytes decide, not the file
name. Grey becomes three equal channels, alpha is dropped, 16-bit PNG keeps its upper 8 bits, and an
animation yields its first frame. As in the authors' code, the EXIF orientation is ignored unless
the caller of `evaluation_transform` passes one.
"""

import contextlib
import fractions
import io
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from resnet_rs.config.relations import LEAST_CROP_AREA
from resnet_rs.datasets.computed_labels import pixel_scale
from resnet_rs.utils.rules import crop_fraction

# A file of a few kilobytes can claim any number of pixels. Resizing this many takes 1.3 GiB; the
# limit is that of Pillow's Image.MAX_IMAGE_PIXELS.
MOST_PIXELS = 89_478_485
# {EXIF orientation: (reverse the rows, reverse the columns, then transpose)}: how to turn stored
# pixels upright (EXIF 2.32, tag 274).
ORIENTATIONS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}
_HEADER_BYTES = 21  # start of a WebP file, up to the flags of its first chunk


def _bicubic_tf1(image, size):
    """Resizes as the authors: source = target * in / out, a = -0.75, clamped, no antialiasing.

    PIL's, PyTorch's and TF 2's bicubic differ: they shift by half a pixel.
    """
    # The op converts every tap of an integer image again; from floats it takes half the time.
    return tf.raw_ops.ResizeBicubic(
        images=tf.cast(image, tf.float32)[None],
        size=_height_and_width(size),
        align_corners=False,
        half_pixel_centers=False,
    )[0]


def _tf2_resize(method, antialias=False):
    def resize(image, size):
        return tf.image.resize(image, _height_and_width(size), method=method, antialias=antialias)

    return resize


def _height_and_width(size):
    return [size, size] if isinstance(size, int) else size


# uint8 [h, w, 3] and a side, or a height and a width -> float32; bicubic ones may overshoot
# [0, 255].
RESIZE = {
    'bicubic_tf1': _bicubic_tf1,
    'bicubic': _tf2_resize('bicubic'),
    'bicubic_antialias': _tf2_resize('bicubic', antialias=True),
    'bilinear': _tf2_resize('bilinear'),
    'bilinear_antialias': _tf2_resize('bilinear', antialias=True),
    'area': _tf2_resize('area'),
}


def center_box(shape, fraction: fractions.Fraction | None):
    """Returns the centred square (y, x, height, width), int32 [4], for a `shape` (h, w, ...).

    With a `fraction` of None it is the whole image, which need not be square.
    """
    height, width = shape[0], shape[1]
    if fraction is None:
        return tf.stack([0, 0, height, width])
    shorter = tf.cast(tf.minimum(height, width), tf.int64)
    # Integer arithmetic, because a float product may fall just below the exact integer.
    side = tf.cast(shorter * fraction.numerator // fraction.denominator, tf.int32)
    side = tf.maximum(side, 1)
    return tf.stack([(height - side + 1) // 2, (width - side + 1) // 2, side, side])


def image_shape(encoded):
    """Returns the shape (h, w, channels) of an encoded image, int32 [3]."""
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.extract_jpeg_shape(encoded),
        lambda: tf.shape(_decode_other(encoded)),
    )


def random_box(shape, fraction, *, area, ratio, seed, attempts=10):
    """Draws a random (y, x, height, width), int32 [4], for Inception-style cropping.

    `area` is the range of the box's share of the image; shares below LEAST_CROP_AREA are never
    drawn. `ratio` is the range of width / height. After `attempts` that failed TensorFlow's op
    returns the whole image; like the authors' code this function then returns the centre crop
    (Szegedy et al. 2015), unless `fraction` is None.
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=LEAST_CROP_AREA,
        aspect_ratio_range=ratio,
        area_range=area,
        max_attempts=attempts,
    )
    box = tf.concat([begin[:2], extent[:2]], axis=0)
    if fraction is None:
        return box
    is_whole = tf.reduce_all(extent[:2] == shape[:2])
    return tf.where(is_whole, center_box(shape, fraction), box)


def decode_crop(encoded, choose_box, decode_other=None):
    """Decodes the box that `choose_box(shape int32 [3])` returns, uint8 [height, width, 3].

    `decode_other` decodes files that are not JPEGs; by default those of all formats.

    Raises tf.errors.InvalidArgumentError for bytes that hold no image, or one of more than
    MOST_PIXELS.
    """

    def crop_jpeg():
        shape = _checked(tf.io.extract_jpeg_shape(encoded))
        return tf.io.decode_and_crop_jpeg(encoded, choose_box(shape), channels=3)

    def crop_other():
        image = tf.ensure_shape((decode_other or _decode_other)(encoded), [None, None, 3])
        y, x, height, width = tf.unstack(choose_box(_checked(tf.shape(image))))
        return image[y : y + height, x : x + width]

    return tf.cond(tf.io.is_jpeg(encoded), crop_jpeg, crop_other)


def decode_png_or_gif(encoded):
    """Decodes a PNG file or the first frame of a GIF file, uint8 [height, width, 3]."""
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _decode_other(encoded):
    """Decodes an image that is not a JPEG, uint8 [height, width, 3]."""

    # tf.io.decode_image reads palette indices of BMP as grey levels, needs WebP's own number of
    # channels, and writes outside its buffer for a WebP animation.
    def still_webp():
        return tf.io.decode_image(encoded, channels=0, expand_animations=False)[..., :3]

    def by_pillow():
        # A list of one, because a single string has different types in eager mode and in a graph.
        return tf.numpy_function(_decode_by_pillow, [encoded[None]], tf.uint8, stateful=False)

    def webp_or_bmp():
        header = tf.strings.substr(encoded, 0, _HEADER_BYTES) + tf.constant(bytes(_HEADER_BYTES))
        is_extended = tf.strings.substr(header, 12, 4) == b'VP8X'
        flags = tf.io.decode_raw(tf.strings.substr(header, 20, 1), tf.uint8)[0]
        is_still_webp = is_webp & ~(is_extended & (flags & 2 > 0))
        return tf.cond(is_still_webp, still_webp, by_pillow)

    start = tf.strings.substr(encoded, 0, 2)
    is_webp = start == b'RI'
    return tf.cond(is_webp | (start == b'BM'), webp_or_bmp, lambda: decode_png_or_gif(encoded))


def _decode_by_pillow(encoded: Sequence[bytes]) -> np.ndarray:
    from PIL import Image  # few files need it

    try:
        with Image.open(io.BytesIO(encoded[0]), formats=('BMP', 'WEBP')) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError('an image of more than MOST_PIXELS')
            return np.asarray(image.convert('RGB'))
    except Exception as error:  # of many kinds; TensorFlow passes on its own errors only
        raise tf.errors.InvalidArgumentError(None, None, str(error)) from error


def _checked(shape):
    """Returns `shape` (h, w, ...), and raises an error if it has too many pixels."""
    most = tf.constant(MOST_PIXELS, tf.int64)
    pixels = tf.reduce_prod(tf.cast(shape[:2], tf.int64))
    check = tf.debugging.assert_less_equal(pixels, most, 'an image of more than MOST_PIXELS')
    with tf.control_dependencies([check]):
        return tf.identity(shape)


def to_uint8(image, *, rounded: bool):
    """Clips a float image to [0, 255]; truncates unless `rounded`."""
    # tf.clip_by_value takes two passes, this operation one.
    image = tf.raw_ops.ClipByValue(t=image, clip_value_min=0.0, clip_value_max=255.0)
    return tf.cast(tf.round(image) if rounded else image, tf.uint8)


def training_transform(data, second_size: int = 0):
    """Returns the function from encoded bytes and a seed, int32 [2], to a random crop.

    `data` is config.data; the crop is uint8 [S, S, 3] with S = data.image_size. With
    data.train_crop 'evaluation' it is that of evaluation. With a `second_size` the function returns
    a pair: the crop, and the same part of the image at that size.
    """
    size = data.image_size
    resize = RESIZE[data.resize]
    fraction = crop_fraction(data.eval_crop, size)
    area, ratio = tuple(data.crop_area), tuple(data.crop_ratio)
    scale, as_evaluated = pixel_scale(data), data.train_crop == 'evaluation'

    def transform(encoded, seed):
        def choose_box(shape):
            if as_evaluated:
                return center_box(shape, fraction)
            return random_box(shape, fraction, area=area, ratio=ratio, seed=seed)

        crop = _scaled(decode_crop(encoded, choose_box), scale)
        sizes = (size, second_size) if second_size else (size,)
        # Evaluation rounds, the authors' training truncates.
        crops = tuple(to_uint8(resize(crop, each), rounded=as_evaluated) for each in sizes)
        return crops if second_size else crops[0]

    return transform


def _scaled(crop, scale: int):
    return crop if scale == 1 else crop * scale


def random_flip(image, seed):
    """Returns `image` [..., height, width, 3], mirrored for half of all seeds, int32 [2]."""
    # The sign bit of a random integer is a fair coin.
    return tf.cond(seed[0] < 0, lambda: tf.reverse(image, [-2]), lambda: image)


def evaluation_transform(data, size: int, decode_other=None):
    """Returns evaluation's function from encoded bytes to uint8 [size, size, 3].

    `data` is config.data. The function's second argument is an EXIF orientation, 1 by default.
    `decode_other` is that of `decode_crop`.
    """
    resize = RESIZE[data.resize]
    fraction = crop_fraction(data.eval_crop, size)
    scale = pixel_scale(data)

    def choose_box(shape):
        return center_box(shape, fraction)

    def transform(encoded, orientation=1):
        if orientation == 1:
            crop = decode_crop(encoded, choose_box, decode_other)
        else:
            crop = _decode_upright_crop(encoded, choose_box, orientation)
        return to_uint8(resize(_scaled(crop, scale), size), rounded=True)

    return transform


def _decode_upright_crop(encoded, choose_box, orientation: int):
    """Decodes the box that `choose_box` returns for the upright image, and turns it upright."""
    rows, columns, exchanged = ORIENTATIONS[orientation]

    def stored_box(shape):
        stored_height, stored_width = shape[0], shape[1]
        upright = [stored_width, stored_height] if exchanged else [stored_height, stored_width]
        y, x, height, width = tf.unstack(choose_box(tf.stack(upright)))
        if exchanged:
            y, x, height, width = x, y, width, height
        if rows:
            y = stored_height - y - height
        if columns:
            x = stored_width - x - width
        return tf.stack([y, x, height, width])

    crop = decode_crop(encoded, stored_box)
    crop = tf.reverse(crop, [axis for axis, turned in enumerate((rows, columns)) if turned])
    return tf.transpose(crop, [1, 0, 2]) if exchanged else crop


@contextlib.contextmanager
def silent_libraries() -> Iterator[io.TextIOBase]:
    """Keeps libjpeg, libpng and TensorFlow from writing to stderr.

    Yields a stream to stderr for the caller's own messages.
    """
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with open(stderr, 'w', closefd=False) as stream:
            yield stream
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
