"""A ResNet-RS on a folder of one's own images, from a few hundred to some ten thousand.

    python main.py --config=configs/image_folder.py --workdir=DIR --config.data.data_dir=DATA

DATA holds train/CLASS/* and validation/CLASS/*. The number of classes and the batch size come from
the images. `configs/image_folder.py:small` is a small network on small images, for a machine
without an accelerator. The settings are a first guess and have not been tuned on any dataset.
"""

from ml_collections import ConfigDict

from resnet_rs.config import default_config
from resnet_rs.utils.errors import UserError

VARIANTS = ('standard', 'small')
SMALL_IMAGE_OPERATIONS = (
    'AutoContrast',
    'Brightness',
    'Color',
    'Contrast',
    'Equalize',
    'Rotate',
    'Sharpness',
    'ShearX',
    'ShearY',
    'TranslateX',
    'TranslateY',
)


def get_config(variant: str = 'standard') -> ConfigDict:
    """Returns the settings of a variant, 'standard' or 'small'; locked."""
    if variant not in VARIANTS:
        raise UserError(
            f'configs/image_folder.py has no variant {variant!r}; it has {" and ".join(VARIANTS)}'
        )
    config = default_config()
    config.batch_size = 0  # depends on the number of images
    config.duration = '100 epochs'

    config.model.name = 'resnet_rs_50'
    config.model.num_classes = 0  # the number of folders
    # Batches are small, so the statistics of the last batch alone would be noisy.
    config.model.batch_norm_momentum = 0.9

    config.data.source = 'image_folder'
    config.data.image_size = 160
    config.data.crop_area = (0.35, 1.0)  # most of the object stays visible
    config.data.eval_crop = 'fraction 0.875'

    config.optimizer.weight_decay = 1e-4
    config.eval.every = '5 epochs'
    config.checkpoint.every = '5 epochs'
    config.log.every = '1 epoch'

    if variant == 'small':
        config.duration = '60 epochs'
        config.model.name = 'resnet_rs_14'
        config.model.width_multiplier = 0.5
        config.model.dtype = 'float32'  # CPUs have no fast bfloat16
        config.data.image_size = 64
        # At this magnitude the authors' form translates by 50 pixels and cuts out squares of 40,
        # which would destroy a small image.
        config.data.augment = 'randaugment_model_garden'
        config.data.randaugment_magnitude = 5
        config.data.randaugment_operations = SMALL_IMAGE_OPERATIONS
    return config.lock()
