"""The choice of the settings of fashion_transfer.py, on the validation images.

    python -m resnet_rs.sweep --sweep=configs/sweeps/fashion_transfer_settings.py --workdir=DIR

One draw of the target's images (seed 0), evaluated on those of its classes among the 5,000
validation images; the test images are not evaluated. EMA top-1 with 10, 100 and 1,000 images of a
class, run at commit 85c06df on an AMD CPU:

    from scratch    augment 82.53 93.12 95.58, crop 82.89 93.63 96.02, mirror 70.51 92.80 96.78,
                    crop at rate 0.05 81.73 92.88 95.42
    all parameters  rate 0.01 82.25 92.72 94.27, 0.04 84.28 94.75 96.30, 0.16 85.56 95.11 96.90;
                    at 0.04 augment 84.68 94.35 95.26, mirror 76.12 94.31 96.62
    head, then all  rate 0.04 83.61 94.19 95.70, 0.16 83.57 94.83 96.26
    all parameters at 0.04 with 100 images, from a source that was trained with
                    augment 93.95, crop 94.75, mirror 94.27
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import fashion_mnist
from configs.sweeps import fashion_transfer

SEED = 0
AUGMENT = {'data.augment': 'randaugment_model_garden'}
CROP = {'data.augment': 'none'}
MIRROR = fashion_mnist.MIRROR_ALONE
SOURCES = {'source_augment': AUGMENT, 'source_crop': CROP, 'source_mirror': MIRROR}
SOURCE = 'source_crop'
FULL = fashion_transfer.METHODS['full'][1] | {'optimizer.learning_rate': 0.04}
UNFREEZE = fashion_transfer.METHODS['unfreeze'][1] | {'optimizer.learning_rate': 0.04}
# name: settings, for each number of images of a class
SCRATCH = {
    'augment': AUGMENT,
    'crop': CROP,
    'mirror': MIRROR,
    'crop_rate_0.05': CROP | {'optimizer.learning_rate': 0.05},
}
FINE_TUNED = {
    'full': FULL,
    'full_augment': FULL | AUGMENT,
    'full_mirror': FULL | MIRROR,
    'full_rate_0.01': FULL | {'optimizer.learning_rate': 0.01},
    'full_rate_0.16': FULL | {'optimizer.learning_rate': 0.16},
    'unfreeze': UNFREEZE,
    'unfreeze_rate_0.16': UNFREEZE | {'optimizer.learning_rate': 0.16},
}


def get_sweep(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, config) of every run in the sweep's directory `workdir`."""
    for name, settings in SOURCES.items():
        yield name, _choose(fashion_transfer.source(SEED), settings)
    for count in fashion_transfer.PER_CLASS:
        for name, settings in SCRATCH.items():
            yield f'{name}_{count}', _choose(fashion_transfer.target(SEED, count), settings)
        for name, settings in FINE_TUNED.items():
            config = fashion_transfer.target(SEED, count, f'{workdir}/{SOURCE}')
            yield f'{name}_{count}', _choose(config, settings)
    for source in (name for name in SOURCES if name != SOURCE):
        config = fashion_transfer.target(SEED, 100, f'{workdir}/{source}')
        yield f'full_100_from_{source}', _choose(config, FULL)


def _choose(config: ConfigDict, settings: dict) -> ConfigDict:
    config = config.copy_and_resolve_references().unlock()
    config.update_from_flattened_dict(settings)
    config.data.eval_split = 'train[55000:]'
    return config.lock()
