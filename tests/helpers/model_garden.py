"""Model Garden's own ResNet-RS; needs the packages of requirements-parity.txt."""

import tf_keras
from official.vision.modeling.backbones import resnet as garden
from official.vision.modeling.classification_model import ClassificationModel


def build_garden(depth):
    """As in official/vision/configs/image_classification.py, resnet_rs_imagenet."""
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
