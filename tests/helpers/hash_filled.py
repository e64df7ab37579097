"""Weights that are a function of their timm name, for parity without another framework.

The recipe is exact integer arithmetic: index i of tensor `name` is scrambled with the finaliser
of MurmurHash3, seeded by crc32(name).
"""

import zlib

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from resnet_rs.convert.timm import from_timm_layout, state_key, to_timm_layout
from resnet_rs.models import init_variables


def hash_values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 values in [-1, 1), C order."""
    mask = np.uint64(0xFFFFFFFF)
    seed = np.uint64(zlib.crc32(name.encode()))
    count = int(np.prod(shape))
    h = (np.arange(count, dtype=np.uint64) + seed * np.uint64(0x9E3779B1)) & mask
    h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & mask
    h = ((h ^ (h >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & mask
    h ^= h >> np.uint64(16)
    return (2 * (h / 2**32) - 1).reshape(shape)


def hash_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of a timm state dict with this key and this (torch) shape."""
    values = hash_values(name, shape)
    if name.endswith('running_var'):
        return 1 + 0.5 * np.abs(values)
    if name.endswith(('running_mean', 'bias')):
        return 0.1 * values
    if len(shape) == 1:
        return 0.8 + 0.2 * values
    return values * np.sqrt(3) * np.sqrt(2 / (values.size / shape[0]))


def hash_images(size: int) -> np.ndarray:
    """[1, size, size, 3] float64."""
    return hash_values('input', (1, 3, size, size)).transpose(0, 2, 3, 1)


def hash_filled_variables(model, dtype):
    """Variables of `model` with every leaf filled by its timm name."""
    shapes = jax.eval_shape(lambda: init_variables(model, 64))
    filled = {}
    for path, leaf in flax.traverse_util.flatten_dict(dict(shapes), sep='/').items():
        name = path.split('/', 1)[1]
        key = state_key(name, model.architecture)
        shape = to_timm_layout(name, np.empty(leaf.shape, np.bool_)).shape
        filled[path] = jnp.asarray(from_timm_layout(name, hash_tensor(key, shape)), dtype)
    return flax.traverse_util.unflatten_dict(filled, sep='/')


def assert_features_are_timms(model, stages, expected, tolerance=1e-8):
    """Compares all `stages` of a hash-filled network with numbers of record_timm_goldens.py."""
    assert model.architecture.stage_channels == tuple(stage['channels'] for stage in expected)
    assert model.architecture.stage_strides == tuple(stage['stride'] for stage in expected)
    for stage, reference in zip(stages, expected, strict=True):
        batch, height, width, channels = stage.shape
        assert [batch, channels, height, width] == reference['shape']
        spread = reference['std']
        assert abs(stage.mean() - reference['mean']) <= tolerance * spread
        assert abs(stage.std() - spread) <= tolerance * spread
        assert np.abs(stage[0, -1, -1, :3] - reference['corner']).max() <= tolerance * spread
