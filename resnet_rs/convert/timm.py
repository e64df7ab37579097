"""timm's state dicts: names and tensor layouts of the networks of this project, both ways.

Source: timm 1.0.31, models/resnet.py and models/resnest.py; names of EfficientNet are those of
efficientnet.py. A convolution kernel is OIHW there and HWIO here, a dense kernel [out, in] there
and [in, out] here; timm writes squeeze-excite and the dense layers of split attention as 1x1
convolutions.
"""

import collections
import dataclasses
import functools
import pathlib
import re

import numpy as np
import safetensors.numpy

from resnet_rs.convert import efficientnet, resnest
from resnet_rs.convert.torch_file import read_torch_file
from resnet_rs.convert.weights import (
    Arrays,
    Network,
    Source,
    candidate_paths,
    check_known,
)
from resnet_rs.models.efficientnet_table import EFFICIENTNETS
from resnet_rs.models.layers import squeeze_excite_width
from resnet_rs.models.residual import ResidualArchitecture
from resnet_rs.models.variants import VARIANTS
from resnet_rs.utils.errors import UserError

AnyArchitecture = ResidualArchitecture | efficientnet.Architecture
# timm can build a network only if these settings have their defaults.
NOT_IN_TIMM = (
    'activation',
    'padding',
    'pool_unstrided_shortcut',
    'width_multiplier',
    'stride_in',
)
# The preprocessing of most networks that timm trained itself.
PREPROCESSING = {'resize': 'bicubic_antialias', 'eval_crop': 'fraction 0.875'}
NORM_LEAVES = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}


def preprocessing(network: Network) -> tuple[dict, tuple[str, ...]]:
    """Returns the settings of config.data for a network that timm itself trained, and a note.

    Both are empty for others: ResNet-RS, ResNeSt and the authors' form of EfficientNet, which pads
    as TensorFlow does.
    """
    is_resnet = network.name in VARIANTS and not network.name.startswith('resnet_rs_')
    is_efficientnet = network.name in EFFICIENTNETS and network.settings.get('padding') != 'same'
    if not (is_resnet or is_efficientnet):
        return {}, ()
    note = (
        "images are resized with Pillow's bicubic kernel and cropped to 0.875, as timm's defaults "
        "are; if the weights' crop_pct or interpolation is another, or they were trained here, set "
        '--config.data.eval_crop and --config.data.resize, or take them with --source=hf'
    )
    return PREPROCESSING, (note,)


def state_key(path: str, architecture: AnyArchitecture) -> str:
    """Returns the state-dict key of a leaf of the network that `architecture` describes."""
    if isinstance(architecture, efficientnet.Architecture):
        return efficientnet.timm_key(path)
    stem = {1: 'conv7', 3: 'deep', 4: 'deep_strided'}[len(architecture.stem_layers)]
    return timm_key(path, stem, 'average_pool' if architecture.pools_shortcut else 'projection')


def timm_key(path: str, stem: str, shortcut: str) -> str:
    """Returns the state-dict key of a path such as 'stage1/block2/conv3/kernel'.

    `stem` and `shortcut` are the fields of `models.resnet.Architecture`; of a ResNeSt 'deep' and
    'average_pool'. Raises KeyError for a path that no network of this project has.
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
    if modules[2] == 'split_attention':
        name = resnest.TIMM_MODULES[modules[3]]
        return f'{prefix}{name}.' + (NORM_LEAVES | {'kernel': 'weight'})[leaf]
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
    """Converts an array of this project to timm's layout."""
    if not path.endswith('kernel'):
        return array
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T[:, :, None, None] if _is_gate(path) else array.T


def from_timm_layout(path: str, array: np.ndarray) -> np.ndarray:
    """Converts an array from timm's layout; the inverse of `to_timm_layout`."""
    if not path.endswith('kernel'):
        return array
    if _is_gate(path):
        array = array[:, :, 0, 0]
    return array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)


def _is_gate(path: str) -> bool:
    """Returns whether a kernel is a dense layer here and a 1x1 convolution in timm."""
    return path.endswith(('/reduce/kernel', '/expand/kernel'))


def read(path: pathlib.Path, which: str) -> Source:
    """Reads the one set of weights in a .safetensors file or a torch file.

    Raises UserError for a file that cannot be read and for tensors of no network of this project.
    """
    del which
    if path.suffix == '.safetensors':
        try:
            state = safetensors.numpy.load_file(path)
        except Exception as error:  # SafetensorError, or NumPy's errors about types and shapes
            raise UserError(
                f'{path} cannot be read as safetensors ({error}); it is damaged or '
                'of another format'
            ) from error
    else:
        state = read_torch_file(path)
    return from_state_dict(state, str(path))


