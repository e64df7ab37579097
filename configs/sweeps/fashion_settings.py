"""The choice of the settings of configs/fashion_mnist.py, on its validation images.

    python -m resnet_rs.sweep --sweep=configs/sweeps/fashion_settings.py --workdir=DIR

The test images are not evaluated; the best settings are those of configs/fashion_mnist.py, for
more epochs. EMA top-1 on the validation images, of seed 0 at commits 85c06df, 70a52ae and 92a12c4
on an AMD CPU:

    3 epochs  base 90.46, mirror 91.76, mirror at rate 0.4 91.82
    9 epochs  mirror at rate 0.4 94.02; with Cutout 94.02; with Cutout and basic blocks 94.68,
              with the crop too 94.24

At 112 pixels a quarter of the width was behind after half of the steps, and a step took twice as
long; it was stopped. A run of 9 epochs takes 25 minutes of one core.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import fashion_mnist

CROP = {'data.crop_area': (0.8, 1.0), 'data.crop_ratio': (0.9, 1.1)}
BASE = CROP | {
    'model.name': 'resnet_rs_14',
    'data.randaugment_magnitude': 3,
    'data.randaugment_operations': ('Cutout', 'TranslateX', 'TranslateY', 'Identity'),
    'optimizer.learning_rate': 0.2,
}
MIRROR = BASE | fashion_mnist.MIRROR_ALONE
FAST = MIRROR | {'optimizer.learning_rate': 0.4}
# Cutout of 16 pixels, 8 of the 28 that an image has.
CUTOUT = FAST | {
    'data.augment': 'randaugment_model_garden',
    'data.randaugment_operations': ('Cutout',),
    'data.randaugment_magnitude': 2,
}
BASIC_BLOCKS = {'model.name': 'resnet_18d'}
# name: epochs, and what it changes
CHANGES = {
    'base': (3, BASE),
    'mirror': (3, MIRROR),
    'mirror_rate_0.4': (3, FAST),
    'longer': (9, FAST),
    'longer_cutout': (9, CUTOUT),
    'longer_cutout_resnet_18d': (9, CUTOUT | BASIC_BLOCKS),
    'longer_cutout_crop_resnet_18d': (9, CUTOUT | CROP | BASIC_BLOCKS),
}


def get_sweep() -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, config) of every run."""
    for name, (epochs, change) in CHANGES.items():
        config = fashion_mnist.get_config('choose').unlock()
        config.duration = config.eval.every = f'{epochs} epochs'
        del config.evals.test
        config.update_from_flattened_dict(change)
        yield name, config.lock()
