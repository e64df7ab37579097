"""A small 3-D ResNet-RS on videos of moving digits, whose classes are direction and speed.

    python -m resnet_rs.datasets.prepare moving_digits
    python main.py --config=configs/moving_digits.py --workdir=DIR

`configs/moving_digits.py:frames` trains the ResNet-RS for images of the same size on single frames,
which tell nothing about the class: chance is 12.5 %.

Results of one run each, top-1 by the EMA weights on the 720 videos: 100.0 % of clips, 13.9 % of
single frames. The first took 2 min 11 s on two cores, with its start.
"""

from ml_collections import ConfigDict

from resnet_rs.config import default_config
from resnet_rs.utils.errors import UserError

VARIANTS = ('clips', 'frames')


def get_config(variant: str = 'clips') -> ConfigDict:
    """Returns the settings of a variant, 'clips' or 'frames'; locked."""
    if variant not in VARIANTS:
        raise UserError(
            f'configs/moving_digits.py has no variant {variant!r}; it has {" and ".join(VARIANTS)}'
        )
    config = default_config()
    config.batch_size = 32
    config.duration = '12 epochs'

    config.model.name = 'resnet_3d_rs_14' if variant == 'clips' else 'resnet_rs_14'
    config.model.num_classes = 8
    config.model.width_multiplier = 0.25
    config.model.dropout_rate = 0.0
    config.model.dtype = 'float32'  # CPUs have no fast bfloat16
    config.model.padding = 'same'

    config.data.name = 'moving_digits'
    config.data.frames = 8 if variant == 'clips' else 1
    config.data.image_size = 32
    config.data.resize = 'bilinear'
    config.data.crop_area = (1.0, 1.0)  # another size would be another speed
    config.data.crop_ratio = (1.0, 1.0)
    config.data.flip = False  # would exchange left and right
    config.data.augment = 'none'
    config.data.eval_crop = 'fraction 1'
    config.data.mean_rgb = (20.0,) * 3
    config.data.std_rgb = (60.0,) * 3

    config.optimizer.learning_rate = 0.8
    config.optimizer.nesterov = True
    config.optimizer.warmup = '1 epochs'
    config.ema.decay = 0.99
    config.eval.batch_size = 240
    config.eval.every = '3 epochs'
    config.checkpoint.every = '3 epochs'
    config.log.every = '45 steps'
    return config.lock()
