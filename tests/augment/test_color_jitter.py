"""Colour jitter and lighting against their formulas."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from helpers import augment_references as reference
from helpers.augment_operation import IMAGE, augmented

from resnet_rs.augment import create_augment
from resnet_rs.augment.color_jitter import EIGENVALUES, EIGENVECTORS, LUMA


def test_color_jitter_lighting_is_its_formula():
    jitter = create_augment('color_jitter_lighting')
    for i, image in enumerate([IMAGE, *reference.edge_images().values()] * 3):
        factor_seed, noise_seed = tf.unstack(tf.random.split([i, 5], 2, alg='philox'))
        brightness, contrast, saturation = (
            tf.random.stateless_uniform([3], factor_seed, 0.6, 1.4, alg='philox')
            .numpy()
            .astype(float)
        )
        alpha = tf.random.stateless_normal([3], noise_seed, stddev=0.1, alg='philox').numpy()
        expected = brightness * image.astype(float)
        expected = contrast * expected + (1 - contrast) * (expected @ LUMA).mean()
        luma = (expected @ LUMA)[..., np.newaxis]
        expected = saturation * expected + (1 - saturation) * luma
        expected = np.clip(expected + EIGENVECTORS.astype(float) @ (alpha * EIGENVALUES), 0, 255)
        # Rounded to the nearest whole number; float32 may decide about those halfway between two.
        assert np.abs(jitter(image, [i, 5]).numpy() - expected).max() < 0.5 + 1e-3


def test_hue_jitter_lighting_is_its_formula():
    """Against the colour conversions of Python's standard library."""
    jitter = create_augment('hue_jitter_lighting')
    image = IMAGE[:6, :9]
    for i in range(4):
        factor_seed, noise_seed = tf.unstack(tf.random.split([i, 5], 2, alg='philox'))
        hue, saturation, value = (
            tf.random.stateless_uniform([3], factor_seed, 0.6, 1.4, alg='philox').numpy().tolist()
        )
        alpha = tf.random.stateless_normal([3], noise_seed, stddev=0.1, alg='philox').numpy()
        noise = EIGENVECTORS.astype(float) @ (alpha * EIGENVALUES)
        found = jitter(image, [i, 5]).numpy()
        for place in np.ndindex(image.shape[:2]):
            h, s, v = colorsys.rgb_to_hsv(*(image[place] / 255))
            rgb = colorsys.hsv_to_rgb(hue * h % 1, min(saturation * s, 1), min(value * v, 1))
            expected = np.clip(255 * np.array(rgb) + noise, 0, 255)
            assert np.abs(found[place] - expected).max() < 0.5 + 1e-3


def test_color_jitter_lighting_is_within_its_limits():
    flat = np.full((8, 8, 3), 100, np.uint8)
    results = augmented(create_augment('color_jitter_lighting'), flat, count=400).astype(float)
    assert (results == results[:, :1, :1]).all()
    pixel = results[:, 0, 0]
    # On a flat grey image contrast and saturation change nothing: brightness and noise are left.
    noise = EIGENVECTORS * EIGENVALUES * 0.1
    deviation = np.sqrt((noise**2).sum(1))
    covariance = np.cov((pixel - pixel.mean(1, keepdims=True)).T)
    centred = noise - noise.mean(0)
    np.testing.assert_allclose(np.diag(covariance), (centred**2).sum(1), rtol=0.25, atol=0.15)
    assert pixel.min() > 60 - 5 * deviation.max() and pixel.max() < 140 + 5 * deviation.max()
    assert pixel[:, 0].mean() == pytest.approx(100, abs=3)
    uniform = 80 / np.sqrt(12)
    assert pixel[:, 0].std() == pytest.approx(np.hypot(uniform, deviation[0]), rel=0.1)
