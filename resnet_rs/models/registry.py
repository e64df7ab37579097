"""Functions that build a named network and its variables."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from resnet_rs.models import rematerialisation
from resnet_rs.models.resnet import Architecture, ResNet
from resnet_rs.models.rules import RULES
from resnet_rs.models.variants import VARIANTS
from resnet_rs.utils.errors import UserError


def create_model(name: str, *, num_classes: int | None = 1000, dtype='bfloat16', **overrides):
    """Builds a network by name: 'resnet_rs_50', 'resnet_50d', 'se_resnet_50', 'resnet_50_v1', ...

    Every network is called as `model.apply(variables, images, train, output)` (resnet.ResNet).
    `num_classes` None leaves out the head; `dtype` is that of the activations; `overrides` are
    fields of `resnet.Architecture` (width_multiplier, dropout_rate, ...).
    Raises UserError for an unknown name or override and for a value that its rule does not allow.
    """
    RULES['name'].check('name', name)
    settings = VARIANTS[name] | overrides
    fields = {field.name for field in dataclasses.fields(Architecture)}
    if unknown := sorted(set(settings) - fields):
        raise UserError(f'network {name!r} has no setting {unknown[0]!r}; it has {sorted(fields)}')
    for setting, value in overrides.items():
        if setting in RULES and value is not None:
            RULES[setting].check(setting, value)
    remat = rematerialisation.parse(settings.pop('remat', ''), len(settings['stage_sizes']))
    return ResNet(
        Architecture(num_classes=num_classes, dtype=_dtype(dtype), remat=remat, **settings)
    )


def _dtype(dtype) -> jnp.dtype:
    rule = RULES['dtype']
    try:
        known = jnp.dtype(dtype)
    except TypeError:
        rule.check('dtype', dtype)
        raise
    rule.check('dtype', known.name)
    return known


def init_variables(model: ResNet, image_size: int, seed: int = 0) -> dict:
    """Parameters and batch statistics, float32, for square images of `image_size` pixels.

    Called outside jit this draws leaf by leaf with a few small programs (`initializers`), of which
    the deepest network needs no more than the shallowest.
    """
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), model.architecture.dtype)
    return model.lazy_init(jax.random.key(seed), images, train=False)


def count_parameters(tree) -> int:
    """The number of scalars in a tree of arrays or of shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
