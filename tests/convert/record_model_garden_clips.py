"""Writes model_garden_clips.json: logits of Model Garden's 3-D ResNets in float64, and their names.

    python tests/convert/record_model_garden_clips.py

with the packages of requirements-parity.txt. Nothing of this comes from our networks. TensorFlow
has no max pool of clips in float64, so here pools of images compute it.
"""

import importlib.metadata
import json
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
from helpers.garden_clips import CLASSES, hash_clip, hash_variable  # noqa: E402
from helpers.model_garden import build_garden_clips  # noqa: E402

SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'


class MaxPool3D(tf_keras.layers.Layer):
    """tf_keras.layers.MaxPool3D with SAME padding, as a pool over space and then one over time."""

    def __init__(self, pool_size, strides, padding='valid'):
        super().__init__()
        assert padding == 'same' or set(pool_size) == {1}
        self._window, self._strides = pool_size, strides

    def call(self, x):
        batch, frames, height, width, _ = tf.unstack(tf.shape(x))
        x = tf.reshape(x, [batch * frames, height, width, x.shape[-1]])
        x = tf.nn.max_pool2d(x, self._window[1:], self._strides[1:], 'SAME')
        height, width = tf.unstack(tf.shape(x))[1:3]
        x = tf.reshape(x, [batch, frames, height * width, x.shape[-1]])
        x = tf.nn.max_pool2d(x, [self._window[0], 1], [self._strides[0], 1], 'SAME')
        return tf.reshape(x, [batch, tf.shape(x)[1], height, width, x.shape[-1]])


def variables_by_key(model) -> dict:
    """The variables of a model by their names in its own checkpoint."""
    checkpoint = tf.train.Checkpoint(model=model, **model.checkpoint_items)
    filled = {}
    for number, variable in enumerate(model.variables):
        variable.assign(tf.fill(variable.shape, tf.cast(number, variable.dtype)))
    with tempfile.TemporaryDirectory() as directory:
        prefix = checkpoint.save(pathlib.Path(directory) / 'ckpt')
        reader = tf.train.load_checkpoint(prefix)
        for key in reader.get_variable_to_shape_map():
            if key.startswith(('backbone/layer', 'model/layer_with_weights-1/')):
                number = int(reader.get_tensor(key).ravel()[0])
                filled[key.removesuffix(SUFFIX)] = model.variables[number]
    assert len(filled) == len(model.variables)
    return filled


def main() -> None:
    tf_keras.backend.set_floatx('float64')
    tf_keras.layers.MaxPool3D = MaxPool3D
    logits, keys = {}, {}
    for name in ('resnet_3d_rs_50', 'resnet_3d_50_model_garden'):
        model = build_garden_clips(name, CLASSES)
        for key, variable in variables_by_key(model).items():
            variable.assign(hash_variable(key, tuple(variable.shape)))
        logits[name] = model({'image': hash_clip()}, training=False).numpy().tolist()
        keys[name] = sorted(variables_by_key(model))
    packages = ('tensorflow-cpu', 'tf-keras', 'tf-models-official')
    golden = {
        'recorded_from': ', '.join(f'{p} {importlib.metadata.version(p)}' for p in packages),
        'logits': logits,
        'keys': keys,
    }
    (HERE / 'model_garden_clips.json').write_text(json.dumps(golden, indent=0) + '\n')


if __name__ == '__main__':
    main()
