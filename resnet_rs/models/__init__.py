"""The named networks: one table, one door.

The modules are in resnet.py, the layers they share in layers.py.
"""

import dataclasses
import difflib
import math

import jax
import jax.numpy as jnp

from resnet_rs.errors import UserError
from resnet_rs.models import rematerialisation
from resnet_rs.models.resnet import Architecture, ResNet

# Blocks per stage. Names are nominal: 270 has 272 layers. The scaling study's 300 and 400 are
# from the paper's appendix E; its 26 is not printed anywhere that could be found, and 2-2-2-2
# bottlenecks (as timm and ResNeSt) is an assumption. 14 is timm's; tests and the demo use it.
BASIC_LAYOUTS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK_LAYOUTS = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    270: (4, 29, 53, 4),
    300: (4, 36, 54, 4),
    350: (4, 36, 72, 4),
    400: (6, 48, 72, 6),
    420: (4, 44, 87, 4),
}

# {name pattern: parts}. B is the form without a letter: a stride in the 3x3, known as v1.5.
FORMS = {
    'resnet_{}': dict(stem='conv7', shortcut='projection'),
    'resnet_{}c': dict(stem='deep', shortcut='projection'),
    'resnet_{}d': dict(stem='deep', shortcut='average_pool'),
    'se_resnet_{}': dict(stem='conv7', shortcut='projection', squeeze_excite_ratio=1 / 16),
    'se_resnet_{}d': dict(stem='deep', shortcut='average_pool', squeeze_excite_ratio=1 / 16),
}
BOTTLENECK_FORMS = FORMS | {
    'resnet_{}_v1': dict(stem='conv7', shortcut='projection', stride_in='conv1'),
    # The additive study before ResNet-D: the paper's squeeze-excite on the plain network.
    'resnet_{}_se': dict(stem='conv7', shortcut='projection', squeeze_excite_ratio=0.25),
    'resnet_rs_{}': dict(
        stem='deep_strided', shortcut='average_pool', squeeze_excite_ratio=0.25
    ),
}

VARIANTS = {
    pattern.format(depth): dict(block=block, stage_sizes=sizes, **parts)
    for block, layouts, forms in (
        ('basic', BASIC_LAYOUTS, FORMS),
        ('bottleneck', BOTTLENECK_LAYOUTS, BOTTLENECK_FORMS),
    )
    for depth, sizes in layouts.items()
    for pattern, parts in forms.items()
}


def create_model(name: str, *, num_classes: int | None = 1000, dtype='bfloat16', **overrides):
    """Builds a network by name: 'resnet_rs_50', 'resnet_50d', 'se_resnet_50', 'resnet_50_v1', ...

    `num_classes` None leaves out the head; `dtype` is that of the activations; `overrides` are
    fields of `resnet.Architecture` (width_multiplier, dropout_rate, return_features, ...).
    Raises UserError for a name or an override that is not known.
    """
    if name not in VARIANTS:
        near = difflib.get_close_matches(name, VARIANTS, n=1)
        hint = f'did you mean {near[0]!r}?' if near else f'known: {", ".join(sorted(VARIANTS))}'
        raise UserError(f'unknown network {name!r}; {hint}')
    settings = VARIANTS[name] | overrides
    fields = {field.name for field in dataclasses.fields(Architecture)}
    if unknown := sorted(set(settings) - fields):
        raise UserError(f'network {name!r} has no setting {unknown[0]!r}; it has {sorted(fields)}')
    remat = rematerialisation.parse(settings.pop('remat', ''), len(settings['stage_sizes']))
    return ResNet(
        Architecture(num_classes=num_classes, dtype=jnp.dtype(dtype), remat=remat, **settings)
    )


def init_variables(model: ResNet, image_size: int, seed: int = 0) -> dict:
    """Parameters and batch statistics, float32, for square images of `image_size` pixels.

    Called outside jit this draws leaf by leaf and compiles one small program for each shape of
    kernel, of which the deepest network has no more than the shallowest.
    """
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), model.architecture.dtype)
    return model.lazy_init(jax.random.key(seed), images, train=False)


def count_parameters(tree) -> int:
    """The number of scalars in a tree of arrays or of shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
