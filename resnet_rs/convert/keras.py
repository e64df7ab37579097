"""Keras' ResNet-RS weights (.h5), with and without the classifier, by order and shape.

Source: tf-keras 2.21, applications/resnet_rs.py; the published files hold the authors' moving
averages. The reader does not rely on layer names, which changed between versions.
"""

import pathlib

import h5py
import numpy as np

from resnet_rs.convert.apart import BrokenDown, call_apart
from resnet_rs.convert.layer_order import FORM, LEAVES, Layer, arrange
from resnet_rs.convert.weights import Source
from resnet_rs.utils.errors import UserError


def read(path: pathlib.Path, which: str) -> Source:
    """Reads the one set of weights in an .h5 file of save_weights or of save.

    Raises UserError for a file that cannot be read or holds no ResNet-RS.
    """
    del which
    try:
        size = path.stat().st_size
        layers, problem = call_apart(_read, path, size=size, library='h5py')
    except (BrokenDown, OSError) as error:
        layers, problem = [], str(error)
    if problem:
        raise UserError(
            f'{path} cannot be read as HDF5 ({problem}); it is damaged, cut short or '
            'of another format'
        )
    arrays, names = arrange(layers, str(path))
    return Source({'raw': arrays, 'ema': arrays}, FORM, lambda key: names.get(key, key))


def _read(path: pathlib.Path) -> tuple[list[Layer], str]:
    """Returns the layers and what is wrong with the file, ''. Raises UserError."""
    try:
        with h5py.File(path, 'r') as file:
            return _layers(file, path), ''
    except UserError:
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        return [], str(error)


def _layers(file, path):
    group = file.get('model_weights', file)
    names = _names(group, 'layer_names')
    if not names:
        raise UserError(
            f'{path} has no layer_names: it is not a file of Keras 2 (Keras 3 writes '
            'another layout); save the weights with tf-keras as .h5'
        )
    layers = []
    room = path.stat().st_size
    for name in names:
        variables = {}
        for weight in _names(group[name], 'weight_names'):
            leaf = weight.rsplit('/', 1)[-1].split(':')[0]
            if leaf not in LEAVES or leaf in variables:
                raise UserError(
                    f'{path}: layer {name} has a variable {weight}, which no layer of '
                    'a ResNet-RS has; it is of another network'
                )
            # Keras does not compress. h5py would fill a variable beyond the file with zeros.
            room -= group[name][weight].nbytes
            if room < 0:
                raise UserError(
                    f'{path}: layer {name} has a variable {weight} of shape '
                    f'{group[name][weight].shape}, more than the file holds; it is '
                    'damaged'
                )
            variables[leaf] = np.asarray(group[name][weight])
        if variables:
            layers.append(Layer(name, variables))
    return layers


def _names(group, attribute):
    """Reads a list of names, which Keras divides into numbered attributes if it is too long."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while f'{attribute}{len(parts)}' in group.attrs:
            parts.append(group.attrs[f'{attribute}{len(parts)}'])
    return [n.decode() if isinstance(n, bytes) else str(n) for part in parts for n in part]
