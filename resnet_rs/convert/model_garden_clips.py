"""The names of Model Garden's 3-D ResNets in its object checkpoints.

Source: tf-models-official 2.20, official/vision (modeling/backbones/resnet_3d.py,
modeling/layers/nn_blocks_3d.py, modeling/video_classification_model.py).
"""

import re
from collections.abc import Iterator

import numpy as np

from resnet_rs.convert.weights import Arrays, candidate_paths
from resnet_rs.models.resnet_3d_variants import CLIP_NETWORKS, ONE_ONE_THREE_THREE
from resnet_rs.utils.errors import UserError

OF_A_BLOCK = '/_temporal_conv/'  # in a name, shows that the network is for clips
LAYERS = {
    'conv1': '_temporal_conv',
    'conv2': '_spatial_conv',
    'conv3': '_expand_conv',
    'shortcut_conv': '_shortcut_conv',
    'shortcut_norm': '_norm0',
    'gate': '_self_gating/_transformer_w',
    'reduce': '_squeeze_excitation/_se_reduce',
    'expand': '_squeeze_excitation/_se_expand',
}
STEM_CONVOLUTIONS = {'conv7': 1, 'deep': 3}
NORM_LEAVES = {'scale': 'gamma', 'bias': 'beta', 'mean': 'moving_mean', 'var': 'moving_variance'}
SETTINGS = {'padding': 'same'}
DATA = {
    'frames': 32,
    'frame_stride': 2,
    'eval_crop': 'fraction 1',
    'resize': 'bilinear',
    'mean_rgb': (0.0,) * 3,
    'std_rgb': (255.0,) * 3,
}
CLASSES = (400, 600, 700)  # of the editions of Kinetics


def stem_of(names) -> str:
    """Returns 'conv7' or 'deep', by the number of layers before the first block."""
    blocks = [re.match(r'backbone/layer_with_weights-(\d+)' + OF_A_BLOCK, name) for name in names]
    before = min((int(match[1]) for match in blocks if match), default=0)
    for stem, convolutions in STEM_CONVOLUTIONS.items():
        if before == 2 * convolutions:
            return stem
    raise UserError(
        f'the file has {before} layers before its first block, not the 2 or 6 of a 3-D ResNet: it '
        'is incomplete or of another network'
    )


def paths(stage_sizes: tuple[int, ...], stem: str) -> Iterator[str]:
    """Yields every path that any network for clips with these stages and this stem has."""
    of_images = candidate_paths(stage_sizes, stem)
    yield from (path for path in of_images if '/split_attention/' not in path)
    for stage, size in enumerate(stage_sizes, start=1):
        for leaf in ('kernel', 'bias'):
            yield f'stage{stage}/block{size}/self_gating/gate/{leaf}'


def garden_key(path: str, stage_sizes: tuple[int, ...], stem: str) -> str:
    """Returns the checkpoint's key (without suffix) of a path 'stage1/block2/conv3/kernel'."""
    *modules, leaf = path.split('/')
    if modules == ['head']:
        return f'model/layer_with_weights-1/{leaf}'
    leaf = NORM_LEAVES[leaf] if 'norm' in modules[-1] else leaf
    if modules[0] == 'stem':
        kind, number = modules[1][:-1], int(modules[1][-1])
        return f'backbone/layer_with_weights-{2 * (number - 1) + (kind == "norm")}/{leaf}'
    stage, block = (int(re.search(r'\d+', module)[0]) for module in modules[:2])
    index = 2 * STEM_CONVOLUTIONS[stem] + sum(stage_sizes[: stage - 1]) + block - 1
    layer = LAYERS.get(modules[-1], '_' + modules[-1])
    return f'backbone/layer_with_weights-{index}/{layer}/{leaf}'


def recognise(arrays: Arrays, stage_sizes: tuple[int, ...], stem: str) -> tuple[str, dict]:
    """Returns the name of the network with these variables, and its settings of config.model.

    Raises UserError if this project has no such network.
    """
    kernels = tuple(
        tuple(_length(arrays, stage, block) for block in range(1, size + 1))
        for stage, size in enumerate(stage_sizes, start=1)
    )
    gated = any('/self_gating/' in path for path in arrays)
    reduce = arrays.get('stage1/block1/squeeze_excite/reduce/kernel', np.zeros((1, 0)))
    ratio = reduce.shape[1] / reduce.shape[0] if reduce.ndim == 2 and reduce.size else 0.0
    for name, parts in CLIP_NETWORKS.items():
        of_this = parts.get('temporal_kernels', ONE_ONE_THREE_THREE)
        of_this = tuple(
            of_stage * size if len(of_stage) == 1 else of_stage
            for of_stage, size in zip(of_this, parts['stage_sizes'], strict=True)
        )
        if (parts['stem'], of_this, parts.get('self_gating', False)) == (stem, kernels, gated) and (
            parts.get('squeeze_excite_ratio', 0.0) == ratio
        ):
            return name, dict(SETTINGS)
    raise UserError(
        f'no network of this project has stages of {stage_sizes} blocks with kernels {kernels} '
        f'over time, stem {stem!r}, self-gating {"on" if gated else "off"} and a squeeze-excite '
        f'ratio of {ratio:g}; see resnet_rs.models.resnet_3d_variants'
    )


def _length(arrays, stage, block):
    kernel = arrays.get(f'stage{stage}/block{block}/conv1/kernel')
    if kernel is None or kernel.ndim != 5:
        raise UserError(
            f'the file has no kernel over time for block {block} of stage {stage}; it is '
            'incomplete or of another network'
        )
    return kernel.shape[0]
