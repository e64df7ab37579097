"""Training on labelled and pseudo-labelled images: the paper's row, Noisy Student's, and digits.

    python -m resnet_rs.pseudo_label --workdir=TEACHER --data=UNLABELLED --split=train \\
      --output=FILE.npz --top=10
    python main.py --config=configs/pseudo_labels.py:paper --workdir=DIR \\
      --config.pseudo_labels.file=FILE.npz --config.pseudo_labels.data_dir=UNLABELLED_DATA

UNLABELLED is a second tfds set, prepared as array_record; its own labels are not used. The papers
have 300 million images of JFT, which Google has not published, and learn from 130 million of them.
`digits` needs no accelerator.

"paper" is the top-1 on ImageNet's validation images as published. "ours" is the top-1 of this code.
"""

from ml_collections import ConfigDict

from configs import digits, efficientnet, resnet_rs
from resnet_rs.utils.errors import UserError

# Bello et al. 2021 (arXiv 2103.07579), section 7.3: ResNet-RS-152 at 224 pixels on ImageNet and the
# 130 million images of Noisy Student, labelled by EfficientNet-L2; everything else as in the
# supervised recipe. The network follows from the speed that the paper prints. The ratio of a batch,
# the number of steps and the form of the labels are not published: those here are choices.
PAPER = {
    'pseudo_labels.form': 'soft',
    'pseudo_labels.ratio': 3,
    'pseudo_labels.least_confidence': 0.3,
    'pseudo_labels.per_class': 130_000,
}

# Xie et al. 2020 (arXiv 1911.04252) and its code. Batches of 2,048 labelled images with a rate of
# 0.128, times 0.97 every 2.4 epochs of labelled images; B0 to B4 train for twice as long. Dropout
# is that of configs/efficientnet.py: the code's value for networks smaller than L2 was not found.
# Left out: the last 1.5 epochs at a higher resolution.
LABELLED_BATCH, LABELLED_RATE = 2048, 0.128


def noisy_student(ratio: int, magnitude: int, long: bool) -> dict:
    """Returns the settings of a row of Noisy Student; `long` is 700 epochs in place of 350."""
    batch_size = LABELLED_BATCH * (1 + ratio)
    return {
        'batch_size': batch_size,
        'duration': '700 epochs' if long else '350 epochs',
        'optimizer.learning_rate': LABELLED_RATE * 256 / batch_size,
        'optimizer.decay_every': '4.8 epochs' if long else '2.4 epochs',
        'data.augment': 'randaugment' if magnitude else 'none',
        'data.randaugment_magnitude': magnitude,
        'pseudo_labels.ratio': ratio,
        'pseudo_labels.least_confidence': 0.3,
        'pseudo_labels.per_class': 130_000,
        'pseudo_labels.normalise_by': 'labelled_images',
    }


# A student on digits: the first 200 have labels, the others pseudo-labels.
DIGITS = {
    'data.train_split': 'train[:200]',
    'pseudo_labels.ratio': 1,
    'pseudo_labels.per_class': 100,
}

# row       (file, row)          settings                                    paper  ours
ROWS = {
    'paper':  (resnet_rs, '152@224', PAPER),                               # 86.2   not run
    'b0':     (efficientnet, 'b0', noisy_student(1, 0, long=True)),        # 78.8   not run
    'b1':     (efficientnet, 'b1', noisy_student(3, 0, long=True)),        # 81.5   not run
    'b2':     (efficientnet, 'b2', noisy_student(3, 6, long=True)),        # 82.4   not run
    'b3':     (efficientnet, 'b3', noisy_student(3, 12, long=True)),       # 84.1   not run
    'b4':     (efficientnet, 'b4', noisy_student(3, 15, long=True)),       # 85.3   not run
    'b5':     (efficientnet, 'b5', noisy_student(3, 18, long=False)),      # 86.1   not run
    'b6':     (efficientnet, 'b6', noisy_student(3, 24, long=False)),      # 86.4   not run
    'b7':     (efficientnet, 'b7', noisy_student(3, 27, long=False)),      # 86.9   not run
    'digits': (digits, 'demo', DIGITS),                                    # -      not run
}  # fmt: skip


def get_config(row: str = 'paper') -> ConfigDict:
    """Returns the settings of a row without its file of pseudo-labels; locked."""
    if row not in ROWS:
        raise UserError(f'configs/pseudo_labels.py has no row {row!r}; it has {", ".join(ROWS)}')
    file, row_of_file, settings = ROWS[row]
    config = file.get_config(row_of_file).unlock()
    config.objective = 'pseudo_labels'
    config.update_from_flattened_dict(settings)
    return config.lock()
