"""Crops and resizing against plain numpy, and the kinds of files that data sets hold."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_rs.datasets import images
from resnet_rs.utils.rules import crop_fraction


def gradient_image(height, width):
    """Smooth and different in every channel and direction, so that a shifted crop shows."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1), (x + y) % 256]
    return np.stack(channels, -1).astype(np.uint8)


def encoded(pixels, file_format, **options):
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, file_format, **options)
    return stream.getvalue()


def cubic_weight(t):
    """Keys' kernel with a = -0.75."""
    t, a = abs(t), -0.75
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def bicubic_matrix(size_in, size_out):
    matrix = np.zeros((size_out, size_in))
    for target in range(size_out):
        source = target * size_in / size_out
        base = int(np.floor(source))
        for tap in range(base - 1, base + 3):
            matrix[target, min(max(tap, 0), size_in - 1)] += cubic_weight(source - tap)
    return matrix


@pytest.mark.parametrize(
    'height, width, size', [(20, 31, 16), (13, 9, 32), (1, 1, 4), (64, 48, 48)]
)
def test_authors_bicubic_equals_numpy(height, width, size):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    want = np.einsum(
        'ih,hwc,jw->ijc', bicubic_matrix(height, size), image, bicubic_matrix(width, size)
    )
    got = images.RESIZE['bicubic_tf1'](tf.constant(image), size).numpy()
    assert got.dtype == np.float32
    # TensorFlow looks the weights up in a table of 1,024 steps per pixel.
    assert np.abs(got - want).max() / 255 < 1e-3


@pytest.mark.parametrize('name', sorted(images.RESIZE))
def test_every_kernel_keeps_a_flat_image_and_the_type(name):
    image = tf.fill([30, 20, 3], tf.constant(77, tf.uint8))
    got = images.RESIZE[name](image, 16)
    assert got.dtype == tf.float32
    np.testing.assert_allclose(got, np.full((16, 16, 3), 77.0), atol=1e-3)


@pytest.mark.parametrize(
    'shape, size, crop, box',
    [
        # The authors: side int(min * R / (R + 32)), offsets (dim - side + 1) // 2.
        ((375, 500), 224, 'padding 32', (24, 86, 328, 328)),
        ((375, 500), 160, 'padding 32', (32, 94, 312, 312)),
        ((192, 300), 160, 'padding 32', (16, 70, 160, 160)),
        ((400, 400), 224, 'fraction 0.875', (25, 25, 350, 350)),
        ((1, 1), 224, 'padding 32', (0, 0, 1, 1)),
        ((3, 1000), 160, 'padding 32', (1, 499, 2, 2)),
        ((50, 40), 64, 'fraction 1', (5, 0, 40, 40)),
    ],
)
def test_center_box(shape, size, crop, box):
    fraction = crop_fraction(crop, size)
    assert tuple(images.center_box(tf.constant(shape), fraction).numpy()) == box


def test_random_box_keeps_to_area_and_ratio_and_varies():
    shape = tf.constant([300, 400, 3])
    fraction = crop_fraction('padding 32', 160)
    boxes = np.array(
        [
            images.random_box(
                shape,
                fraction,
                area=(0.08, 1.0),
                ratio=(3 / 4, 4 / 3),
                seed=tf.constant([7, number]),
            ).numpy()
            for number in range(400)
        ]
    )
    y, x, height, width = boxes.T
    assert (y >= 0).all() and (x >= 0).all()
    assert (y + height <= 300).all() and (x + width <= 400).all()
    area = height * width / (300 * 400)
    # An area of 0.08 to 0.1 would be that of 9 of 400 boxes.
    assert area.min() >= 0.1 and area.max() <= 1
    assert (width / height).min() > 0.74 and (width / height).max() < 1.35
    assert area.min() < 0.15 and area.max() > 0.8 and len(set(map(tuple, boxes))) > 390


def test_random_box_falls_back_to_the_centre_when_no_box_fits():
    fraction = crop_fraction('padding 32', 160)
    for number in range(5):
        box = images.random_box(
            tf.constant([10, 2000, 3]),
            fraction,
            area=(0.08, 1.0),
            ratio=(3 / 4, 4 / 3),
            seed=tf.constant([0, number]),
        )
        assert tuple(box.numpy()) == (1, 996, 8, 8)


def crop_all(content, box=None):
    return images.decode_crop(
        tf.constant(content),
        lambda shape: tf.constant(box) if box else tf.stack([0, 0, shape[0], shape[1]]),
    ).numpy()


def decoded_by_pillow(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert('RGB')).astype(int)


@pytest.mark.parametrize('file_format, tolerance', [('PNG', 0), ('JPEG', 4)])
def test_crop_is_the_part_of_the_whole(file_format, tolerance):
    content = encoded(gradient_image(60, 90), file_format)
    want = decoded_by_pillow(content)[7:37, 13:54]
    got = crop_all(content, box=(7, 13, 30, 41))
    assert got.shape == want.shape and np.abs(got - want).max() <= tolerance


