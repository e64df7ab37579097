"""The table of named 3-D ResNets, as plain data: reading it imports neither JAX nor Flax."""

import re

from resnet_rs.models.variants import LAYOUTS

# The kernels of each stage over time (Qian et al. 2020, CVRL): all blocks of a stage have the same.
ONE_ONE_THREE_THREE = ((1,), (1,), (3,), (3,))
# Of Model Garden's R3D-50, for each block of a stage.
ALTERNATING = ((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1))

# (parts, names). The names stand here in full, so that a search for one finds it.
FORMS = (
    # 3-D ResNet-RS: Model Garden's k400_resnet3drs_50_tpu.yaml and its other depths. 14 and 26 are
    # those of tests and of the moving digits.
    (
        dict(stem='deep', squeeze_excite_ratio=0.25, self_gating=True),
        'resnet_3d_rs_14 resnet_3d_rs_26 resnet_3d_rs_50 resnet_3d_rs_101 resnet_3d_rs_152 '
        'resnet_3d_rs_200 resnet_3d_rs_270 resnet_3d_rs_300 resnet_3d_rs_350',
    ),
    # R3D, the baseline of the paper's video study, and that with squeeze-excite alone.
    (
        dict(stem='conv7'),
        'resnet_3d_14 resnet_3d_26 resnet_3d_50 resnet_3d_101 resnet_3d_152 resnet_3d_200 '
        'resnet_3d_270 resnet_3d_300 resnet_3d_350',
    ),
    (
        dict(stem='conv7', squeeze_excite_ratio=0.25),
        'resnet_3d_14_se resnet_3d_26_se resnet_3d_50_se resnet_3d_101_se resnet_3d_152_se '
        'resnet_3d_200_se resnet_3d_270_se resnet_3d_300_se resnet_3d_350_se',
    ),
    # The last row of that study as the paper describes it: both changes and no gates.
    (
        dict(stem='deep', squeeze_excite_ratio=0.25),
        'resnet_3d_rs_50_ungated',
    ),
    (
        dict(
            stem='conv7',
            self_gating=True,
            temporal_kernels=ALTERNATING,
            stem_pool_temporal_stride=2,
        ),
        'resnet_3d_50_model_garden',
    ),
    # A ResNet-RS with its own stem and shortcuts, for weights that were trained on images.
    (
        dict(
            stem='deep_strided',
            shortcut='average_pool',
            squeeze_excite_ratio=0.25,
            padding='symmetric',
        ),
        'inflated_resnet_rs_14 inflated_resnet_rs_26 inflated_resnet_rs_50 inflated_resnet_rs_101 '
        'inflated_resnet_rs_152 inflated_resnet_rs_200 inflated_resnet_rs_270 '
        'inflated_resnet_rs_300 inflated_resnet_rs_350 inflated_resnet_rs_400 '
        'inflated_resnet_rs_420',
    ),
)


def _stage_sizes(name: str) -> tuple[int, ...]:
    return LAYOUTS[int(re.search(r'_(\d+)(?!d)', name)[1])][1]


CLIP_NETWORKS = {
    name: dict(stage_sizes=_stage_sizes(name), **parts)
    for parts, names in FORMS
    for name in names.split()
}
