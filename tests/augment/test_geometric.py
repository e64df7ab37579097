"""Every geometric operation against its plain numpy form, to the last bit."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import augment_references as reference
from helpers.augment_operation import IMAGES, SETTINGS, run

from resnet_rs.augment import geometric


@pytest.mark.parametrize('magnitude', reference.MAGNITUDES)
@pytest.mark.parametrize('name', reference.GEOMETRIC)
def test_geometric(name, magnitude):
    for kind in ('random', 'dark', 'ramp', 'tiny'):
        image = IMAGES[kind]
        for negate, sign in ((0, 1), (1, -1)):
            # The frames are far narrower than 100 pixels; a smaller constant leaves some image.
            for translate in (100.0, 7.0, 5.5) if name.startswith('Translate') else (100.0,):
                settings = SETTINGS._replace(translate_constant=translate)
                expected = reference.geometric(name, image, magnitude, sign, translate)
                result = run(name, magnitude, image, negate, settings=settings)
                np.testing.assert_array_equal(result, expected, err_msg=f'{kind} {sign}')


@pytest.mark.parametrize('name', reference.GEOMETRIC)
def test_geometric_reflect(name):
    settings = SETTINGS._replace(translate_constant=10, fill_mode='reflect')
    for kind in ('random', 'dark'):
        image = IMAGES[kind]
        for negate, sign in ((0, 1), (1, -1)):
            for magnitude in (5, 10, 15):
                expected = reference.geometric(name, image, magnitude, sign, 10, 'reflect')
                result = run(name, magnitude, image, negate, settings=settings)
                np.testing.assert_array_equal(result, expected, err_msg=f'{kind} {sign}')


@pytest.mark.parametrize('kind', ['rotate', 'shear_x', 'shear_y'])
def test_geometric_matches_the_wrapped_kernel_at_full_size(kind):
    # The authors' way: a fourth channel of ones marks what came from inside the frame.
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (160, 224, 3), dtype=np.uint8)
    name = {'rotate': 'Rotate', 'shear_x': 'ShearX', 'shear_y': 'ShearY'}[kind]
    transform = np.array([*reference.transform_of(name, 15, -1, 160, 224), 0, 0], np.float32)
    wrapped = np.concatenate([image, np.ones((160, 224, 1), np.uint8)], -1)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=wrapped[np.newaxis],
        transforms=transform[np.newaxis],
        output_shape=[160, 224],
        fill_value=0.0,
        interpolation='NEAREST',
        fill_mode='CONSTANT',
    )[0].numpy()
    expected = np.where(moved[..., 3:] == 0, 128, moved[..., :3])
    np.testing.assert_array_equal(run(name, 15, image, negate=1), expected)


def test_directions():
    image = np.zeros((9, 9, 3), np.uint8)
    image[4, 6] = 200
    settings = SETTINGS._replace(translate_constant=2)
    assert run('TranslateX', 10, image, settings=settings)[4, 4, 0] == 200
    assert run('TranslateY', 10, image, settings=settings)[2, 6, 0] == 200
    assert run('TranslateX', 10, image, negate=1, settings=settings)[4, 8, 0] == 200
    # 30 degrees towards the top about the centre: (2, 0) goes to (1.7, -1).
    assert run('Rotate', 10, image)[3, 6, 0] == 200
    # Row 4 is taken from x + 0.3 * 4.
    assert run('ShearX', 10, image)[4, 5, 0] == 200


def test_source_pixels_of_the_identity():
    source = geometric.source_pixels(3, 5, 'rotate', 0.0, 'constant')
    np.testing.assert_array_equal(source, np.arange(15))


@pytest.mark.parametrize('magnitude', reference.MAGNITUDES)
def test_cutout(magnitude):
    image = IMAGES['random']
    height, width, _ = image.shape
    settings = SETTINGS._replace(cutout_constant=7)
    half_side = int(7 * magnitude / 10)
    for row, column in [(0, 0), (height - 1, width - 1), (20, 3), (1, 30), (17, 25)]:
        center = ((row + 0.5) / height, (column + 0.5) / width)
        result = run('Cutout', magnitude, image, center=center, settings=settings)
        np.testing.assert_array_equal(result, reference.cutout(image, row, column, half_side))


def test_cutout_of_the_authors_size():
    image = np.zeros((224, 224, 3), np.uint8)
    assert (run('Cutout', 10, image) == 128).all(-1).sum() == 80 * 80
    assert (run('Cutout', 15, image) == 128).all(-1).sum() == 120 * 120
