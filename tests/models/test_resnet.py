"""Logits of hash-filled networks against timm's (float64, eval mode, 64 x 64 pixels)."""

import json
import pathlib

import jax
import numpy as np
import pytest
from helpers.hash_filled import hash_filled_variables, hash_images, hash_values

from resnet_rs.models import create_model

GOLDEN = json.loads(pathlib.Path(__file__).with_name('reference_logits.json').read_text())
REFERENCE = GOLDEN['logits']
NAMES = {
    'resnet18': 'resnet_18',
    'resnet34': 'resnet_34',
    'resnet50': 'resnet_50',
    'resnet50:v1': 'resnet_50_v1',
    'resnet50c': 'resnet_50c',
    'resnet50d': 'resnet_50d',
    'seresnet50': 'se_resnet_50',
    'resnetrs50': 'resnet_rs_50',
}


def test_hash_recipe():
    first_four = (hash_values('input', (1, 3, 64, 64)).ravel()[:4] + 1) / 2
    expected = (0.1341009168, 0.7915918678, 0.7252801878, 0.9098955928)
    np.testing.assert_allclose(first_four, expected, atol=1e-10)


@pytest.mark.parametrize(
    'key, dtype, tolerance',
    [(key, 'float64', 1e-6) for key in REFERENCE] + [('resnetrs50@64', 'float32', 1e-3)],
)
def test_logits(key, dtype, tolerance):
    name, size = key.split('@')
    reference = REFERENCE[key]
    with jax.enable_x64(dtype == 'float64'):
        model = create_model(NAMES[name], dtype=dtype, param_dtype=dtype)
        variables = hash_filled_variables(model, dtype)
        images = hash_images(int(size)).astype(dtype)
        logits = np.asarray(jax.jit(model.apply, static_argnums=2)(variables, images, False))
    assert logits.dtype == dtype
    spread = reference['std']
    assert np.abs(logits[0, :5] - reference['first5']).max() <= tolerance * spread
    assert abs(logits.mean() - reference['mean']) <= tolerance * spread
    assert abs(logits.std() - spread) <= tolerance * spread
    assert logits.argmax() == reference['argmax']
