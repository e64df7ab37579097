"""Names of EfficientNet's variables in timm and in the authors' TF1 checkpoints.

Sources: timm 1.0.31, models/efficientnet.py; tensorflow/tpu, models/official/efficientnet. timm's
tf_efficientnet_* and efficientnet_* have the same tensors and differ in padding and epsilon.
"""

import pathlib
import re
from collections.abc import Iterator

from resnet_rs.convert.weights import Arrays, Source, check_known
from resnet_rs.models.efficientnet import Architecture
from resnet_rs.models.efficientnet_table import EFFICIENTNETS, FORMS, KINDS
from resnet_rs.utils.errors import UserError

NORM = ('scale', 'bias', 'mean', 'var')
ADVERSARIAL_DATA = {'mean_rgb': (127.5,) * 3, 'std_rgb': (127.5,) * 3}  # pixels of -1 to 1

TIMM_ENDS = {'stem_conv': 'conv_stem', 'stem_norm': 'bn1', 'head_conv': 'conv_head'} | {
    'head_norm': 'bn2',
    'head': 'classifier',
}
# By whether the block widens its input first.
TIMM_LAYERS = {
    True: {
        'expand_conv': 'conv_pw',
        'expand_norm': 'bn1',
        'depthwise_conv': 'conv_dw',
        'depthwise_norm': 'bn2',
        'project_conv': 'conv_pwl',
        'project_norm': 'bn3',
    },
    False: {
        'depthwise_conv': 'conv_dw',
        'depthwise_norm': 'bn1',
        'project_conv': 'conv_pw',
        'project_norm': 'bn2',
    },
}
TIMM_LEAVES = {'kernel': 'weight', 'bias': 'bias'}
TIMM_NORM_LEAVES = dict(zip(NORM, ('weight', 'bias', 'running_mean', 'running_var'), strict=True))

TF1_ENDS = {
    'stem_conv': 'stem/conv2d',
    'stem_norm': 'stem/tpu_batch_normalization',
    'head_conv': 'head/conv2d',
    'head_norm': 'head/tpu_batch_normalization',
    'head': 'head/dense',
}
TF1_LAYERS = {
    True: {
        'expand_conv': 'conv2d',
        'expand_norm': 'tpu_batch_normalization',
        'depthwise_conv': 'depthwise_conv2d',
        'depthwise_norm': 'tpu_batch_normalization_1',
        'project_conv': 'conv2d_1',
        'project_norm': 'tpu_batch_normalization_2',
    },
    False: {
        'depthwise_conv': 'depthwise_conv2d',
        'depthwise_norm': 'tpu_batch_normalization',
        'project_conv': 'conv2d',
        'project_norm': 'tpu_batch_normalization_1',
    },
}
TF1_SQUEEZE_EXCITE = {'reduce': 'se/conv2d', 'expand': 'se/conv2d_1'}
TF1_NORM_LEAVES = dict(zip(NORM, ('gamma', 'beta', 'moving_mean', 'moving_variance'), strict=True))
TF1_BLOCK = re.compile(r'efficientnet-\w+/blocks_(\d+)/')


def timm_key(path: str) -> str:
    """Returns the state-dict key of a leaf named 'stage1/block2/project_conv/kernel' or the like.

    Raises KeyError for a path that no EfficientNet has.
    """
    *modules, leaf = path.split('/')
    name = (TIMM_NORM_LEAVES if modules[-1].endswith('_norm') else TIMM_LEAVES)[leaf]
    if len(modules) == 1:
        return f'{TIMM_ENDS[modules[0]]}.{name}'
    stage, block = _numbers(modules)
    if modules[2] == 'squeeze_excite':
        layer = f'se.conv_{modules[3]}'
    else:
        layer = TIMM_LAYERS[KINDS[stage - 1].expansion > 1][modules[2]]
    return f'blocks.{stage - 1}.{block - 1}.{layer}.{name}'


def tf1_key(path: str, root: str, sizes: tuple[int, ...]) -> str:
    """Returns the variable's name below `root`, as 'efficientnet-b0/'.

    Blocks are numbered across stages.
    """
    *modules, leaf = path.split('/')
    name = TF1_NORM_LEAVES[leaf] if modules[-1].endswith('_norm') else leaf
    if len(modules) == 1:
        return f'{root}{TF1_ENDS[modules[0]]}/{name}'
    stage, block = _numbers(modules)
    if modules[2] == 'squeeze_excite':
        layer = TF1_SQUEEZE_EXCITE[modules[3]]
    else:
        layer = TF1_LAYERS[KINDS[stage - 1].expansion > 1][modules[2]]
        name = 'depthwise_kernel' if modules[2] == 'depthwise_conv' else name
    return f'{root}blocks_{sum(sizes[: stage - 1]) + block - 1}/{layer}/{name}'


def _numbers(modules: list[str]) -> tuple[int, int]:
    return int(modules[0].removeprefix('stage')), int(modules[1].removeprefix('block'))


def candidate_paths(sizes: tuple[int, ...]) -> Iterator[str]:
    """Yields every path of an EfficientNet with these stages."""
    prefixes = [('', ('stem', 'head'))]
    for stage, size in enumerate(sizes, start=1):
        expand = ('expand',) if KINDS[stage - 1].expansion > 1 else ()
        layers = (*expand, 'depthwise', 'project')
        for block in range(1, size + 1):
            prefix = f'stage{stage}/block{block}/'
            prefixes.append((prefix, layers))
            for layer in ('reduce', 'expand'):
                yield from (f'{prefix}squeeze_excite/{layer}/{leaf}' for leaf in TIMM_LEAVES)
    for prefix, layers in prefixes:
        for layer in layers:
            yield f'{prefix}{layer}_conv/kernel'
            yield from (f'{prefix}{layer}_norm/{leaf}' for leaf in NORM)
    yield from ('head/kernel', 'head/bias')


