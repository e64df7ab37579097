"""The authors' TF1 checkpoints of ResNet-RS and EfficientNet: raw weights and their averages.

Sources: tensorflow/tpu, models/official/resnet and efficientnet. Variables of a ResNet-RS carry
Keras' counter names in the order in which the network is built ('conv2d', 'conv2d_1', ...), those
of an EfficientNet the names of its blocks (efficientnet.py).
"""

import pathlib
import re

from resnet_rs.convert import efficientnet
from resnet_rs.convert.layer_order import FORM, Layer, arrange
from resnet_rs.convert.tensorflow_checkpoint import read_tensors
from resnet_rs.convert.weights import Source
from resnet_rs.utils.errors import UserError

AVERAGE = '/ExponentialMovingAverage'
IGNORED = re.compile(r'global_step|.*/(Momentum|RMSProp(_1)?)')
NAME = re.compile(
    r'(?P<kind>conv2d|batch_normalization|dense)(_(?P<number>\d+))?/'
    r'(?P<variable>kernel|bias|gamma|beta|moving_mean|moving_variance)'
)


def read(path: pathlib.Path, which: str) -> Source:
    """Reads raw weights and moving averages; with `which` 'raw' the raw ones serve as both.

    If the checkpoint has no raw weights, the averages replace them. Raises UserError for a
    checkpoint without the requested weights or of another network.
    """
    tensors = read_tensors(path, _is_weight)
    averages = {k.removesuffix(AVERAGE): v for k, v in tensors.items() if k.endswith(AVERAGE)}
    raw = {name: array for name, array in tensors.items() if not name.endswith(AVERAGE)}
    if which == 'ema' and not averages:
        raise UserError(f'{path} holds no moving averages; give --weights=raw for the raw weights')
    if which == 'raw':
        if not raw:
            raise UserError(f'{path} holds only moving averages; leave out --weights=raw')
        sets, notes = {'raw': raw, 'ema': raw}, ('the raw weights replace the averages',)
    elif raw:
        sets, notes = {'raw': raw, 'ema': averages}, ()
    else:
        sets = {'raw': averages, 'ema': averages}
        notes = ('the averages replace the raw weights, which are not in the checkpoint',)
    if any(efficientnet.TF1_BLOCK.match(name) for name in sets['ema']):
        return efficientnet.tf1_source(sets, path, notes)
    weights, names = {}, {}
    for name, variables in sets.items():
        weights[name], names = arrange(_layers(variables, path), f'{path} ({name} weights)')
    return Source(weights, FORM, lambda key: names.get(key, key), notes=notes)


def _is_weight(name):
    return not IGNORED.fullmatch(name)


def _layers(tensors, path):
    layers = {}
    for name, array in tensors.items():
        match = NAME.fullmatch(name)
        if not match:
            raise UserError(
                f"{path} has a tensor {name!r}, which the authors' ResNet-RS does not have; "
                'it is of another network'
            )
        key = (match['kind'], int(match['number'] or 0))
        layer = layers.setdefault(key, Layer(name.rsplit('/', 1)[0], {}))
        layer.variables[match['variable']] = array
    for kind, number in sorted(layers):
        if number and (kind, number - 1) not in layers:
            before = f'{kind}_{number - 1}' if number > 1 else kind
            raise UserError(
                f'{path} has {kind}_{number} but no {before}; it is incomplete or of '
                'another network'
            )
    return [layer for _, layer in sorted(layers.items())]
