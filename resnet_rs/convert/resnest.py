"""ResNeSt in files of weights: timm's and the authors' names of split attention, and its forms.

The names of the authors' PyTorch checkpoints (github.com/zhanghang1989/ResNeSt) are those of timm
1.0.31.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from resnet_rs.models.residual import STAGE_WIDTHS
from resnet_rs.models.resnest import Architecture
from resnet_rs.models.resnest_variants import RESNEST
from resnet_rs.utils.errors import UserError

# Modules of a block's split attention, by their names in timm's SplitAttn, which is 'conv2' there.
TIMM_MODULES = {
    'conv': 'conv2.conv',
    'conv_norm': 'conv2.bn0',
    'reduce': 'conv2.fc1',
    'reduce_norm': 'conv2.bn1',
    'expand': 'conv2.fc2',
}
PATHS = (
    'split_attention/conv/kernel',
    *(
        f'split_attention/{layer}_norm/{leaf}'
        for layer in ('conv', 'reduce')
        for leaf in ('scale', 'bias', 'mean', 'var')
    ),
    *(
        f'split_attention/{layer}/{leaf}'
        for layer in ('reduce', 'expand')
        for leaf in ('kernel', 'bias')
    ),
)


def is_resnest(paths: Iterable[str]) -> bool:
    return any('/split_attention/' in path for path in paths)


def recognise(
    arrays: Mapping[str, np.ndarray], stage_sizes: tuple[int, ...], variant: str
) -> tuple[str, dict]:
    """Returns the name of the ResNeSt and the other settings that its weights need.

    Args:
      arrays: the arrays by path.
      stage_sizes: blocks of each stage.
      variant: 'fast' for a network that pools before its 3x3 convolutions. Tensors do not tell;
        any other value prefers the network that pools after them, where there is one.

    Raises UserError if the table has no such network.
    """
    block = 'stage4/block1/'
    told_by = {'stem/conv1', f'{block}conv1', f'{block}conv3', f'{block}split_attention/conv'}
    if missing := sorted(name for name in told_by if f'{name}/kernel' not in arrays):
        raise UserError(
            f'the file has no kernel of {missing[0]}, which every ResNeSt has; it is incomplete or '
            'of another network'
        )
    inner = arrays[f'{block}conv1/kernel'].shape[-1]
    kernel = arrays[f'{block}split_attention/conv/kernel']
    multiplier = arrays[f'{block}conv3/kernel'].shape[-1] / (4 * STAGE_WIDTHS[-1])
    radix = kernel.shape[-1] // inner
    cardinality = inner // (kernel.shape[-2] * max(radix, 1))
    form = dict(
        stage_sizes=stage_sizes,
        radix=radix,
        cardinality=cardinality,
        bottleneck_width=round(inner * 64 / (max(cardinality, 1) * STAGE_WIDTHS[-1] * multiplier)),
        stem_width=round(arrays['stem/conv1/kernel'].shape[-1] / multiplier),
    )
    matches = {
        name: Architecture(**parts).pool_first
        for name, parts in RESNEST.items()
        if all(getattr(Architecture(**parts), key) == value for key, value in form.items())
    }
    if not matches:
        raise UserError(
            f'no ResNeSt of this project has stages {stage_sizes}, radix {radix}, cardinality '
            f'{cardinality}, bottleneck width {form["bottleneck_width"]} and a stem of width '
            f'{form["stem_width"]}; see resnet_rs.models.resnest_variants'
        )
    if variant == 'fast' and not any(matches.values()):
        raise UserError(
            f'{", ".join(matches)} has no fast form, which pools before its 3x3 convolutions; '
            'leave out --variant=fast'
        )
    name = sorted(matches, key=lambda name: matches[name] != (variant == 'fast'))[0]
    return name, {} if multiplier == 1 else {'width_multiplier': multiplier}


def evaluation_settings(name: str) -> dict:
    """Returns the settings of config.data that the authors evaluate a ResNeSt with."""
    resize = 'bicubic' if name in ('resnest_200', 'resnest_269') else 'bilinear'
    return {'resize': f'{resize}_antialias'} if name in RESNEST else {}
