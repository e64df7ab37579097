"""The augmentations as the pipeline uses them: by name, seeded, inside tf.data."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import augment_references as reference
from helpers.augment_operation import IMAGE, augmented

from resnet_rs.augment import AUGMENTATIONS, create_augment, policies
from resnet_rs.utils.errors import UserError


@pytest.mark.parametrize('name', AUGMENTATIONS)
def test_same_seed_same_image(name):
    augment = create_augment(name, layers=2, magnitude=15)
    expected = augmented(augment)
    assert expected.dtype == np.uint8 and expected.shape == (24, 48, 64, 3)
    np.testing.assert_array_equal(augmented(augment, parallel=4), expected)
    graph = tf.function(augment)
    for i in range(24):
        seed = tf.constant([i, 5])
        np.testing.assert_array_equal(augment(IMAGE, seed).numpy(), expected[i])
        np.testing.assert_array_equal(graph(IMAGE, seed).numpy(), expected[i])
    different = len({image.tobytes() for image in expected})
    assert different == 1 if name == 'none' else different >= 8


def test_names_joined_by_plus_are_applied_in_turn():
    settings = {'layers': 1, 'magnitude': 10, 'operations': ('Invert',)}
    jitter = create_augment('color_jitter_lighting')
    both = augmented(create_augment('color_jitter_lighting+randaugment', **settings))
    turned = augmented(create_augment('randaugment+color_jitter_lighting', **settings))
    for i in range(24):
        first, second = tf.unstack(tf.random.split([i, 5], 2, alg='philox'))
        np.testing.assert_array_equal(both[i], 255 - jitter(IMAGE, first).numpy())
        np.testing.assert_array_equal(turned[i], jitter(255 - IMAGE, second))
    with pytest.raises(UserError, match="unknown augmentation 'jitter'"):
        create_augment('randaugment+jitter')


@pytest.mark.parametrize('magnitude', [10, 15])
def test_randaugment_operations_by_name(magnitude):
    for name in reference.POINTWISE:
        augment = create_augment('randaugment', layers=1, magnitude=magnitude, operations=(name,))
        expected = reference.POINTWISE[name](IMAGE, magnitude)
        np.testing.assert_array_equal(augment(IMAGE, [3, 4]), expected, err_msg=name)
    for name in reference.GEOMETRIC:
        augment = create_augment(
            'randaugment', layers=1, magnitude=magnitude, operations=(name,), translate_constant=12
        )
        both = {
            reference.geometric(name, IMAGE, magnitude, sign, 12.0).tobytes() for sign in (1, -1)
        }
        assert {image.tobytes() for image in augmented(augment)} == both, name


def test_randaugment_constants_are_the_authors():
    wide = np.random.default_rng(2).integers(0, 128, (200, 230, 3), dtype=np.uint8)
    augment = create_augment('randaugment', layers=1, operations=('TranslateX',))
    left, right = wide.copy(), wide.copy()
    left[:, :130], left[:, 130:] = wide[:, 100:], 128
    right[:, 100:], right[:, :100] = wide[:, :130], 128
    seen = {image.tobytes() for image in augmented(augment, wide, count=12)}
    assert seen == {left.tobytes(), right.tobytes()}

    augment = create_augment('randaugment', layers=1, operations=('Cutout',))
    sizes = [(image == 128).all(-1).sum() for image in augmented(augment, wide, count=40)]
    assert max(sizes) == 80 * 80 and min(sizes) < 80 * 80

    augment = create_augment('randaugment', layers=1, operations=('Cutout',), cutout_constant=3)
    assert max((image == 128).all(-1).sum() for image in augmented(augment, wide)) == 36


def test_layers_compose():
    image = reference.edge_images()['ramp']
    for layers in (1, 2, 3):
        result = create_augment('randaugment', layers=layers, operations=('Invert',))(image, [0, 0])
        np.testing.assert_array_equal(result, image if layers == 2 else 255 - image)
    equalized = reference.equalize(reference.equalize(IMAGE, 10), 10)
    result = create_augment('randaugment', operations=('Equalize',))(IMAGE, [0, 0])
    np.testing.assert_array_equal(result, equalized)


def test_magnitude_zero():
    moving = (*reference.GEOMETRIC, 'Cutout', 'SolarizeAdd')
    augment = create_augment('randaugment', magnitude=0, operations=moving)
    assert (augmented(augment) == IMAGE).all()
    # Enhancing operations do not start from the identity: the factor is 0.1.
    dim = create_augment('randaugment', layers=1, magnitude=0, operations=('Brightness',))
    np.testing.assert_array_equal(dim(IMAGE, [0, 0]), (IMAGE * np.float32(0.1)).astype(np.uint8))


def test_model_garden_form():
    names = policies.OPERATION_NAMES
    assert len(names) == 17 and len(set(names)) == 17 and len(policies.RANDAUGMENT_OPERATIONS) == 16
    assert set(names) - set(policies.RANDAUGMENT_OPERATIONS) == {'Identity'}
    dark = IMAGE // 2  # holds no 128, so a fill value would show
    for name in reference.GEOMETRIC:
        augment = create_augment('randaugment_model_garden', layers=1, operations=(name,))
        both = {
            reference.geometric(name, dark, 10, sign, 10.0, 'reflect').tobytes() for sign in (1, -1)
        }
        assert {image.tobytes() for image in augmented(augment, dark)} == both, name
    contrast = create_augment('randaugment_model_garden', layers=1, operations=('Contrast',))
    np.testing.assert_array_equal(
        contrast(IMAGE, [0, 0]), tf.image.adjust_contrast(IMAGE, 1.8 + 0.1)
    )
    # Of the authors' operations none leaves this image alone.
    image = 20 + IMAGE // 2
    augment = create_augment('randaugment_model_garden', layers=1)
    unchanged = (augmented(augment, image, count=600) == image).all((1, 2, 3))
    assert abs(unchanged.sum() - 600 / 17) < 4.5 * np.sqrt(600 / 17)
    augment = create_augment('randaugment', layers=1)
    assert not (augmented(augment, image, count=200) == image).all((1, 2, 3)).any()


def test_autoaugment_reaches_the_image():
    # A flat grey image tells some operations apart: most leave it; Solarize and Invert turn 200
    # into 55; Posterize turns it into 128 or 192; rotating, shearing and translating fill in 128.
    flat = np.full((30, 30, 3), 200, np.uint8)
    results = augmented(create_augment('autoaugment_v0'), flat, count=300)
    # Inverted just once, row by row of the table; the threshold of level 8 is above 200.
    inverted = (0.8 + (0.4 * 0.4 + 0.6 * 0.6) + 0.4 + 0.2 + 0.8 + 0.2 * 0.6) / 25
    seen = (results[:, 15, 15] == 55).all(-1).sum()
    assert abs(seen - 300 * inverted) < 4 * np.sqrt(300 * inverted * (1 - inverted))
    # Moved at a level above 0, or posterised to one bit and not inverted after that.
    filled = (0.8 + 0.6 + (1 - 0.8 * 0.4) + 0.6 + 0.8 + 1.0 + 0.6 + 0.4 + 0.4 + 0.8 * 0.4) / 25
    seen = (results == 128).all(-1).any((1, 2)).sum()
    assert abs(seen - 300 * filled) < 4 * np.sqrt(300 * filled * (1 - filled))


@pytest.mark.parametrize(
    'settings',
    [
        {'name': 'randaugmnet'},
        {'name': 'randaugment', 'magnitude': -1},
        {'name': 'randaugment', 'magnitude': float('nan')},
        {'name': 'randaugment', 'magnitude': 1000},
        {'name': 'randaugment', 'magnitude': '10'},
        {'name': 'randaugment', 'layers': 0},
        {'name': 'randaugment', 'layers': 1.5},
        {'name': 'randaugment', 'operations': ()},
        {'name': 'randaugment', 'operations': ('Rotate', 'Shear')},
        {'name': 'randaugment', 'translate_constant': -4},
        {'name': 'autoaugment_v0', 'operations': ('Rotate',)},
    ],
)
def test_bad_settings(settings):
    with pytest.raises(UserError) as error:
        create_augment(settings.pop('name'), **settings)
    assert '\n' not in str(error.value)


def test_errors_name_the_choices():
    with pytest.raises(UserError, match="'randaugmnet'.*randaugment_model_garden"):
        create_augment('randaugmnet')
    with pytest.raises(UserError, match=r"\['Shear'\].*ShearX"):
        create_augment('randaugment', operations=('Shear',))


def test_images_of_unknown_size_are_refused():
    augment = create_augment('randaugment')
    signature = [tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([2], tf.int32)]
    with pytest.raises(ValueError, match='known size'):
        tf.function(augment, input_signature=signature).get_concrete_function()
    with pytest.raises(ValueError, match='float32'):
        augment(tf.zeros([4, 4, 3]), [0, 0])
