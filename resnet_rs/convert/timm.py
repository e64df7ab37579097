"""timm's state-dict names and tensor layouts for the networks of this project.

Source: timm 1.0.31, models/resnet.py. A convolution kernel is OIHW there and HWIO here, a dense
kernel [out, in] there and [in, out] here; timm writes squeeze-excite as 1x1 convolutions.
"""

import re

import numpy as np

NORM_LEAVES = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}


def timm_key(path: str, stem: str, shortcut: str) -> str:
    """The state-dict key of a leaf named 'stage1/block2/conv3/kernel' and the like.

    `stem` and `shortcut` are the fields of `models.resnet.Architecture`. Raises KeyError for a
    path that no network of this project has.
    """
    *modules, leaf = path.split('/')
    if modules == ['head']:
        return {'kernel': 'fc.weight', 'bias': 'fc.bias'}[leaf]
    if modules[0] == 'stem':
        return _stem_module(modules[1], stem) + '.' + _leaf(modules[1], leaf)

    stage, block = modules[0].removeprefix('stage'), int(modules[1].removeprefix('block')) - 1
    prefix = f'layer{stage}.{block}.'
    if modules[2] == 'squeeze_excite':
        layer = {'reduce': 'fc1', 'expand': 'fc2'}[modules[3]]
        return f'{prefix}se.{layer}.' + {'kernel': 'weight', 'bias': 'bias'}[leaf]
    if modules[2].startswith('shortcut_'):
        first = 1 if shortcut == 'average_pool' else 0
        index = first + (modules[2] == 'shortcut_norm')
        return f'{prefix}downsample.{index}.' + _leaf(modules[2], leaf)
    return prefix + modules[2].replace('norm', 'bn') + '.' + _leaf(modules[2], leaf)


def _leaf(module: str, leaf: str) -> str:
    return NORM_LEAVES[leaf] if 'norm' in module else {'kernel': 'weight'}[leaf]


def _stem_module(module: str, stem: str) -> str:
    kind, index = re.fullmatch(r'(conv|norm)(\d)', module).groups()
    if stem == 'conv7':
        return {'conv': 'conv1', 'norm': 'bn1'}[kind]
    convs = ('conv1.0', 'conv1.3', 'conv1.6', 'maxpool.0')
    norms = ('conv1.1', 'conv1.4', 'bn1', 'maxpool.1')
    return (convs if kind == 'conv' else norms)[int(index) - 1]


def to_timm_layout(path: str, array: np.ndarray) -> np.ndarray:
    """An array of ours as timm stores it."""
    if not path.endswith('kernel'):
        return array
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    transposed = array.T
    return transposed[:, :, None, None] if 'squeeze_excite' in path else transposed


def from_timm_layout(path: str, array: np.ndarray) -> np.ndarray:
    """An array of timm as ours; the inverse of `to_timm_layout`."""
    if not path.endswith('kernel'):
        return array
    if 'squeeze_excite' in path:
        array = array[:, :, 0, 0]
    return array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
