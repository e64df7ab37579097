"""Every operation against its plain numpy form, to the last bit."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import augment_references as reference
from helpers.augment_operation import IMAGES, SETTINGS, run

from resnet_rs.augment import pointwise, policies


def run_in_graph(name, magnitude, images):
    """The images through one traced function: graph optimisation must not change a bit."""
    operation = policies.make_operation(name, magnitude, SETTINGS)
    draw = policies.Draw(tf.constant(0), tf.constant([0.5, 0.5]))
    function = tf.function(lambda images: [operation(image, draw) for image in images])
    return [result.numpy() for result in function([tf.constant(image) for image in images])]


@pytest.mark.parametrize('magnitude', reference.MAGNITUDES)
@pytest.mark.parametrize('name', reference.POINTWISE)
def test_pointwise(name, magnitude):
    results = run_in_graph(name, magnitude, IMAGES.values())
    for (kind, image), result in zip(IMAGES.items(), results, strict=True):
        expected = reference.POINTWISE[name](image, magnitude)
        np.testing.assert_array_equal(result, expected, err_msg=f'{kind} in a graph')
        np.testing.assert_array_equal(run(name, magnitude, image), expected, err_msg=kind)


@pytest.mark.parametrize('magnitude', [1, 3, 7, 8, 23, 27])
@pytest.mark.parametrize('name', ['Posterize', 'Solarize', 'SolarizeAdd', 'Brightness'])
def test_pointwise_at_other_magnitudes(name, magnitude):
    image = IMAGES['ramp']
    expected = reference.POINTWISE[name](image, magnitude)
    np.testing.assert_array_equal(run(name, magnitude, image), expected)


def test_solarize_threshold_wraps():
    ramp = IMAGES['ramp']
    np.testing.assert_array_equal(run('Solarize', 10, ramp), 255 - ramp)
    np.testing.assert_array_equal(run('Solarize', 15, ramp), np.minimum(ramp, 255 - ramp))
    np.testing.assert_array_equal(
        run('Solarize', 15, ramp), tf.where(tf.constant(ramp) < 128, ramp, 255 - ramp).numpy()
    )


@pytest.mark.parametrize(
    ('size', 'grey'), [(160, 100), (192, 144), (224, 196), (256, 255), (320, 255)]
)
def test_contrast_reference_grey(size, grey):
    # The reference grey is the only value that the blend leaves alone whatever the factor.
    values = np.resize(np.arange(256, dtype=np.uint8), (size, size, 3))
    result = run('Contrast', 15, values)
    assert sorted(set(values[(result == values) & (values > 0) & (values < 255)])) == (
        [grey] if grey < 255 else []
    )
    assert (result[values == grey] == grey).all()
    assert result[values == grey - 2].max() < grey - 4


@pytest.mark.parametrize('channel_step', [1, 5])
def test_luma_is_that_of_tensorflow(channel_step):
    rng = np.random.default_rng(channel_step)
    image = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) // channel_step * channel_step
    grey = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image)).numpy()
    for color in (pointwise.color, tf.function(pointwise.color)):
        np.testing.assert_array_equal(color(tf.constant(image), 0.0).numpy(), grey)


def test_luma_of_every_color_is_that_of_tensorflow():
    green, blue = np.mgrid[:256, :256]
    image = np.stack([green * 0, green, blue], -1).astype(np.uint8)
    color = tf.function(lambda image: pointwise.color(image, 0.0))
    for red in range(256):
        image[..., 0] = red
        grey = tf.image.rgb_to_grayscale(image).numpy()
        np.testing.assert_array_equal(color(image).numpy(), np.tile(grey, (1, 1, 3)))


def test_blend_of_every_pair_at_every_magnitude():
    start, image = np.mgrid[:256, :256].astype(np.uint8)
    for magnitude in range(31):
        factor = reference.enhance_factor(magnitude)
        result = pointwise.blend(
            tf.constant(start, tf.float32), tf.constant(image), tf.constant(factor, tf.float32)
        )
        np.testing.assert_array_equal(result.numpy(), reference.blend(start, image, factor))


def test_smoothing_is_the_depthwise_convolution_of_tensorflow():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (96, 80, 3), dtype=np.uint8)
    # Flat areas, where the order of adding and every rounding show.
    image[:64] = np.kron(np.arange(256, dtype=np.uint8).reshape(16, 16), np.ones((4, 5)))[..., None]
    image[64:80] = rng.integers(0, 256, (16, 1, 1))
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / np.float32(13)
    kernel = np.tile(kernel[..., np.newaxis, np.newaxis], (1, 1, 3, 1))
    smooth = tf.nn.depthwise_conv2d(
        tf.cast(image[np.newaxis], tf.float32), kernel, [1, 1, 1, 1], 'VALID'
    )
    expected = image.copy()
    expected[1:-1, 1:-1] = tf.cast(smooth[0], tf.uint8).numpy()
    for sharpness in (pointwise.sharpness, tf.function(pointwise.sharpness)):
        np.testing.assert_array_equal(sharpness(tf.constant(image), 0.0).numpy(), expected)


def test_contrast_by_mean():
    image = IMAGES['narrow']
    settings = SETTINGS._replace(contrast=pointwise.contrast_by_mean)
    for magnitude in (0, 10, 15):
        factor = reference.enhance_factor(magnitude)
        mean = image.astype(np.float64).mean((0, 1))
        # Rescaled by 255.5 / 255 on the way back from [0, 1], then truncated.
        exact = np.clip((mean + factor * (image - mean)) * 255.5 / 255, 0, 255)
        result = run('Contrast', magnitude, image, settings=settings)
        # float32 may fall on the other side of a whole number.
        assert np.abs(result - np.floor(exact)).max() <= 1
        assert (result == np.floor(exact)).mean() > 0.99
