"""Model Garden's own ResNet-RS and 3-D ResNets; needs the packages of requirements-parity.txt."""

import pathlib
import tempfile

import tensorflow as tf
import tf_keras
from official.vision.modeling.backbones import resnet as garden
from official.vision.modeling.backbones import resnet_3d as garden_clips
from official.vision.modeling.classification_model import ClassificationModel
from official.vision.modeling.video_classification_model import VideoClassificationModel

SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'


def build_garden(depth):
    """Builds the network of official/vision/configs/image_classification.py, resnet_rs_imagenet."""
    backbone = garden.ResNet(
        model_id=depth,
        replace_stem_max_pool=True,
        resnetd_shortcut=True,
        se_ratio=0.25,
        stem_type='v1',
        activation='swish',
        norm_momentum=0.0,
        norm_epsilon=1e-5,
    )
    shape = tf_keras.layers.InputSpec(shape=[None, None, None, 3])
    return ClassificationModel(backbone, num_classes=1001, input_specs=shape)


def build_garden_clips(name, classes):
    """Builds the network of k400_resnet3drs_50_tpu.yaml (video_classification), or `resnet_3d`."""
    settings = dict(
        temporal_kernel_sizes=((1,) * 3, (1,) * 4, (3,) * 6, (3,) * 3),
        stem_type='v1',
        stem_pool_temporal_stride=1,
        se_ratio=0.25,
    )
    if name == 'resnet_3d_50_model_garden':
        settings = dict(
            temporal_kernel_sizes=((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1)),
        )
    backbone = garden_clips.ResNet3D(
        model_id=50,
        temporal_strides=(1, 1, 1, 1),
        use_self_gating=(1, 1, 1, 1),
        norm_momentum=0.0,
        norm_epsilon=1e-5,
        **settings,
    )
    return VideoClassificationModel(backbone, num_classes=classes)


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
