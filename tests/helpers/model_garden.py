"""Model Garden's own ResNet-RS and 3-D ResNets; needs the packages of requirements-parity.txt."""

import tf_keras
from official.vision.modeling.backbones import resnet as garden
from official.vision.modeling.backbones import resnet_3d as garden_clips
from official.vision.modeling.classification_model import ClassificationModel
from official.vision.modeling.video_classification_model import VideoClassificationModel


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
