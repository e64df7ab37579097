"""The config.json with which timm reads a network from a folder or from the Hub.

Source: timm 1.0.31, models/_hub.py, resnet.py, resnest.py and efficientnet.py.
"""

import dataclasses
import re

from resnet_rs.convert import timm
from resnet_rs.convert.weights import Arrays, paths_of
from resnet_rs.datasets.imagenet_classes import imagenet_names
from resnet_rs.export.network import Network
from resnet_rs.models import efficientnet, resnest
from resnet_rs.models.residual import STAGE_WIDTHS, ResidualArchitecture
from resnet_rs.models.variants import LAYOUTS
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.rules import SQUASH, crop_fraction

# The ResNets that timm has: pattern of the name here, timm's name, its depths.
RESNETS = (
    (r'resnet_rs_(\d+)', 'resnetrs{}', (50, 101, 152, 200, 270, 350, 420)),
    (r'resnet_(\d+)', 'resnet{}', (18, 26, 34, 50, 101, 152, 200)),
    (r'resnet_(\d+)c', 'resnet{}c', (50, 101, 152)),
    (r'resnet_(\d+)d', 'resnet{}d', (18, 26, 34, 50, 101, 152, 200)),
    (r'se_resnet_(\d+)', 'seresnet{}', (18, 34, 50, 101, 152)),
    (r'se_resnet_(\d+)d', 'seresnet{}d', (152, 200)),
)
RESNESTS = {14: 'd', 26: 'd', 50: 'd', 101: 'e', 200: 'e', 269: 'e'}
FAST_RESNESTS = ('4s2x40d', '1s4x24d')
# timm resizes with Pillow, whose kernels are all antialiased.
KERNELS = {'bicubic_tf1': 'bicubic', 'bicubic': 'bicubic', 'bicubic_antialias': 'bicubic'}
OTHER_KERNEL = 'bilinear'


def timm_network(name: str, architecture) -> tuple[str, dict]:
    """Returns timm's name of a network and the other arguments of its function there.

    A depth or a width that timm does not have is another network there with these `layers` or
    `channels`. Raises UserError if timm has no such network. `architecture` is that of `name`.
    """
    if architecture.output_stride != 32:
        raise UserError(
            f'the network has model.output_stride {architecture.output_stride}; publish takes '
            'classifiers, whose output stride is 32; python -m resnet_rs.export takes all'
        )
    if isinstance(architecture, efficientnet.Architecture):
        return ('tf_' if architecture.padding == 'same' else '') + name, {}
    if isinstance(architecture, resnest.Architecture):
        theirs, arguments = _timm_resnest(name, architecture)
    else:
        theirs, arguments = _timm_resnet(name, architecture)
    return theirs, arguments | _widths(name, architecture)


def _timm_resnet(name: str, architecture) -> tuple[str, dict]:
    for pattern, theirs, depths in RESNETS:
        if match := re.fullmatch(pattern, name):
            depth = int(match[1])
            if depth in depths:
                return theirs.format(depth), {}
            for other in depths:
                if LAYOUTS[other][0] == LAYOUTS[depth][0]:  # the same block
                    return theirs.format(other), {'layers': list(architecture.stage_sizes)}
    raise _not_in_timm(name)


def _timm_resnest(name: str, architecture) -> tuple[str, dict]:
    depth, _, form = re.fullmatch(r'resnest_(\d+)(_fast_(\w+))?', name).groups()
    if form is None:
        return f'resnest{depth}{RESNESTS[int(depth)]}', {}
    if form in FAST_RESNESTS:
        return f'resnest{depth}d_{form}', {}
    return f'resnest{depth}d', {
        'base_width': architecture.bottleneck_width,
        'cardinality': architecture.cardinality,
        'block_args': {'radix': architecture.radix, 'avd': True, 'avd_first': True},
    }


def _widths(name: str, architecture) -> dict:
    if architecture.width_multiplier == 1:
        return {}
    if len(architecture.stem_layers) == 1:  # timm's 7x7 stem has 64 channels in any case
        raise _not_in_timm(f'{name} of width {architecture.width_multiplier}')
    narrow, *_, wide = (features for features, _, _ in architecture.stem_layers)
    if wide != 2 * narrow:  # two widths that are cut to integers
        raise _not_in_timm(
            f'{name} of width {architecture.width_multiplier}, whose stem has layers of {narrow} '
            f'and {wide} channels (timm: of {narrow} and {2 * narrow})'
        )
    return {
        'stem_width': narrow,
        'channels': [architecture.width(width) for width in STAGE_WIDTHS],
    }


def _not_in_timm(what: str) -> UserError:
    return UserError(
        f'timm has no {what}, and the weights of a published folder are in its layout; '
        'python -m resnet_rs.export writes files that need no timm'
    )


def timm_state(network: Network) -> Arrays:
    """Returns the state dict of the network of `timm_config`; raises UserError without one."""
    architecture = network.model.architecture
    if isinstance(architecture, ResidualArchitecture):  # its width is in model_args
        architecture = dataclasses.replace(architecture, width_multiplier=1.0)
    return timm.to_state_dict(paths_of(network.variables), architecture)


def timm_config(network: Network) -> dict:
    """Returns the contents of config.json; raises UserError if timm does not have the network."""
    data, size = network.config.data, network.image_size
    architecture = network.model.architecture
    name, arguments = timm_network(network.config.model.name, architecture)
    classes = len(network.class_names)
    if isinstance(architecture, efficientnet.Architecture):
        first, classifier = 'conv_stem', 'classifier'
    else:
        first = 'conv1' if len(architecture.stem_layers) == 1 else 'conv1.0'
        classifier = 'fc'
    return {
        'architecture': name,
        **({'model_args': arguments} if arguments else {}),
        'num_classes': classes,
        'num_features': network.variables['params']['head']['kernel'].shape[0],
        **_labels(network.class_names),
        'pretrained_cfg': {
            'custom_load': False,
            'input_size': [3, size, size],
            'fixed_input_size': False,
            'interpolation': KERNELS.get(data.resize, OTHER_KERNEL),
            'crop_pct': float(crop_fraction(data.eval_crop, size) or 1),
            'crop_mode': 'squash' if data.eval_crop == SQUASH else 'center',
            'mean': [value / 255 for value in data.mean_rgb],
            'std': [value / 255 for value in data.std_rgb],
            'num_classes': classes,
            'pool_size': [-(-size // 32)] * 2,
            'first_conv': first,
            'classifier': classifier,
        },
    }


def _labels(class_names: tuple[str, ...]) -> dict:
    """Returns timm's fields for the classes; of ImageNet's the names are its synsets."""
    descriptions = dict(name.partition(' ')[::2] for name in class_names)
    if descriptions.keys() <= imagenet_names().keys():
        return {'label_names': list(descriptions), 'label_descriptions': descriptions}
    return {'label_names': list(class_names)}
