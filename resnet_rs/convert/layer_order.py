"""ResNet-RS weights in formats where only the order of the layers shows their position.

The authors' TF1 code numbers layers as it creates them, each block's projection first. Keras files
store layers by their depth in the graph, each block's projection last.
"""

import dataclasses

import numpy as np

from resnet_rs.convert.weights import Arrays
from resnet_rs.utils.errors import UserError

FORM = {'stem': 'deep_strided', 'shortcut': 'average_pool'}
STEM_LAYERS = 4
LEAVES = {
    'kernel': 'kernel',
    'bias': 'bias',
    'gamma': 'scale',
    'beta': 'bias',
    'moving_mean': 'mean',
    'moving_variance': 'var',
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of a file: its name there and its variables by TensorFlow's names."""

    name: str
    variables: dict[str, np.ndarray]


def arrange(layers: list[Layer], what: str) -> tuple[Arrays, dict[str, str]]:
    """Returns (arrays by path, {path: layer name}); `what` names the file in messages.

    Convolutions, squeeze-excite layers (convolutions with a bias) and batch norms must each be in
    the network's order; the shapes show the position of a block's projection. Raises UserError for
    a sequence that is not a ResNet-RS.
    """
    kinds = {'conv': [], 'gate': [], 'norm': [], 'head': []}
    for layer in layers:
        kinds[_kind(layer, what)].append(layer)
    placed = {}
    _take_stem(kinds, placed, what)
    if len(kinds['gate']) % 2 or not kinds['gate']:
        raise UserError(
            f'{what} has {len(kinds["gate"])} squeeze-excite layers; a ResNet-RS has '
            'two in every block'
        )
    stage, block, previous = 0, 0, None
    while kinds['gate']:
        features = kinds['gate'][0].variables['kernel'].shape[2]
        stage, block = (stage, block + 1) if features == previous else (stage + 1, 1)
        previous = features
        _take_block(kinds, placed, f'stage{stage}/block{block}', features, what)
    if kinds['head']:
        placed['head'] = kinds['head'].pop()
    if left_over := [layer.name for group in kinds.values() for layer in group]:
        raise UserError(
            f'{what} has too many layers for a ResNet-RS: '
            f'{", ".join(left_over[:3])}; it is of another network'
        )
    return _arrays(placed, what)


def _kind(layer, what):
    names = set(layer.variables)
    ndim = layer.variables['kernel'].ndim if 'kernel' in names else 0
    if names == {'kernel'} and ndim == 4:
        return 'conv'
    if names == {'kernel', 'bias'} and ndim in (2, 4):
        return 'gate' if ndim == 4 else 'head'
    if names == {'gamma', 'beta', 'moving_mean', 'moving_variance'}:
        return 'norm'
    shapes = {name: array.shape for name, array in layer.variables.items()}
    raise UserError(
        f'{what}: layer {layer.name} with variables {shapes} is not part of a '
        'ResNet-RS: a tensor is missing, or it is of another network'
    )


def _take_stem(kinds, placed, what):
    for index in range(1, STEM_LAYERS + 1):
        placed[f'stem/conv{index}'] = _take(kinds['conv'], f'stem/conv{index}', what)
        placed[f'stem/norm{index}'] = _take(kinds['norm'], f'stem/norm{index}', what)


def _take_block(kinds, placed, prefix, features, what):
    for kind in ('conv', 'norm'):
        names = [f'{kind}{index}' for index in (1, 2, 3)]
        if prefix.endswith('/block1'):
            first = _output_features(kinds[kind])
            # The projection has the block's output width, the first convolution a quarter of it.
            names.insert(0 if first == features else 3, f'shortcut_{kind}')
        for name in names:
            placed[f'{prefix}/{name}'] = _take(kinds[kind], f'{prefix}/{name}', what)
    for name in ('reduce', 'expand'):
        path = f'{prefix}/squeeze_excite/{name}'
        placed[path] = _take(kinds['gate'], path, what)


def _take(group, path, what):
    if not group:
        raise UserError(
            f'{what} has no layer left for {path}: a layer is missing, or it is of another network'
        )
    return group.pop(0)


def _output_features(group):
    return next(iter(group[0].variables.values())).shape[-1] if group else None


def _arrays(placed, what):
    arrays, names = {}, {}
    for path, layer in placed.items():
        if ('projection' in layer.name) != ('shortcut_' in path) and 'BlockGroup' in layer.name:
            raise UserError(
                f'{what}: layer {layer.name} would become {path}, which its name '
                'contradicts; the layers are in an unknown order'
            )
        for variable, array in layer.variables.items():
            leaf = f'{path}/{LEAVES[variable]}'
            if 'squeeze_excite' in path and variable == 'kernel':
                array = array[0, 0]
            arrays[leaf] = array
            names[leaf] = f'{layer.name}/{variable}'
    return arrays, names
