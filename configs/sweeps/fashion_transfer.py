"""Transfer on Fashion-MNIST: five classes to learn from, and few images of the other five.

    python -m resnet_rs.sweep --sweep=configs/sweeps/fashion_transfer.py --workdir=DIR
    python -m resnet_rs.study --sweep=configs/sweeps/fashion_transfer.py \\
      --workdir=DIR --output=FOLDER

A network learns the classes 0 to 4. Then 10, 100 or 1,000 images of each of the classes 5 to 9 are
drawn. On these we compare a network trained from scratch, three probes of the pre-trained features,
fine-tuning of the head first and then of everything, and fine-tuning of everything from the start.
Five seeds, each with a pre-training and draws of its own. The 65 runs took 44 minutes on one core,
0.7 minutes each.

configs/sweeps/fashion_transfer_settings.py chose the settings on the validation images.
docs/studies/transfer has the results.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import fashion_mnist
from resnet_rs.sweep.definition import Command
from resnet_rs.sweep.study import Row, Study

SEEDS = (0, 1, 2, 3, 4)
PER_CLASS = (10, 100, 1000)
SOURCE, TARGET = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
DRAWN = 'train[:55000], {count} per class, seed {seed}'

FINE_TUNING = {
    'model.batch_norm_momentum': 0.9,
    'optimizer.learning_rate': 0.16,
    'optimizer.warmup': '50 steps',
}
# method: (the row in words, the settings of its runs)
METHODS = {
    'scratch': ('from scratch', {}),
    'unfreeze': (
        'the head, then all',
        FINE_TUNING | {'trainable': 'head until 300 steps, then all'},
    ),
    'full': ('all from the start', FINE_TUNING),
}
PROBES = ('few_shot', 'logistic', 'neighbours')


def _rows() -> Iterator[Row]:
    for count in PER_CLASS:
        start, probe = f'{count} per class: ', f'probe_{count}'
        yield Row(f'scratch_{count}', f'{start}from scratch')
        yield Row(probe, f'{start}ridge', f'scratch_{count}', f'ridge, {shots(count)} per class')
        for name in ('logistic regression', 'nearest neighbours'):
            yield Row(probe, start + name, f'scratch_{count}', name)
        for method in ('unfreeze', 'full'):
            yield Row(f'{method}_{count}', start + METHODS[method][0], f'scratch_{count}')


def shots(count: int) -> int:
    """Returns the images of a class for the ridge, which every class has for certain.

    The command holds out a tenth of all images, at random: at most half of those of a class.
    """
    return count // 2


STUDY = Study(
    title='Transfer between classes of Fashion-MNIST',
    question=(
        'How many labels does a network save that has learnt five other classes? The features of '
        'the pre-trained network are probed as they are; its head is trained first and then '
        'everything; or everything from the start.'
    ),
    rows=tuple(_rows()),
    paired=True,
    limits=(
        'The ridge learns from half of the drawn images, because the probe holds out some of them '
        'to choose its penalty.',
        'Source and target are classes of one dataset, which look alike: other pairs of datasets '
        'may differ more.',
        'Rate and augmentation of each method were chosen among two to five settings on the '
        'validation images, with the drawn images of seed 0; 0.16 was the highest rate tried for '
        'fine-tuning. The same serve for 10, 100 and 1,000 images a class. Lengths were not tuned.',
    ),
)


def get_sweep(workdir: str) -> Iterator[tuple[str, ConfigDict | Command]]:
    """Yields (name, run) of every run in the sweep's directory `workdir`; a seed after another."""
    for seed in SEEDS:
        directory = f'{workdir}/source-seed{seed}'
        yield f'source-seed{seed}', source(seed)
        for count in PER_CLASS:
            for method, (_, settings) in METHODS.items():
                start = '' if method == 'scratch' else directory
                config = target(seed, count, start).unlock()
                config.update_from_flattened_dict(settings)
                yield f'{method}_{count}-seed{seed}', config.lock()
            yield f'probe_{count}-seed{seed}', probe(directory, seed, count)


def source(seed: int) -> ConfigDict:
    """Returns the pre-training on the five classes of the source; locked."""
    return _config(seed, SOURCE, 'train[:55000]', '5 epochs')


def target(seed: int, count: int, init_from: str = '') -> ConfigDict:
    """Returns the training on `count` images of each class of the target; locked.

    Args:
        seed: of the run and of the images that are drawn.
        count: images of a class.
        init_from: the directory of the network to begin with; empty: random weights.
    """
    config = _config(seed, TARGET, DRAWN.format(count=count, seed=seed), '1000 steps').unlock()
    config.init_from = init_from
    return config.lock()


def _config(seed: int, classes: tuple[int, ...], split: str, duration: str) -> ConfigDict:
    config = fashion_mnist.get_config('small').unlock()
    config.seed = seed
    config.batch_size = 64
    config.duration = duration
    config.model.num_classes = len(classes)
    config.data.classes = classes
    config.data.augment = 'none'  # but the crop and mirroring
    config.data.train_split = split
    config.data.allow_batch_beyond_epoch = True
    return config.lock()


def probe(directory: str, seed: int, count: int) -> Command:
    """Returns the three probes of the network in `directory` on the classes of the target."""
    arguments = (
        f'--workdir={directory}',
        f'--train={DRAWN.format(count=count, seed=seed)}',
        '--test=test',
        *('--classes', *map(str, TARGET)),
        *('--probes', *PROBES),
        *('--inputs', 'features'),
        *('--shots', str(shots(count))),
        '--seeds=1',
    )
    return Command('probe', arguments, 'probe.json')
