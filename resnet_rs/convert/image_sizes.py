"""Resolutions of released weights, for files whose name does not contain one.

By depth of timm's ResNet-RS, and of the authors of ResNeSt and EfficientNet.
"""

IMAGE_SIZES = {
    'resnet_rs_50': 160,
    'resnet_rs_101': 192,
    'resnet_rs_152': 256,
    'resnet_rs_200': 256,
    'resnet_rs_270': 256,
    'resnet_rs_350': 256,
    'resnet_rs_420': 320,
    'resnest_101': 256,
    'resnest_200': 320,
    'resnest_269': 416,
    'efficientnet_b0': 224,
    'efficientnet_b1': 240,
    'efficientnet_b2': 260,
    'efficientnet_b3': 300,
    'efficientnet_b4': 380,
    'efficientnet_b5': 456,
    'efficientnet_b6': 528,
    'efficientnet_b7': 600,
    'efficientnet_b8': 672,
    'efficientnet_l2': 800,
}
OTHER_IMAGE_SIZE = 224
CLIPS_IMAGE_SIZE = 256  # of the thirty views of Model Garden
