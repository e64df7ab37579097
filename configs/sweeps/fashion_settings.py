"""The choice of the settings of configs/fashion_mnist.py, on its validation images.

    python -m resnet_rs.sweep --sweep=configs/sweeps/fashion_settings.py --workdir=DIR

Each run changes some settings and trains for a sixth of the epochs. The test images are not
evaluated; the best settings then go into configs/fashion_mnist.py. EMA top-1 on the validation
images, of the runs that have been made, at commits 85c06df and 70a52ae on an AMD CPU:

    base 90.46, mirror 91.76, mirror_rate_0.4 91.82; the others: not run

A run at 56 pixels took 11 minutes of one core, where other programs ran too; a step at 112 pixels
took twice as long.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import fashion_mnist

EPOCHS = '3 epochs'
MIRROR = fashion_mnist.MIRROR_ALONE
FAST = MIRROR | {'optimizer.learning_rate': 0.4}
# A quarter of the width at twice the resolution has nearly as many multiply-adds.
NARROW = FAST | {'model.width_multiplier': 0.25, 'data.image_size': 112}
# name: what it changes
CHANGES = {
    'base': {},
    'mirror': MIRROR,
    'mirror_rate_0.4': FAST,
    'narrow': NARROW,
    'narrow_crop': NARROW | {'data.crop_area': (0.8, 1.0), 'data.crop_ratio': (0.9, 1.1)},
    'narrow_resnet_18d': NARROW | {'model.name': 'resnet_18d'},
    'decay_1e-3': FAST | {'optimizer.weight_decay': 1e-3},
    'no_dropout': FAST | {'model.dropout_rate': 0.0},
}


def get_sweep() -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, config) of every run."""
    for name, change in CHANGES.items():
        config = fashion_mnist.get_config('choose').unlock()
        config.duration = config.eval.every = EPOCHS
        del config.evals.test
        config.update_from_flattened_dict(change)
        yield name, config.lock()
