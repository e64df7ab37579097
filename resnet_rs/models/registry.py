"""Functions that build a named network and its variables."""

import dataclasses
import importlib
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from resnet_rs.models.families import family_of, network_names
from resnet_rs.models.rules import ARGUMENTS, RULES
from resnet_rs.utils.errors import UserError


def create_model(name: str, *, num_classes: int | None = 1000, dtype='bfloat16', **overrides):
    """Builds a network by name: 'resnet_rs_50', 'resnet_50d', 'se_resnet_50', 'resnet_50_v1', ...

    Every network is called as `model.apply(variables, images, train, output)` (resnet.ResNet).
    `num_classes` None leaves out the head; `dtype` is that of the activations; `overrides` are
    fields of the family's `Architecture` (of ResNets: width_multiplier, dropout_rate, ...).
    Raises UserError for an unknown name or override, for a value that its rule does not allow, and
    for float64 where JAX would replace it by float32.
    """
    if name not in network_names():
        RULES['name'].check('name', name)
    fields = settings_of(name)
    if unknown := sorted(set(overrides) - set(fields)):
        raise UserError(f'network {name!r} has no setting {unknown[0]!r}; it has {sorted(fields)}')
    for setting, value in {'num_classes': num_classes, **overrides}.items():
        if setting in ARGUMENTS and value is not None:
            ARGUMENTS[setting].check(setting, value)
    family = family_of(name)
    settings = family.names[name] | overrides
    module = importlib.import_module(family.module)
    return module.build(num_classes=num_classes, dtype=_dtype(dtype), **settings)


def settings_of(name: str) -> tuple[str, ...]:
    """Returns the names of the settings that the family of a network has."""
    module = importlib.import_module(family_of(name).module)
    return tuple(field.name for field in dataclasses.fields(module.Architecture))


def _dtype(dtype) -> jnp.dtype:
    rule = RULES['dtype']
    try:
        known = jnp.dtype(dtype)
    except TypeError:
        rule.check('dtype', dtype)
        raise
    rule.check('dtype', known.name)
    if jax.dtypes.canonicalize_dtype(known) != known:
        raise UserError(
            f'dtype is {known.name!r}, which JAX replaces by float32 in this process; set '
            'the environment variable JAX_ENABLE_X64=1, or use another dtype'
        )
    return known


def init_variables(model: nn.Module, image_size: int, seed: int = 0) -> dict:
    """Draws parameters and batch statistics, float32, for square images of `image_size` pixels.

    Those of a network for clips are the same for any number of frames.
    Outside jit it draws leaf by leaf with a few small programs (`initializers`), and the deepest
    network needs no more programs than the shallowest.
    """
    images = jax.ShapeDtypeStruct(input_shape(model, image_size), model.architecture.dtype)
    return model.lazy_init(jax.random.key(seed), images, train=False)


def input_shape(model: nn.Module, image_size: int, frames: int = 8) -> tuple[int, ...]:
    """Returns the shape of a batch of one image, or of one clip for a network that takes clips."""
    is_video = getattr(model.architecture, 'axes', 2) == 3
    return (1, *((frames,) if is_video else ()), image_size, image_size, 3)


def count_parameters(tree) -> int:
    """Returns the number of scalars in a tree of arrays or of shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
