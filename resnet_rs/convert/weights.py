"""Conversion of a file's tensors to the variables of one of this project's networks.

The module of a format (timm, keras, tf1, model_garden) reads a file and returns a `Source`. This
module recognises the network by the tensors and uses every tensor exactly once.
"""

import collections
import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from resnet_rs.convert import resnest
from resnet_rs.models import VARIANTS, create_model, init_variables
from resnet_rs.models.layers import squeeze_excite_width
from resnet_rs.models.residual import STAGE_WIDTHS
from resnet_rs.models.resnet import Architecture
from resnet_rs.utils.errors import UserError, count_of

Arrays = dict[str, np.ndarray]  # by path within a collection: 'stage1/block2/conv3/kernel'
STATISTICS = ('mean', 'var')
# By what --variant can say besides its default, v1.5.
FAMILY_OF_VARIANT = {
    'v1': 'ResNet',
    'fast': 'ResNeSt',
    'tf': 'EfficientNet',
    'timm': 'EfficientNet',
}


@dataclasses.dataclass(frozen=True)
class Source:
    """The weights of a file, under this project's names and in its layouts.

    weights: {'raw': arrays, 'ema': arrays}; the same arrays if the file has only one set.
    form: the fields of Architecture that follow from the tensors' names or the format.
    name_of: returns the file's own name of a path, for messages.
    data: settings of config.data that belong to these weights.
    notes: remarks for the user.
    family: the networks that the tensors' names are of.
    recognise: for a family with a module of its own here, a function of --variant that returns the
      network's name and the settings of config.model that the weights need; None for ResNets.
    usual_classes: the numbers of classes that need no --num_classes, those of `dataset`.
    """

    weights: dict[str, Arrays]
    form: dict
    name_of: Callable[[str], str]
    data: dict = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    family: str = 'ResNet'
    recognise: Callable[[str], tuple[str, dict]] | None = None
    usual_classes: tuple[int, ...] = (1000,)
    dataset: str = 'ImageNet'


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of this project with the other settings that the weights need."""

    name: str
    num_classes: int
    settings: dict

    def create(self, **overrides) -> nn.Module:
        settings = {'dtype': 'float32', 'num_classes': self.num_classes} | self.settings
        return create_model(self.name, **settings | overrides)


def candidate_paths(stage_sizes: tuple[int, ...], stem: str) -> Iterator[str]:
    """Yields every path that any network with these stages and this stem has."""
    norm = ('scale', 'bias', 'mean', 'var')
    stem_layers = {'conv7': 1, 'deep': 3, 'deep_strided': 4}[stem]
    layers = [('stem', index) for index in range(1, stem_layers + 1)]
    for stage, size in enumerate(stage_sizes, start=1):
        for block in range(1, size + 1):
            prefix = f'stage{stage}/block{block}'
            layers += [(prefix, index) for index in (1, 2, 3)]
            for layer in ('reduce', 'expand'):
                yield from (f'{prefix}/squeeze_excite/{layer}/{x}' for x in ('kernel', 'bias'))
            yield from (f'{prefix}/{path}' for path in resnest.PATHS)
            yield f'{prefix}/shortcut_conv/kernel'
            yield from (f'{prefix}/shortcut_norm/{leaf}' for leaf in norm)
    for prefix, index in layers:
        yield f'{prefix}/conv{index}/kernel'
        yield from (f'{prefix}/norm{index}/{leaf}' for leaf in norm)
    yield from ('head/kernel', 'head/bias')


def recognise(source: Source, variant: str, num_classes: int | None) -> Network:
    """Returns the network to which the weights belong.

    Args:
      source: a file's tensors; the names and shapes of its 'ema' set decide.
      variant: 'v1' or 'v1.5', the form of a bottleneck ResNet with a 7x7 stem; 'fast' for a ResNeSt
        that pools before its 3x3 convolutions; 'tf' or 'timm', the form of an EfficientNet.
      num_classes: number of classes; None for the file's own if it is 1000.

    Raises UserError if the table has no such network and for another family's variant.
    """
    arrays = source.weights['ema']
    if FAMILY_OF_VARIANT.get(variant, source.family) != source.family:
        raise UserError(
            f'--variant={variant} is of {FAMILY_OF_VARIANT[variant]}, and these tensors are of '
            f'{source.family}; leave it out'
        )
    if source.recognise:
        name, settings = source.recognise(variant)
        return Network(name, _head_size(source, num_classes), settings)
    form = _parts(arrays) | source.form
    if len(form['stage_sizes']) != len(STAGE_WIDTHS):
        raise UserError(
            f'the file has residual blocks of {len(form["stage_sizes"])} stages, not '
            'of 4; it is incomplete or of another network'
        )
    width = _array(source, 'stage4/block1/conv1/kernel').shape[-1] / STAGE_WIDTHS[-1]
    fields = {field.name: field.default for field in dataclasses.fields(Architecture)}
    wanted = {name: form.get(name, fields[name]) for name in ('stem', 'shortcut', 'block')}
    wanted['stage_sizes'] = form['stage_sizes']
    wanted['stride_in'] = 'conv1' if variant == 'v1' else 'conv2'
    gated = any('/squeeze_excite/' in path for path in arrays)
    matches = [
        name
        for name, parts in VARIANTS.items()
        if all(parts.get(key, fields[key]) == value for key, value in wanted.items())
        and bool(parts.get('squeeze_excite_ratio')) == gated
    ]
    if not matches:
        raise UserError(
            f'no network of this project has stages {form["stage_sizes"]} of {form["block"]} '
            f'blocks, stem {form["stem"]!r}, shortcut {form["shortcut"]!r}, form {variant} and '
            f'squeeze-excite {"on" if gated else "off"}; see resnet_rs.models.VARIANTS'
        )
    if gated:  # some networks differ in the ratio alone
        kernel = _array(source, 'stage4/block1/squeeze_excite/reduce/kernel')
        ratio = kernel.shape[-1] / kernel.shape[-2]
        matches.sort(key=lambda name: abs(VARIANTS[name]['squeeze_excite_ratio'] - ratio))
    name = matches[0]
    settings = {k: v for k, v in source.form.items() if k not in (*wanted, 'stage_sizes')}
    if width != 1:
        settings['width_multiplier'] = width
    if gated and (divisor := _squeeze_excite_divisor(source, VARIANTS[name])) != 1:
        settings['squeeze_excite_divisor'] = divisor
    return Network(name, _head_size(source, num_classes), settings)


def assemble(source: Source, network: Network) -> tuple[dict, tuple[str, ...]]:
    """Returns ({'raw': variables, 'ema': variables}, notes) with float32 leaves.

    A new classifier replaces one whose number of classes differs from `network`'s. Raises UserError
    naming tensors that are missing, unknown, of another shape or not finite.
    """
    model = network.create()
    shapes = jax.eval_shape(lambda: init_variables(model, 64))
    expected = {
        path.split('/', 1)[1]: leaf.shape
        for path, leaf in flax.traverse_util.flatten_dict(dict(shapes), sep='/').items()
    }
    head = source.weights['ema'].get('head/kernel')
    notes = ()
    new_head = {}
    if head is None or head.shape[-1] != network.num_classes:
        had = (
            'no classifier'
            if head is None
            else (f'a classifier of {count_of(head.shape[-1], "class")}')
        )
        notes = (
            f'the file has {had}: the one of {count_of(network.num_classes, "class")} is NEWLY '
            'INITIALISED and predicts nothing before it is trained',
        )
        init = jax.jit(lambda: init_variables(model, 64)['params']['head'])  # draws the head alone
        new_head = {f'head/{name}': np.asarray(leaf) for name, leaf in init().items()}
    weights = {}
    for which, arrays in source.weights.items():
        if new_head:
            arrays = {k: v for k, v in arrays.items() if not k.startswith('head/')} | new_head
        _check_fit(arrays, expected, source, network)
        weights[which] = _variables(arrays)
    return weights, notes


def paths_of(variables: dict) -> Arrays:
    """Returns the leaves of {'params', 'batch_stats'} by path within their collection."""
    flat = flax.traverse_util.flatten_dict(variables, sep='/')
    return {path.split('/', 1)[1]: np.asarray(leaf) for path, leaf in flat.items()}


def check_known(names, known, what: str) -> None:
    """Raises UserError naming the members of `names` that are not in `known`."""
    if not (left_over := sorted(set(names) - set(known))):
        return
    near = difflib.get_close_matches(left_over[0], known, n=1, cutoff=0.9)
    hint = f' (similar: {near[0]})' if near else ''
    raise UserError(
        f'{what} has {count_of(len(left_over), "tensor")} that no network of this project has: '
        f'{_some(left_over)}{hint}; it is of another network or another framework'
    )


def _parts(arrays):
    """Returns the block and the stage sizes that the paths show."""
    sizes = collections.defaultdict(int)
    for path in arrays:
        if match := re.match(r'stage(\d)/block(\d+)/', path):
            stage, block = map(int, match.groups())
            sizes[stage] = max(sizes[stage], block)
    bottleneck = any(re.match(r'stage\d/block\d+/(conv|norm)3/', path) for path in arrays)
    return {
        'stage_sizes': tuple(sizes[stage] for stage in sorted(sizes)),
        'block': 'bottleneck' if bottleneck else 'basic',
    }


def _squeeze_excite_divisor(source, parts):
    ratio = parts['squeeze_excite_ratio']
    channels, hidden = [], []
    for stage in range(1, len(STAGE_WIDTHS) + 1):
        kernel = _array(source, f'stage{stage}/block1/squeeze_excite/reduce/kernel')
        channels.append(kernel.shape[0])
        hidden.append(kernel.shape[1])
    for divisor in (1, 8):
        if hidden == [squeeze_excite_width(c, ratio, divisor) for c in channels]:
            return divisor
    raise UserError(
        f'squeeze-excite has hidden widths {hidden} for {channels} channels; expected is '
        f'{ratio} of the channels, exactly or rounded to a multiple of 8'
    )


def _head_size(source, num_classes):
    if num_classes is not None:
        return num_classes
    arrays, usual = source.weights['ema'], source.usual_classes
    if 'head/kernel' not in arrays:
        raise UserError(
            'the file has no classifier; give --num_classes=N to add one, newly initialised, for '
            'training on N classes'
        )
    size = arrays['head/kernel'].shape[-1]
    if size not in usual:
        usual = ' or '.join(map(str, usual)) + f' of {source.dataset}'
        raise UserError(
            f'the classifier of the file has {count_of(size, "class")}, not the {usual}; '
            f'give --num_classes={size} to keep it, or another number for a newly initialised one'
        )
    return size


def _array(source, path):
    if path not in source.weights['ema']:
        raise UserError(
            f'the file has no tensor {source.name_of(path)}, which every network of '
            'this kind has; it is incomplete or of another network'
        )
    return source.weights['ema'][path]


def _check_fit(arrays, expected, source, network):
    if missing := sorted(expected.keys() - arrays.keys()):
        names = _some([source.name_of(path) for path in missing])
        raise UserError(
            f'the file lacks {count_of(len(missing), "tensor")} of {network.name}: '
            f'{names}; get the complete file'
        )
    if left_over := sorted(arrays.keys() - expected.keys()):
        names = _some([source.name_of(path) for path in left_over])
        raise UserError(
            f'the file has {count_of(len(left_over), "tensor")} without a place in '
            f'{network.name}: {names}; it is of another network'
        )
    for path, shape in sorted(expected.items()):
        if arrays[path].shape != shape:
            raise UserError(
                f'tensor {source.name_of(path)} has shape {arrays[path].shape} (in '
                f'our layout), {network.name} needs {shape}; it is of another network'
            )
        if not np.isfinite(arrays[path]).all():
            raise UserError(
                f'tensor {source.name_of(path)} holds infinities or NaNs; the file '
                'is damaged or its training had diverged'
            )


def _variables(arrays):
    flat = {}
    for path, array in arrays.items():
        collection = 'batch_stats' if path.endswith(STATISTICS) else 'params'
        flat[f'{collection}/{path}'] = np.ascontiguousarray(array, np.float32)
    return flax.traverse_util.unflatten_dict(flat, sep='/')


def _some(names):
    shown = ', '.join(names[:3])
    return shown if len(names) <= 3 else f'{shown} and {len(names) - 3} more'
