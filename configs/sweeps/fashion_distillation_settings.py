"""The choice of the settings of fashion_distillation.py, on the validation images.

    python -m resnet_rs.sweep --sweep=configs/sweeps/fashion_distillation_settings.py --workdir=DIR

The teacher and students of seed 0, evaluated on the 5,000 validation images; the test images are
not evaluated. EMA top-1, run at commit 6f089eb and later ones on an AMD CPU; the teacher, with
augmented images, had 92.24:

    alone, 3 epochs   augment 87.54, crop 88.72, mirror 89.82, mirror at rate 0.4 90.50;
                      crop at rate 0.1 88.42, 0.4 89.40
    alone, 10 epochs  crop 91.64, mirror 92.30
    Bag of Tricks     crop 89.24, at temperature 4 89.42, mirror 90.72
    FunMatch          3 epochs: half of the image 86.52, at rate 2e-3 83.56; crop 88.18,
                      mirror 88.94, at rate 1.2e-2 89.96
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import fashion_mnist
from configs.sweeps import fashion_distillation

SEED = 0
MIRROR = fashion_mnist.MIRROR_ALONE
CROP = {'data.augment': 'none', 'data.crop_area': (0.8, 1.0), 'data.crop_ratio': (0.9, 1.1)}
AUGMENT = CROP | {'data.augment': 'randaugment_model_garden'}
RATE = {'optimizer.learning_rate': 0.2}
ALONE = fashion_distillation.STUDENTS['alone'] | RATE
LONG = fashion_distillation.STUDENTS['alone_long'] | RATE
BAG_OF_TRICKS = fashion_distillation.STUDENTS['bag_of_tricks'] | RATE
FUNMATCH = {
    **fashion_distillation.STUDENTS['funmatch'],
    'duration': fashion_distillation.SHORT,
    'optimizer.learning_rate': 6e-3,
}
CROP_HALF = CROP | {'data.crop_area': (0.5, 1.0)}
# name: settings
ALONE_CHANGES = {
    'alone_augment': ALONE | AUGMENT,
    'alone_crop': ALONE | CROP,
    'alone_mirror': ALONE | MIRROR,
    'alone_rate_0.1': ALONE | CROP | {'optimizer.learning_rate': 0.1},
    'alone_rate_0.4': ALONE | CROP | {'optimizer.learning_rate': 0.4},
    'alone_mirror_rate_0.4': ALONE | MIRROR | {'optimizer.learning_rate': 0.4},
    'alone_long_crop': LONG | CROP,
    'alone_long_mirror': LONG | MIRROR,
}
TAUGHT = {
    'bag_of_tricks': BAG_OF_TRICKS | CROP,
    'bag_of_tricks_temperature_4': BAG_OF_TRICKS | CROP | {'distillation.temperature': 4.0},
    'bag_of_tricks_mirror': BAG_OF_TRICKS | MIRROR,
    'funmatch': FUNMATCH | CROP_HALF,
    'funmatch_rate_2e-3': FUNMATCH | CROP_HALF | {'optimizer.learning_rate': 2e-3},
    'funmatch_area_0.8': FUNMATCH | CROP,
    'funmatch_mirror': FUNMATCH | MIRROR,
    'funmatch_mirror_rate_1.2e-2': FUNMATCH | MIRROR | {'optimizer.learning_rate': 1.2e-2},
}


def get_sweep(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, config) of every run in the sweep's directory `workdir`."""
    for name, settings in ALONE_CHANGES.items():
        yield name, _choose(fashion_distillation.student(SEED, settings))
    teacher = fashion_distillation.teacher().unlock()
    teacher.update_from_flattened_dict(AUGMENT)
    yield 'teacher', _choose(teacher)
    for name, settings in TAUGHT.items():
        yield name, _choose(fashion_distillation.student(SEED, settings, f'{workdir}/teacher'))


def _choose(config: ConfigDict) -> ConfigDict:
    config = config.copy_and_resolve_references().unlock()
    config.data.eval_split = 'train[55000:]'
    return config.lock()
