"""Distillation on Fashion-MNIST: a student alone, with Bag of Tricks' loss and with FunMatch's.

    python -m resnet_rs.sweep --sweep=configs/sweeps/fashion_distillation.py --workdir=DIR
    python -m resnet_rs.study --sweep=configs/sweeps/fashion_distillation.py \\
      --workdir=DIR --output=FOLDER

The teacher has twice the width and twice the resolution of the student. There are three seeds of
each student, short and long. The 13 runs took 92 minutes of one core.

configs/sweeps/fashion_distillation_settings.py chose the settings on the validation images.
docs/studies/distillation has the results.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import distillation, fashion_mnist
from resnet_rs.sweep.study import Row, Study

SEEDS = (0, 1, 2)
SHORT, LONG = '3 epochs', '10 epochs'
TEACHER = 'teacher-seed0'

STUDY = Study(
    title='Distillation on Fashion-MNIST',
    question=(
        'Does a small student learn more from a larger teacher than from the labels alone? Bag of '
        "Tricks' loss is half of the labels and half of the teacher's prediction at temperature "
        '20. FunMatch has no labels: the student matches the teacher on mixed images, with Adam '
        'and for long.'
    ),
    rows=(
        Row('teacher', 'teacher'),
        Row('alone', 'student alone, short'),
        Row('bag_of_tricks', 'Bag of Tricks, short', 'alone'),
        Row('alone_long', 'student alone, long', 'alone'),
        Row('funmatch', 'FunMatch, long', 'alone_long'),
    ),
    limits=(
        'There is one teacher; the seeds are those of the students. Runs of one seed share their '
        "batches and first weights, of which Welch's test, chosen before the runs, knows nothing: "
        'seed by seed, Bag of Tricks is better by 0.42, 0.46 and 0.45 points.',
        "The papers' long schedules are hundreds of epochs and more.",
        'Images and rates were chosen on the validation images, for seed 0: of eight settings of '
        'the student alone, three of Bag of Tricks and five of FunMatch, all but two of them '
        'short, and with another teacher, whose images were augmented. The highest rates that were '
        'tried were the best. All students, and the teacher, only mirror their images.',
        'The teacher is hardly better than a student that learns from labels for long, so that '
        'there is little to learn from it.',
    ),
)

_LOSS = {
    name: value
    for name, value in distillation.BAG_OF_TRICKS.items()
    if name.startswith('distillation.')
}
# FunMatch's loss, mixup and optimiser; its rates are for other images and batches.
_FUNMATCH = {
    'distillation.form': 'kl',
    'distillation.label_weight': 0.0,
    'data.mixup_alpha': 1.0,
    'optimizer.name': 'adam',
    'optimizer.learning_rate': 1.2e-2,
    'optimizer.weight_decay': 1e-2,
    'optimizer.weight_decay_on': 'kernels',
    'optimizer.gradient_clip_norm': 1.0,
}
_TEACHER = {
    'duration': '6 epochs',
    'model.width_multiplier': 0.5,
    'model.dropout_rate': 0.1,
    'data.image_size': 56,
    'optimizer.warmup': '1 epochs',
}
# row: settings
STUDENTS = {
    'alone': {'duration': SHORT},
    'bag_of_tricks': {'duration': SHORT, **_LOSS},
    'alone_long': {'duration': LONG},
    'funmatch': {'duration': LONG, **_FUNMATCH},
}


def get_sweep(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, config) of every run in the sweep's directory `workdir`."""
    yield TEACHER, teacher()
    for seed in SEEDS:
        for row, settings in STUDENTS.items():
            directory = '' if row.startswith('alone') else f'{workdir}/{TEACHER}'
            yield f'{row}-seed{seed}', student(seed, settings, directory)


def teacher() -> ConfigDict:
    """Returns the training of the teacher; locked."""
    config = fashion_mnist.get_config('small').unlock()
    config.update_from_flattened_dict(fashion_mnist.MIRROR_ALONE | _TEACHER)
    return config.lock()


def student(seed: int, settings: dict, teacher_directory: str = '') -> ConfigDict:
    """Returns the training of a student, from the labels alone where no teacher is named; locked.

    Args:
        seed: of the run.
        settings: full name to value of those that differ from `small` of configs/fashion_mnist.py.
        teacher_directory: the teacher's work directory.
    """
    config = fashion_mnist.get_config('small').unlock()
    config.seed = seed
    config.optimizer.learning_rate = 0.4
    config.update_from_flattened_dict(fashion_mnist.MIRROR_ALONE | settings)
    if teacher_directory:
        config.objective = 'distillation'
        config.distillation.teacher = teacher_directory
    return config.lock()
