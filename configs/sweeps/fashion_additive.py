"""The additive study of the paper in small: its rows on Fashion-MNIST, three seeds each.

    python -m resnet_rs.sweep --sweep=configs/sweeps/fashion_additive.py --workdir=DIR
    python -m resnet_rs.study --sweep=configs/sweeps/fashion_additive.py \\
      --workdir=DIR --output=FOLDER

The rows are those of configs/additive_study.py, which the paper has for ResNet-200 on ImageNet,
with a network of 14 layers and rates for it. All runs learn from the same 10,000 images. The
short and the long schedule, 10 and 36 epochs, have nearly the proportion of the paper's, 90 and
350; the network sees each image about a tenth as often.

docs/studies/additive has the results. The 33 runs took two and a half hours of one core, beside
other programs.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import additive_study, fashion_mnist, image_folder
from resnet_rs.sweep.study import Row, Study

SEEDS = (0, 1, 2)
IMAGES = 'train[:55000], 1000 per class, seed 0'
# What a row changes here, where that is not what it changes in the paper's study.
SMALL = {
    'baseline': {
        'model.name': 'resnet_14',
        'duration': '10 epochs',
        'optimizer.schedule': 'step',
        'optimizer.weight_decay': 5e-4,
        'optimizer.label_smoothing': 0.0,
        'data.augment': 'none',
        'ema.decay': 0.0,
        'model.batch_norm_momentum': 0.9,
    },
    'more_epochs': {'duration': '36 epochs'},
    # No Cutout: at this magnitude it covers 24 of 28 pixels.
    'randaugment': {
        'data.augment': 'randaugment_model_garden',
        'data.randaugment_operations': image_folder.SMALL_IMAGE_OPERATIONS,
        'data.randaugment_magnitude': 3,
    },
    'dropout': {'model.dropout_rate': 0.1},
    'weight_decay': {'optimizer.weight_decay': 2e-4},
    'squeeze_excite': {'model.name': 'resnet_14_se'},
    'resnet_d': {'model.name': 'resnet_rs_14'},
}
CHANGES = {row: SMALL.get(row, changes) for row, changes in additive_study.ROWS.items()}
_NAMES = tuple(CHANGES)

STUDY = Study(
    title='The additive study in small, on Fashion-MNIST',
    question=(
        'Which changes of ResNet-RS help a network of 14 layers on 10,000 images of 28 pixels? '
        'Each row has its own change and all changes above it, and is compared with the row above.'
    ),
    rows=tuple(
        Row(
            name,
            f'{"+ " if place else ""}{name.replace("_", " ")}',
            _NAMES[place - 1] if place else '',
        )
        for place, name in enumerate(_NAMES)
    ),
    limits=(
        'The paper has ResNet-200 on ImageNet for 350 epochs: regularisation that helps there may '
        'hurt a small network that trains for 36 epochs.',
        'Three seeds separate differences of a few tenths of a point at best; eleven rows make ten '
        'comparisons, of which one in twenty has p < 0.05 by chance.',
        'No setting was chosen: rates, operations and magnitude are first guesses.',
        'The weights of a row without an EMA are those of the last step.',
    ),
)


def get_sweep() -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, config) of every run; all rows of a seed before the next one."""
    for seed in SEEDS:
        config = fashion_mnist.get_config('small').unlock()
        config.seed = seed
        config.data.train_split = IMAGES
        for row, changes in CHANGES.items():
            config.update_from_flattened_dict(changes)
            yield f'{row}-seed{seed}', config.copy_and_resolve_references().lock()
