"""Weight files in the layouts of other implementations, filled by the hash recipe.

The names and orders here are written down from those implementations, not taken from the
converter: timm's from a recorded listing (timm_tensors.txt), the authors' counters, Keras' and
Model Garden's from the order in which their code builds a ResNet-RS.
"""

import functools
import pathlib

import h5py
import numpy as np
import tensorflow as tf

from helpers.hash_filled import hash_tensor

LISTING = pathlib.Path(__file__).parents[1] / 'convert' / 'timm_tensors.txt'
NORM = {
    'weight': 'gamma',
    'bias': 'beta',
    'running_mean': 'moving_mean',
    'running_var': 'moving_variance',
}
STEM = (
    ('conv1.0', 'conv1.1'),
    ('conv1.3', 'conv1.4'),
    ('conv1.6', 'bn1'),
    ('maxpool.0', 'maxpool.1'),
)


@functools.cache
def timm_shapes(network: str) -> dict[str, tuple[int, ...]]:
    """{key: shape} of a timm network in the listing; 'resnetrs14' has resnetrs50's first blocks."""
    listed = 'resnetrs50' if network == 'resnetrs14' else network
    shapes = {}
    for line in LISTING.read_text().splitlines():
        name, key, shape = line.split(' ', 2) if not line.startswith('#') else ('#', '', '')
        if name == listed:
            shapes[key] = tuple(map(int, shape.split('x')))
    if network == 'resnetrs14':
        shapes = {
            key: shape
            for key, shape in shapes.items()
            if not key.startswith('layer') or key.split('.')[1] == '0'
        }
    return shapes


def timm_state(network: str) -> dict[str, np.ndarray]:
    return {
        key: hash_tensor(key, shape).astype(np.float32)
        for key, shape in timm_shapes(network).items()
    }


def layers(state: dict, *, projection_first: bool) -> list[tuple[str, str, str]]:
    """(kind, timm module, name) of a ResNet-RS' layers, head last."""
    found = []
    for index, (conv, norm) in enumerate(STEM, start=1):
        found += [('conv', conv, f'stem_conv_{index}'), ('norm', norm, f'stem_batch_norm_{index}')]
    for group in (1, 2, 3, 4):
        block = 0
        while (prefix := f'layer{group}.{block}.') + 'conv1.weight' in state:
            name = f'BlockGroup{group + 1}__block_{block}_'
            main = []
            for i in (1, 2, 3):
                main += [
                    ('conv', f'{prefix}conv{i}', f'{name}_conv_{i}'),
                    ('norm', f'{prefix}bn{i}', f'{name}_batch_norm_{i}'),
                ]
            gates = [
                ('gate', f'{prefix}se.fc1', f'{name}_se_se_reduce'),
                ('gate', f'{prefix}se.fc2', f'{name}_se_se_expand'),
            ]
            shortcut = []
            if block == 0:
                shortcut = [
                    ('conv', f'{prefix}downsample.1', f'{name}_projection_conv'),
                    ('norm', f'{prefix}downsample.2', f'{name}_projection_batch_norm'),
                ]
            if projection_first:
                found += [*shortcut, *main, *gates]
            else:
                found += [*main, gates[0], *shortcut[:1], gates[1], *shortcut[1:]]
            block += 1
    return [*found, ('head', 'fc', 'predictions')]


def tensorflow_variables(state: dict, kind: str, module: str) -> dict[str, np.ndarray]:
    """{variable: array} of a layer in TensorFlow's names and layouts."""
    if kind == 'norm':
        return {name: state[f'{module}.{key}'] for key, name in NORM.items()}
    kernel = state[f'{module}.weight']
    variables = {'kernel': kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T}
    if kind != 'conv':
        variables['bias'] = state[f'{module}.bias']
    return variables


def tf1_tensors(state: dict) -> dict[str, np.ndarray]:
    """The authors' counter names: squeeze-excite layers count among the convolutions."""
    counters = {'conv2d': 0, 'batch_normalization': 0, 'dense': 0}
    tensors = {}
    for kind, module, _ in layers(state, projection_first=True):
        base = {'norm': 'batch_normalization', 'head': 'dense'}.get(kind, 'conv2d')
        name = f'{base}_{counters[base]}' if counters[base] else base
        counters[base] += 1
        for variable, array in tensorflow_variables(state, kind, module).items():
            tensors[f'{name}/{variable}'] = array
    return tensors


def garden_tensors(state: dict) -> dict[str, np.ndarray]:
    """Model Garden's object names; class 0 of 1001 is filled with sevens."""
    tensors = {}
    blocks = {}
    for kind, module, _ in layers(state, projection_first=True):
        variables = tensorflow_variables(state, kind, module)
        if kind == 'head':
            variables = {
                'kernel': np.pad(variables['kernel'], ((0, 0), (1, 0)), constant_values=7),
                'bias': np.pad(variables['bias'], (1, 0), constant_values=7),
            }
            name = 'model/layer_with_weights-1'
        elif module.startswith('layer'):
            prefix, part = '.'.join(module.split('.')[:2]), '.'.join(module.split('.')[2:])
            index = 8 + blocks.setdefault(prefix, len(blocks))
            inner = {
                'se.fc1': '_squeeze_excitation/_se_reduce',
                'downsample.1': '_shortcut1',
                'se.fc2': '_squeeze_excitation/_se_expand',
                'downsample.2': '_norm0',
            }
            inner = inner.get(part, '_' + part.replace('bn', 'norm'))
            name = f'backbone/layer_with_weights-{index}/{inner}'
        else:
            index = [module for pair in STEM for module in pair].index(module)
            name = f'backbone/layer_with_weights-{index}'
        for variable, array in variables.items():
            tensors[f'{name}/{variable}/.ATTRIBUTES/VARIABLE_VALUE'] = array
    return tensors


def write_checkpoint(prefix: pathlib.Path, tensors: dict) -> None:
    """A V2 checkpoint without the text file called `checkpoint`."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[''] * len(tensors),
        tensors=[tf.constant(np.asarray(array, order='C')) for array in tensors.values()],
    )


def write_keras(
    path: pathlib.Path,
    state: dict,
    *,
    top: bool = True,
    projection_first: bool = False,
    group: str | None = None,
    parts: int = 1,
    names: bool = True,
) -> None:
    """Keras 2's layout. With `parts` the list of layers is split as Keras splits a long one."""
    with h5py.File(path, 'w') as file:
        root = file.create_group(group) if group else file
        listed = [b'input_1']  # layers without weights are in the file too
        root.create_group('input_1').attrs['weight_names'] = np.asarray([], 'S')
        for index, (kind, module, name) in enumerate(
            layers(state, projection_first=projection_first)
        ):
            if kind == 'head' and not top:
                continue
            name = name if names else f'layer_{index}'
            layer = root.create_group(name)
            variables = tensorflow_variables(state, kind, module)
            layer.attrs['weight_names'] = [f'{name}/{v}:0'.encode() for v in variables]
            for variable, array in variables.items():
                layer[f'{name}/{variable}:0'] = array
            listed.append(name.encode())
        if parts == 1:
            root.attrs['layer_names'] = listed
        for part, some in enumerate(np.array_split(listed, parts) if parts > 1 else []):
            root.attrs[f'layer_names{part}'] = some
