"""EfficientNet on ImageNet: B0 to B7 as their authors trained them, and EfficientNet-RS.

    python main.py --config=configs/efficientnet.py:b0 --workdir=DIR

trains EfficientNet-B0 at 224 pixels by Tan and Le's recipe: RMSProp, 350 epochs of batch 4096, the
rate times 0.97 every 2.4 epochs, AutoAugment. The dataset imagenet2012 has to be prepared first
(README.md). `b4@224` is EfficientNet-RS (Bello et al. 2021, section 7.2): the network of a row at
another resolution, with RandAugment of magnitude 10 up to 224 pixels, 15 up to 320 and 20 above.
That paper gives its resolutions in a figure only, so there is no row of its own for them.

The recipe is that of tensorflow/tpu, models/official/efficientnet. "paper" is the top-1 of its
README, with AutoAugment or, for B5 and B7, with RandAugment; "ours" is what this code reached.
Of B8 and L2, which were published with other recipes, only the networks are here, for planning.
"""

import re

from ml_collections import ConfigDict

from resnet_rs.config import default_config
from resnet_rs.utils.errors import UserError

# name    pixels, dropout, RandAugment M; 0: AutoAugment  paper  ours
TABLE = {
    'b0': (224,   0.2,     0),                          # 77.1   not run
    'b1': (240,   0.2,     0),                          # 79.1   not run
    'b2': (260,   0.3,     0),                          # 80.1   not run
    'b3': (300,   0.3,     0),                          # 81.6   not run
    'b4': (380,   0.4,     0),                          # 82.9   not run
    'b5': (456,   0.4,     17),                         # 83.7   not run
    'b6': (528,   0.5,     0),                          # 84.0   not run
    'b7': (600,   0.5,     28),                         # 84.7   not run
    'b8': (672,   0.5,     28),                         # for planning
    'l2': (800,   0.5,     28),                         # for planning
}  # fmt: skip


def get_config(row: str = 'b0') -> ConfigDict:
    """Returns the configuration of a row of TABLE, or of 'ROW@PIXELS', locked."""
    name, at, pixels = row.partition('@')
    if name not in TABLE or (at and not re.fullmatch(r'\d{2,4}', pixels, re.ASCII)):
        raise UserError(
            f'configs/efficientnet.py has no row {row!r}; it has {", ".join(TABLE)}, each also as '
            'EfficientNet-RS with a resolution, as b4@224'
        )
    image_size, dropout_rate, magnitude = TABLE[name]
    if at:
        image_size = int(pixels)
        magnitude = 10 if image_size <= 224 else 20 if image_size > 320 else 15
    config = default_config()
    config.model.name = f'efficientnet_{name}'
    config.model.padding = 'same'
    config.model.dropout_rate = dropout_rate
    config.model.stochastic_depth_rate = 0.2
    config.model.batch_norm_momentum = 0.99
    config.model.batch_norm_epsilon = 1e-3

    config.data.image_size = image_size
    if magnitude:
        config.data.randaugment_magnitude = magnitude
    else:
        config.data.augment = 'autoaugment_v0'

    config.optimizer.name = 'rmsprop'
    config.optimizer.learning_rate = 0.016
    config.optimizer.schedule = 'exponential'
    config.optimizer.weight_decay = 1e-5
    return config.lock()
