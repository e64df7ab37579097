"""TF Model Garden's object checkpoints: ResNet-RS, and 3-D ResNets (model_garden_clips.py).

Source: tf-models-official 2.20, official/vision (modeling/backbones/resnet.py). Its ResNet-RS
differs from the paper's: swish, TensorFlow's SAME padding, a stride-1 pool in the first shortcut,
and a class 0 for background; it is evaluated with a centre crop of 0.875 and bilinear resizing.
"""

import functools
import itertools
import pathlib
import re

from resnet_rs.convert import model_garden_clips as clips
from resnet_rs.convert.tensorflow_checkpoint import read_tensors
from resnet_rs.convert.weights import Source, candidate_paths, check_known

SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'
AVERAGE = '/.OPTIMIZER_SLOT/optimizer/average' + SUFFIX
WEIGHTS = re.compile(r'(backbone|model)/layer_with_weights-\d+/')
OPTIMIZER_SLOT = '/.OPTIMIZER_SLOT/'
LEAVES = {'scale': 'gamma', 'bias': 'beta', 'mean': 'moving_mean', 'var': 'moving_variance'}
STEM_LAYERS = 8  # four convolutions and their norms, alternating
CLASSES_WITH_BACKGROUND = 1001
FORM = {
    'stem': 'deep_strided',
    'shortcut': 'average_pool',
    'activation': 'swish',
    'padding': 'same',
    'pool_unstrided_shortcut': True,
}
DATA = {'eval_crop': 'fraction 0.875', 'resize': 'bilinear'}


def read(path: pathlib.Path, which: str) -> Source:
    """Reads the model's variables and, if the checkpoint has them, their moving averages.

    With `which` 'raw', or without averages in the checkpoint, the variables also serve as the
    averages. Counters and other optimiser slots are not read. Raises UserError for a checkpoint
    that cannot be read or belongs to another network.
    """
    tensors = read_tensors(path, _is_weight)
    variables = {k.removesuffix(SUFFIX): v for k, v in tensors.items() if AVERAGE not in k}
    averages = {k.removesuffix(AVERAGE): v for k, v in tensors.items() if AVERAGE in k}
    sizes = _stage_sizes(variables)
    is_for_clips = any(clips.OF_A_BLOCK in name for name in variables)
    if is_for_clips:
        stem = clips.stem_of(variables)
        name_of = functools.partial(clips.garden_key, stage_sizes=sizes, stem=stem)
        paths = clips.paths(sizes, stem)
    else:
        name_of = functools.partial(garden_key, stage_sizes=sizes)
        paths = candidate_paths(sizes, FORM['stem'])
    path_of = {name_of(path): path for path in paths}
    check_known(variables | averages, path_of, str(path))
    weights = {'raw': _arrays(variables, path_of), 'ema': _arrays(variables, path_of)}
    notes = []
    if averages and which == 'ema':
        weights['ema'] = _arrays(averages, path_of)
    else:
        reason = 'as requested' if averages else 'the checkpoint has no averages'
        notes.append(f'the variables also serve as the moving averages: {reason}')
    head = variables.get('model/layer_with_weights-1/bias')
    if head is not None and len(head) == CLASSES_WITH_BACKGROUND:
        notes.append('class 0 of 1001, the background, is left out')
    if not is_for_clips:
        return Source(weights, FORM, name_of, DATA, tuple(notes))
    return Source(
        weights,
        {},
        name_of,
        clips.DATA,
        tuple(notes),
        family='3-D ResNet',
        recognise=lambda variant: clips.recognise(weights['ema'], sizes, stem),
        usual_classes=clips.CLASSES,
        dataset='Kinetics',
    )


def _is_weight(name):
    return WEIGHTS.match(name) and (name.endswith(AVERAGE) or OPTIMIZER_SLOT not in name)


def _arrays(tensors, path_of):
    arrays = {}
    for name, array in tensors.items():
        leaf = path_of[name]
        is_gate = 'squeeze_excite' in leaf or 'self_gating' in leaf
        if is_gate and leaf.endswith('kernel') and set(array.shape[:-2]) == {1}:
            array = array.reshape(array.shape[-2:])
        if leaf.startswith('head/') and array.shape[-1] == CLASSES_WITH_BACKGROUND:
            array = array[..., 1:]
        arrays[leaf] = array
    return arrays


def _stage_sizes(names):
    """Returns the blocks per stage; a stage starts with a block that has a projection."""
    layer = re.compile(r'backbone/layer_with_weights-(\d+)/(_shortcut1/|_norm0/)?')
    matches = [match for name in names if (match := layer.match(name))]
    starts = sorted({int(match[1]) for match in matches if match[2]})
    end = max((int(match[1]) for match in matches), default=0) + 1
    return tuple(b - a for a, b in itertools.pairwise([*starts, end]))


def garden_key(path: str, stage_sizes: tuple[int, ...]) -> str:
    """Returns the checkpoint's key (without suffix) of a path 'stage1/block2/conv3/kernel'."""
    *modules, leaf = path.split('/')
    if modules == ['head']:
        return f'model/layer_with_weights-1/{leaf}'
    if modules[0] == 'stem':
        kind, number = modules[1][:-1], int(modules[1][-1])
        index = 2 * (number - 1) + (kind == 'norm')
        return f'backbone/layer_with_weights-{index}/' + _leaf(kind, leaf)
    stage, block = int(modules[0].removeprefix('stage')), int(modules[1].removeprefix('block'))
    index = STEM_LAYERS + sum(stage_sizes[: stage - 1]) + block - 1
    prefix = f'backbone/layer_with_weights-{index}/'
    if modules[2] == 'squeeze_excite':
        return f'{prefix}_squeeze_excitation/_se_{modules[3]}/{leaf}'
    name = {'shortcut_conv': '_shortcut1', 'shortcut_norm': '_norm0'}.get(
        modules[2], '_' + modules[2]
    )
    return f'{prefix}{name}/' + _leaf(modules[2], leaf)


def _leaf(module, leaf):
    return LEAVES[leaf] if 'norm' in module else leaf
