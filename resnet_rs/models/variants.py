"""The table of named ResNets, as plain data: reading it imports neither JAX nor Flax."""

import re

# {depth: (block, blocks per stage)}. The depth in a name is nominal: 270 has 272 layers. 300 and
# 400, of the scaling study, are from the paper's appendix E. The paper does not print its 26; the
# 2-2-2-2 bottlenecks of timm and ResNeSt are an assumption. 14 is timm's; tests and the demo use
# it.
LAYOUTS = {
    14: ('bottleneck', (1, 1, 1, 1)),
    18: ('basic', (2, 2, 2, 2)),
    26: ('bottleneck', (2, 2, 2, 2)),
    34: ('basic', (3, 4, 6, 3)),
    50: ('bottleneck', (3, 4, 6, 3)),
    101: ('bottleneck', (3, 4, 23, 3)),
    152: ('bottleneck', (3, 8, 36, 3)),
    200: ('bottleneck', (3, 24, 36, 3)),
    270: ('bottleneck', (4, 29, 53, 4)),
    300: ('bottleneck', (4, 36, 54, 4)),
    350: ('bottleneck', (4, 36, 72, 4)),
    400: ('bottleneck', (6, 48, 72, 6)),
    420: ('bottleneck', (4, 44, 87, 4)),
}

# (parts, names). The names stand here in full, so that a search for one finds it.
FORMS = (
    # The form without a letter is B, known as v1.5: the stride is in the 3x3 convolution.
    (
        dict(stem='conv7', shortcut='projection'),
        'resnet_14 resnet_18 resnet_26 resnet_34 resnet_50 resnet_101 resnet_152 resnet_200 '
        'resnet_270 resnet_300 resnet_350 resnet_400 resnet_420',
    ),
    (
        dict(stem='conv7', shortcut='projection', stride_in='conv1'),
        'resnet_14_v1 resnet_26_v1 resnet_50_v1 resnet_101_v1 resnet_152_v1 resnet_200_v1 '
        'resnet_270_v1 resnet_300_v1 resnet_350_v1 resnet_400_v1 resnet_420_v1',
    ),
    (
        dict(stem='deep', shortcut='projection'),
        'resnet_14c resnet_18c resnet_26c resnet_34c resnet_50c resnet_101c resnet_152c '
        'resnet_200c resnet_270c resnet_300c resnet_350c resnet_400c resnet_420c',
    ),
    (
        dict(stem='deep', shortcut='average_pool'),
        'resnet_14d resnet_18d resnet_26d resnet_34d resnet_50d resnet_101d resnet_152d '
        'resnet_200d resnet_270d resnet_300d resnet_350d resnet_400d resnet_420d',
    ),
    (
        dict(stem='conv7', shortcut='projection', squeeze_excite_ratio=1 / 16),
        'se_resnet_14 se_resnet_18 se_resnet_26 se_resnet_34 se_resnet_50 se_resnet_101 '
        'se_resnet_152 se_resnet_200 se_resnet_270 se_resnet_300 se_resnet_350 se_resnet_400 '
        'se_resnet_420',
    ),
    (
        dict(stem='deep', shortcut='average_pool', squeeze_excite_ratio=1 / 16),
        'se_resnet_14d se_resnet_18d se_resnet_26d se_resnet_34d se_resnet_50d se_resnet_101d '
        'se_resnet_152d se_resnet_200d se_resnet_270d se_resnet_300d se_resnet_350d '
        'se_resnet_400d se_resnet_420d',
    ),
    # A row of the paper's additive study: its squeeze-excite without ResNet-D.
    (
        dict(stem='conv7', shortcut='projection', squeeze_excite_ratio=0.25),
        'resnet_14_se resnet_26_se resnet_50_se resnet_101_se resnet_152_se resnet_200_se '
        'resnet_270_se resnet_300_se resnet_350_se resnet_400_se resnet_420_se',
    ),
    (
        dict(stem='deep_strided', shortcut='average_pool', squeeze_excite_ratio=0.25),
        'resnet_rs_14 resnet_rs_26 resnet_rs_50 resnet_rs_101 resnet_rs_152 resnet_rs_200 '
        'resnet_rs_270 resnet_rs_300 resnet_rs_350 resnet_rs_400 resnet_rs_420',
    ),
)


def _settings(name: str, parts: dict) -> dict:
    block, stage_sizes = LAYOUTS[int(re.search(r'\d+', name)[0])]
    return dict(block=block, stage_sizes=stage_sizes, **parts)


VARIANTS = {name: _settings(name, parts) for parts, names in FORMS for name in names.split()}
