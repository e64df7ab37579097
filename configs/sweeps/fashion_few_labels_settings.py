"""The choice of the settings of fashion_few_labels.py, on the validation images.

    python -m resnet_rs.sweep --sweep=configs/sweeps/fashion_few_labels_settings.py --workdir=DIR

One draw of labelled images (seed 0); the test images are not evaluated. EMA top-1 on the 5,000
validation images, run at commit 7ae5810 on an AMD CPU:

    supervised: augment 83.40, mirror 81.82, crop 82.86, stronger 80.74, dropout 83.92
    students, hard: mirror 84.60, crop 82.68, augment 82.20, confident 84.90, ratio 3 84.70
    students, soft: mirror 85.04, crop 82.74, confident 84.96, dropout 84.54, depth 84.58,
    balanced 84.56
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import fashion_mnist
from configs.sweeps import fashion_few_labels
from resnet_rs.sweep.definition import Command

SEED = 0
CROP = {'data.augment': 'none'}
MIRROR = fashion_mnist.MIRROR_ALONE
STRONGER = {'data.randaugment_layers': 2, 'data.randaugment_magnitude': 5}
HARD = fashion_few_labels.PSEUDO_LABELS | {'pseudo_labels.form': 'hard'}
SOFT = fashion_few_labels.PSEUDO_LABELS | {'pseudo_labels.form': 'soft'}
CONFIDENT = {'pseudo_labels.least_confidence': 0.8}
TEACHER = 'supervised_augment'
# name: settings
SUPERVISED = {
    TEACHER: {},
    'supervised_mirror': MIRROR,
    'supervised_crop': CROP,
    'supervised_stronger': STRONGER,
    'supervised_dropout': {'model.dropout_rate': 0.2},
}
STUDENTS = {
    'hard_mirror': MIRROR | HARD,
    'soft_mirror': MIRROR | SOFT,
    'hard_crop': CROP | HARD,
    'hard_augment': HARD,
    'soft_crop': CROP | SOFT,
    'hard_confident': MIRROR | HARD | CONFIDENT,
    'soft_confident': MIRROR | SOFT | CONFIDENT,
    'hard_ratio_3': MIRROR | HARD | {'pseudo_labels.ratio': 3},
    'soft_dropout': MIRROR | SOFT | {'model.dropout_rate': 0.2},
    'soft_depth': MIRROR | SOFT | {'model.stochastic_depth_rate': 0.1},
    'soft_balanced': MIRROR | SOFT | {'pseudo_labels.per_class': 5400},
}


def get_sweep(workdir: str) -> Iterator[tuple[str, ConfigDict | Command]]:
    """Yields (name, run) of every run in the sweep's directory `workdir`."""
    for name, settings in SUPERVISED.items():
        yield name, _choose(settings)
    yield 'labels', fashion_few_labels.label(f'{workdir}/{TEACHER}', SEED)
    for name, settings in STUDENTS.items():
        yield name, _choose(settings, f'{workdir}/labels')


def _choose(settings: dict, labels: str = '') -> ConfigDict:
    config = fashion_few_labels.get_config(SEED, settings, labels).unlock()
    config.data.eval_split = 'train[55000:]'
    return config.lock()
