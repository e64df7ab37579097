"""The config.json with which timm reads a network from a folder or from the Hub.

Source: timm 1.0.31, models/_hub.py and models/resnet.py.
"""

import re

from resnet_rs.export.network import Network
from resnet_rs.models.resnet import STAGE_WIDTHS
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.rules import crop_fraction

# The networks of this project that timm has: pattern of the name, timm's name, depths.
TIMM_NETWORKS = (
    (r'resnet_rs_(\d+)', 'resnetrs{}', (50, 101, 152, 200, 270, 350, 420)),
    (r'resnet_(\d+)', 'resnet{}', (18, 26, 34, 50, 101, 152, 200)),
    (r'resnet_(\d+)c', 'resnet{}c', (50, 101, 152)),
    (r'resnet_(\d+)d', 'resnet{}d', (18, 26, 34, 50, 101, 152, 200)),
    (r'se_resnet_(\d+)', 'seresnet{}', (18, 34, 50, 101, 152)),
    (r'se_resnet_(\d+)d', 'seresnet{}d', (152, 200)),
)
# Pillow's kernels that come closest to those of TensorFlow; all of Pillow's are antialiased.
KERNELS = {'bicubic_tf1': 'bicubic', 'bicubic': 'bicubic', 'bicubic_antialias': 'bicubic'}
OTHER_KERNEL = 'bilinear'


def timm_name(name: str) -> str:
    """Returns timm's name of a network; raises UserError if timm does not have it."""
    for pattern, theirs, depths in TIMM_NETWORKS:
        if (match := re.fullmatch(pattern, name)) and int(match[1]) in depths:
            return theirs.format(match[1])
    raise UserError(
        f'timm has no {name}, and the weights of a published folder are in its layout; '
        'python -m resnet_rs.export writes files that need no timm'
    )


def timm_config(network: Network) -> dict:
    """Returns the contents of config.json; raises UserError if timm does not have the network."""
    data, size = network.config.data, network.image_size
    architecture = network.model.architecture
    expansion = 4 if architecture.block == 'bottleneck' else 1
    classes = len(network.class_names)
    return {
        'architecture': timm_name(network.config.model.name),
        'num_classes': classes,
        'num_features': architecture.width(STAGE_WIDTHS[-1]) * expansion,
        'label_names': list(network.class_names),
        'pretrained_cfg': {
            'custom_load': False,
            'input_size': [3, size, size],
            'fixed_input_size': False,
            'interpolation': KERNELS.get(data.resize, OTHER_KERNEL),
            'crop_pct': float(crop_fraction(data.eval_crop, size)),
            'crop_mode': 'center',
            'mean': [value / 255 for value in data.mean_rgb],
            'std': [value / 255 for value in data.std_rgb],
            'num_classes': classes,
            'pool_size': [-(-size // 32)] * 2,
            'first_conv': 'conv1' if architecture.stem == 'conv7' else 'conv1.0',
            'classifier': 'fc',
        },
    }
