"""Pixels as a network takes them."""

import jax.numpy as jnp
import numpy as np

from resnet_rs.config import default_config
from resnet_rs.training.networks import normalise


def test_normalisation_of_imagenet():
    pixels = np.array([[0, 128, 255]], np.uint8)
    expected = (pixels / 255.0 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(normalise(jnp.asarray(pixels), default_config()), expected, 1e-5)