def from_state_dict(state: Arrays, what: str) -> Source:
    """Converts a timm state dict to this project's names; `what` names it in messages."""
    if state and all(key.startswith('module.') for key in state):  # saved from a parallel wrapper
        state = {key.removeprefix('module.'): array for key, array in state.items()}
    state = {k: v for k, v in state.items() if not k.endswith('.num_batches_tracked')}
    if efficientnet.is_timm_state(state):
        arrays = _arrays(state, efficientnet.timm_paths(state, what), what)
        return efficientnet.timm_source(arrays, what)
    form = _form(state)
    blocks = collections.Counter()
    for key in state:
        if match := re.match(r'layer([1-4])\.(\d+)\.', key):
            stage = int(match[1])
            blocks[stage] = max(blocks[stage], int(match[2]) + 1)
    sizes = tuple(blocks[stage] for stage in range(1, 5))
    name_of = functools.partial(timm_key, **form)
    path_of = {name_of(path): path for path in candidate_paths(sizes, form['stem'])}
    check_known(state, path_of, what)
    arrays = _arrays(state, path_of, what)
    weights = {'raw': arrays, 'ema': arrays}
    if resnest.is_resnest(arrays):
        recognise = functools.partial(resnest.recognise, arrays, sizes)
        return Source(weights, form, name_of, family='ResNeSt', recognise=recognise)
    return Source(weights, form, name_of)


def _arrays(state: Arrays, path_of: dict[str, str], what: str) -> Arrays:
    arrays = {}
    for key, array in state.items():
        path = path_of[key]
        if array.ndim != _torch_ndim(path):
            raise UserError(
                f'{what}: tensor {key} has shape {array.shape}, but should have '
                f'{_torch_ndim(path)} dimensions; it is of another network'
            )
        arrays[path] = from_timm_layout(path, array)
    return arrays


def to_state_dict(arrays: Arrays, architecture: AnyArchitecture) -> Arrays:
    """Converts leaves by path to the state dict of timm's network, with num_batches_tracked.

    Raises UserError for a network that timm's code cannot build, although its tensors would fit.
    """
    if problem := _not_in_timm(architecture, arrays):
        raise UserError(
            f'timm cannot build a network with {problem}: these weights would give wrong logits '
            'there; python -m resnet_rs.export writes files that need no timm'
        )
    state = {}
    for path, array in arrays.items():
        key = state_key(path, architecture)
        state[key] = np.ascontiguousarray(to_timm_layout(path, array))
        if path.endswith('/mean'):
            counter = key.replace('running_mean', 'num_batches_tracked')
            state[counter] = np.zeros((), np.int64)
    return state


def _form(state):
    if any(key.startswith('maxpool.') for key in state):
        stem = 'deep_strided'
    else:
        stem = 'deep' if any(key.startswith('conv1.0.') for key in state) else 'conv7'
    pooled = any('.downsample.2.' in key for key in state)
    return {'stem': stem, 'shortcut': 'average_pool' if pooled else 'projection'}


def _torch_ndim(path):
    if not path.endswith('kernel'):
        return 1
    return 2 if path.startswith('head/') else 4


def _not_in_timm(architecture: AnyArchitecture, arrays: Arrays) -> str | None:
    if isinstance(architecture, efficientnet.Architecture):
        return efficientnet.problem_in_timm(architecture)
    if architecture.axes == 3:
        return 'clips as its input'
    for field in dataclasses.fields(architecture):
        value = getattr(architecture, field.name)
        if field.name in NOT_IN_TIMM and value != field.default:
            return f'{field.name} {value!r}'
    if isinstance(architecture, resnest.Architecture):
        widths = [v.shape[-1] for k, v in arrays.items() if k.endswith('reduce/kernel')]
        if any(width % 8 for width in widths):
            return 'widths of split attention that are no multiples of 8'
        return None
    for path, array in arrays.items():
        if path.endswith('squeeze_excite/reduce/kernel'):
            channels, hidden = array.shape
            if squeeze_excite_width(channels, architecture.squeeze_excite_ratio, 8) != hidden:
                return 'hidden widths of squeeze-excite that are not multiples of 8'
    return None
