"""The table of named networks, as plain data: reading it imports neither JAX nor Flax."""

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
    'resnet_rs_{}': dict(stem='deep_strided', shortcut='average_pool', squeeze_excite_ratio=0.25),
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