def is_timm_state(state: Arrays) -> bool:
    """Returns whether a state dict is an EfficientNet's."""
    return any(key.startswith('blocks.') for key in state)


def timm_paths(state: Arrays, what: str) -> dict[str, str]:
    """Returns {key: path}; raises UserError for keys that no EfficientNet has."""
    sizes = [0] * len(KINDS)
    for key in state:
        if (match := re.match(r'blocks\.([0-6])\.(\d{1,3})\.', key)) is not None:
            stage = int(match[1])
            sizes[stage] = max(sizes[stage], int(match[2]) + 1)
    paths = {timm_key(path): path for path in candidate_paths(tuple(sizes))}
    check_known(state, paths, what)
    return paths


def timm_source(arrays: Arrays, what: str) -> Source:
    """Returns the Source of a state dict; whether it is timm's or the authors' form is a choice.

    The last two parts of the file's path tell it, tf_efficientnet_* or efficientnet_*.
    """
    parts = '/'.join(pathlib.PurePath(what).parts[-2:])

    def settings(variant: str) -> dict:
        if variant not in FORMS:
            if 'efficientnet' not in parts:
                raise UserError(
                    f"{what} may be of timm's tf_efficientnet_* or of its efficientnet_*, which "
                    'differ in padding and epsilon alone; give --variant=tf or --variant=timm'
                )
            variant = 'tf' if 'tf_efficientnet' in parts else 'timm'
        return FORMS[variant]

    adversarial = re.search(r'tf_efficientnet_\w\d[._]ap[-_]', parts)
    return _source({'raw': arrays, 'ema': arrays}, timm_key, settings, bool(adversarial))


def tf1_source(sets: dict[str, Arrays], path: pathlib.Path, notes: tuple[str, ...]) -> Source:
    """Returns the Source of {'raw': variables, 'ema': variables} by the authors' names.

    Raises UserError for variables that no EfficientNet has and for a number of blocks that none of
    the table has.
    """
    root = next(name.split('/')[0] + '/' for name in sets['ema'] if TF1_BLOCK.match(name))
    blocks = 1 + max(int(found[1]) for name in sets['ema'] if (found := TF1_BLOCK.match(name)))
    sizes = next(
        (n['stage_sizes'] for n in EFFICIENTNETS.values() if sum(n['stage_sizes']) == blocks), None
    )
    if sizes is None:
        raise UserError(
            f'{path} has {blocks} blocks, as no EfficientNet has; it is incomplete or of another '
            'network'
        )

    def name_of(leaf: str) -> str:
        return tf1_key(leaf, root, sizes)

    paths = {name_of(leaf): leaf for leaf in candidate_paths(sizes)}
    weights = {}
    for which, variables in sets.items():
        check_known(variables, paths, f'{path} ({which} weights)')
        weights[which] = {
            paths[name]: _from_tf1_layout(paths[name], array) for name, array in variables.items()
        }
    adversarial = 'advprop' in '/'.join(path.absolute().parts[-2:])
    return _source(weights, name_of, lambda variant: FORMS['tf'], adversarial, notes)


def _from_tf1_layout(path: str, array):
    if path.endswith('/depthwise_conv/kernel'):
        return array.swapaxes(2, 3) if array.ndim == 4 else array
    return array[0, 0] if '/squeeze_excite/' in path and array.ndim == 4 else array


def _source(weights, name_of, settings, adversarial, notes=()) -> Source:
    """Returns the Source; `settings` is a function of --variant."""
    arrays = weights['ema']

    def recognise(variant: str) -> tuple[str, dict]:
        return _network(arrays, name_of), settings(variant)

    return Source(
        weights,
        {},
        name_of,
        data=ADVERSARIAL_DATA if adversarial else {},
        family='EfficientNet',
        notes=notes + ('the images are scaled to -1 to 1, as of AdvProp',) * adversarial,
        recognise=recognise,
    )


def _network(arrays: Arrays, name_of) -> str:
    """Returns the network's name, told by the numbers of blocks and the width of the head."""
    sizes = [0] * len(KINDS)
    for path in arrays:
        if match := re.match(r'stage(\d)/block(\d+)/', path):
            stage = int(match[1]) - 1
            sizes[stage] = max(sizes[stage], int(match[2]))
    head = 'head_norm/scale'
    if head not in arrays:
        raise UserError(f'the file has no tensor {name_of(head)}, which every EfficientNet has')
    width = arrays[head].shape[0]
    for name, network in EFFICIENTNETS.items():
        if (network['stage_sizes'], network['head_width']) == (tuple(sizes), width):
            return name
    raise UserError(
        f'no EfficientNet of this project has stages of {tuple(sizes)} blocks and a head of width '
        f'{width}; the file is incomplete or of another network'
    )


def problem_in_timm(architecture: Architecture) -> str | None:
    """Returns the setting for which timm has no network, or None."""
    if architecture.width_multiplier != 1:
        return f'width_multiplier {architecture.width_multiplier!r}'
    form = {field: getattr(architecture, field) for field in FORMS['tf']}
    if form not in FORMS.values():
        return ' and '.join(f'{field} {value!r}' for field, value in form.items())
    return None
