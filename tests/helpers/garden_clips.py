"""Hash-filled weights of Model Garden's 3-D ResNets, by the names in its checkpoints."""

import flax.traverse_util
import jax
import numpy as np

from helpers.hash_filled import hash_values
from resnet_rs.convert.model_garden_clips import garden_key
from resnet_rs.models import create_model, init_variables

CLASSES = 11
CLIP = (2, 6, 40, 44, 3)  # odd sizes within the network show how it pads
NETWORKS = {'resnet_3d_rs_50': 'deep', 'resnet_3d_50_model_garden': 'conv7'}
STAGE_SIZES = (3, 4, 6, 3)


def hash_clip() -> np.ndarray:
    return hash_values('clip', CLIP)


def hash_variable(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float64 values of the variable `key`; its shape may have axes of length 1 in front."""
    values = hash_values(key, shape)
    leaf = key.rpartition('/')[2]
    if leaf == 'moving_variance':
        return 1 + 0.5 * np.abs(values)
    if leaf == 'gamma':
        return 0.6 + 0.2 * values
    if leaf != 'kernel':
        return 0.1 * values
    return values * np.sqrt(6 / np.prod(shape[:-1]))


def hash_filled(name: str, dtype: str) -> tuple:
    """Our network `name` and its variables."""
    model = create_model(name, num_classes=CLASSES, dtype=dtype, param_dtype=dtype)
    shapes = jax.eval_shape(lambda: init_variables(model, 32))
    return model, garden_filled(shapes, STAGE_SIZES, NETWORKS[name], dtype)


def garden_filled(shapes: dict, stage_sizes: tuple[int, ...], stem: str, dtype: str) -> dict:
    """Variables of a network for clips of these shapes."""
    flat = flax.traverse_util.flatten_dict(dict(shapes), sep='/')
    for path, leaf in flat.items():
        key = garden_key(path.split('/', 1)[1], stage_sizes, stem)
        flat[path] = hash_variable(key, leaf.shape).astype(dtype)
    return flax.traverse_util.unflatten_dict(flat, sep='/')
