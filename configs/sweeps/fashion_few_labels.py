"""Few labels on Fashion-MNIST: pseudo-labels and an iterated Noisy Student beside labels alone.

    python -m resnet_rs.sweep --sweep=configs/sweeps/fashion_few_labels.py --workdir=DIR
    python -m resnet_rs.study --sweep=configs/sweeps/fashion_few_labels.py \\
      --workdir=DIR --output=FOLDER

Each of five seeds draws 100 labelled images a class from the first 55,000; the other 54,000 have
no labels. Every row trains the same network for the same 2,000 steps of 64 images. A training
takes 1.3 minutes of one core where nothing else runs, the sweep 21 minutes on two cores.

configs/sweeps/fashion_few_labels_settings.py chose the settings on the validation images.
docs/studies/few_labels has the results.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import fashion_mnist
from resnet_rs.sweep.definition import Command
from resnet_rs.sweep.study import Row, Study

SEEDS = (0, 1, 2, 3, 4)
LABELLED = 'train[:55000], 100 per class, seed {seed}'
UNLABELLED = 'train[:55000] except 100 per class, seed {seed}'
STEPS = '2000 steps'

STUDY = Study(
    title='Few labels on Fashion-MNIST',
    question=(
        'What do 54,000 images without labels add to 1,000 with one? A teacher learns from the '
        'labels alone and labels the other images; students learn from both. Noisy Student does '
        'so twice, with dropout and stochastic depth for the student, and the same number of '
        'images of each predicted class.'
    ),
    rows=(
        Row('supervised', '1,000 labels alone'),
        Row('hard', '1,000 labels, hard pseudo-labels', 'supervised'),
        Row('soft', '1,000 labels, soft pseudo-labels', 'supervised'),
        Row('noisy_student_1', 'Noisy Student, first', 'supervised'),
        Row('noisy_student_2', 'Noisy Student, second', 'supervised'),
        Row('all_labels', 'all 55,000 labels', 'supervised'),
    ),
    paired=True,
    limits=(
        'With 1,000 labels alone, the images are cropped and augmented as in '
        'configs/fashion_mnist.py:small, and the dropout rate is 0.2. All other rows only mirror '
        'their images; Noisy Student adds a dropout rate of 0.2 and stochastic depth of 0.1.',
        'Rows of one seed share the labelled images and the teacher: differences are taken seed by '
        'seed. The interval of five seeds is wide.',
        'The network is small. Its settings were chosen on the validation images with the '
        'labelled images of seed 0, among five for labels alone and eleven for students.',
        'The study had begun with other settings, those of configs/fashion_mnist.py:small for all '
        'rows and more noise for Noisy Student, and its test images had been evaluated: seeds 0 '
        'and 1 had 82.3 % with labels alone, 81.8 and 81.6 % with hard and soft pseudo-labels, and '
        '78.6 and 75.1 % for the two students of Noisy Student. Then its settings were chosen.',
        'A method that also learns from two views of an image, as FixMatch, is not among the rows.',
    ),
)

# A batch has 8 labelled and 56 pseudo-labelled images.
PSEUDO_LABELS = {'objective': 'pseudo_labels', 'pseudo_labels.ratio': 7}
# Noise as in Noisy Student (Xie et al. 2020), without augmentation; at least 0.3 confident.
NOISE = {
    'model.dropout_rate': 0.2,
    'model.stochastic_depth_rate': 0.1,
    'pseudo_labels.least_confidence': 0.3,
    'pseudo_labels.per_class': 5400,
}


def get_sweep(workdir: str) -> Iterator[tuple[str, ConfigDict | Command]]:
    """Yields (name, run) of every run in the sweep's directory `workdir`; a seed after another."""
    for seed in SEEDS:
        labels, labels_2 = f'labels-seed{seed}', f'labels_2-seed{seed}'
        yield f'supervised-seed{seed}', get_config(seed, {'model.dropout_rate': 0.2})
        yield labels, label(f'{workdir}/supervised-seed{seed}', seed)
        for form in ('hard', 'soft'):
            settings = fashion_mnist.MIRROR_ALONE | PSEUDO_LABELS | {'pseudo_labels.form': form}
            yield f'{form}-seed{seed}', get_config(seed, settings, f'{workdir}/{labels}')
        student = fashion_mnist.MIRROR_ALONE | PSEUDO_LABELS | NOISE
        first = f'noisy_student_1-seed{seed}'
        yield first, get_config(seed, student, f'{workdir}/{labels}')
        yield labels_2, label(f'{workdir}/{first}', seed)
        yield (
            f'noisy_student_2-seed{seed}',
            get_config(seed, student, f'{workdir}/{labels_2}'),
        )
        everything = fashion_mnist.MIRROR_ALONE | {'data.train_split': 'train[:55000]'}
        yield f'all_labels-seed{seed}', get_config(seed, everything)


def get_config(seed: int, settings: dict | None = None, labels: str = '') -> ConfigDict:
    """Returns a run with `settings` that learns from the file in the directory `labels`; locked."""
    config = fashion_mnist.get_config('small').unlock()
    config.seed = seed
    config.batch_size = 64
    config.duration = STEPS
    config.data.train_split = LABELLED.format(seed=seed)
    config.update_from_flattened_dict(settings or {})
    if labels:
        config.pseudo_labels.file = f'{labels}/labels.npz'
    return config.lock()


def label(teacher: str, seed: int) -> Command:
    """Returns the labelling of the images without labels by the network in `teacher`."""
    arguments = (f'--workdir={teacher}', f'--split={UNLABELLED.format(seed=seed)}')
    return Command('pseudo_label', arguments, 'labels.npz')