def test_kinds_of_files():
    rgb = gradient_image(20, 30)
    grey = rgb[..., 0]
    rgba = np.concatenate([rgb, np.full((20, 30, 1), 128, np.uint8)], -1)
    for content, tolerance in [
        (encoded(grey, 'PNG'), 0),
        (encoded(Image.fromarray(grey).quantize(256), 'PNG'), 0),
        (encoded(rgb, 'BMP'), 0),
        (encoded(grey, 'JPEG'), 1),
        (encoded(rgb, 'JPEG', progressive=True), 4),
        (encoded(Image.fromarray(rgb).convert('CMYK'), 'JPEG'), 4),
    ]:
        got = crop_all(content)
        assert got.shape == (20, 30, 3) and got.dtype == np.uint8
        assert np.abs(got - decoded_by_pillow(content)).max() <= tolerance
    np.testing.assert_array_equal(crop_all(encoded(rgba, 'PNG')), rgb)
    sixteen_bits = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(crop_all(encoded(sixteen_bits, 'PNG')), grey[..., None] + rgb * 0)


def forms_of_rarer_kinds():
    """(name, Pillow image, options to save it) of what the names' suffixes may hold."""
    random = np.random.default_rng(0)
    rgb = Image.fromarray(gradient_image(20, 30))
    grey = rgb.convert('L')
    rgba = Image.fromarray(random.integers(0, 256, (20, 30, 4)).astype(np.uint8))
    frames = [Image.new('RGB', (30, 20), (level, 7, 99)) for level in (10, 90, 200)]
    clear = [frame.convert('RGBA') for frame in frames]
    clear[0].putpixel((3, 3), (1, 2, 3, 0))
    moving = {'save_all': True, 'lossless': True, 'exact': True}
    return [
        ('still.webp', rgb, {}),
        ('lossless.webp', rgb, {'lossless': True}),
        ('grey.webp', grey, {'lossless': True}),
        ('alpha.webp', rgba, {'lossless': True, 'exact': True}),
        ('moving.webp', frames[0], {**moving, 'append_images': frames[1:]}),
        ('moving_alpha.webp', clear[0], {**moving, 'append_images': clear[1:]}),
        ('still.gif', rgb.convert('P'), {}),
        ('interlaced.gif', grey, {'interlace': 1}),
        ('moving.gif', frames[0], {'save_all': True, 'append_images': frames[1:]}),
        ('moving.png', frames[0], {'save_all': True, 'append_images': frames[1:]}),
        ('rgb.bmp', rgb, {}),
        ('grey.bmp', grey, {}),
        ('palette.bmp', rgb.convert('P'), {}),
        ('bits.bmp', grey.convert('1'), {}),
        ('alpha.bmp', rgba, {}),
        ('deep.png', Image.fromarray(np.asarray(grey).astype(np.uint16) * 256 + 9), {}),
    ]


@pytest.mark.parametrize('form', forms_of_rarer_kinds(), ids=lambda form: form[0])
def test_rarer_kinds_are_as_pillow_reads_them(form):
    """Reads the first frame of animations, drops alpha and keeps the upper 8 of 16 bits."""
    name, image, options = form
    content = encoded(image, name.partition('.')[2].upper(), **options)
    opened = Image.open(io.BytesIO(content))
    want = np.asarray(image.convert('RGB') if name == 'alpha.webp' else opened.convert('RGB'))
    if name == 'deep.png':
        want = np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, -1)
    np.testing.assert_array_equal(crop_all(content), want)
    dataset = tf.data.Dataset.from_tensors(content)
    dataset = dataset.map(lambda data: images.decode_crop(data, lambda shape: [2, 3, 11, 13]))
    [crop] = dataset.as_numpy_iterator()
    np.testing.assert_array_equal(crop, want[2:13, 3:16])


@pytest.mark.parametrize('name', ['moving.webp', 'palette.bmp', 'still.gif', 'still.webp'])
def test_damaged_rarer_kinds_are_errors(name):
    [(_, image, options)] = [form for form in forms_of_rarer_kinds() if form[0] == name]
    content = encoded(image, name.partition('.')[2].upper(), **options)
    for kept in (2, 4, 10, 14, 20, len(content) // 2):
        with pytest.raises(tf.errors.OpError):
            crop_all(content[:kept])


@pytest.mark.parametrize('height, width', [(1, 1), (10, 2000), (2000, 10), (1, 7)])
@pytest.mark.parametrize('file_format', ['PNG', 'JPEG'])
def test_extreme_shapes(height, width, file_format):
    content = tf.constant(encoded(gradient_image(height, width), file_format))
    fraction = crop_fraction('padding 32', 16)
    resize = images.RESIZE['bicubic_tf1']
    for number in range(20):

        def random_box(shape, number=number):
            return images.random_box(
                shape, fraction, area=(0.08, 1.0), ratio=(0.75, 1.33), seed=tf.constant([1, number])
            )

        crop = images.decode_crop(content, random_box)
        assert min(crop.shape[:2]) >= 1 and resize(crop, 16).shape == (16, 16, 3)


def test_to_uint8_clips_and_truncates_or_rounds():
    values = tf.constant([-3.0, 0.6, 41.5, 254.7, 300.0])
    assert images.to_uint8(values, rounded=False).numpy().tolist() == [0, 0, 41, 254, 255]
    assert images.to_uint8(values, rounded=True).numpy().tolist() == [0, 1, 42, 255, 255]
