"""Weight decay against regularisation: two networks, three sets of methods, two values.

    python main.py --config=configs/weight_decay_study.py:50,RA-LS-DO,4e-5 --workdir=DIR

RA is RandAugment, LS label smoothing, DO dropout, SD stochastic depth. "paper" is the paper's Table
2, from a public transcription; we have not seen the table itself. Its numbers exceed those on the
validation images, so they must be those of minival, a held-out part of the training images, which
these configurations also use.

The table does not print the networks. We assume ResNet-RS of that depth, trained for 350 epochs
with the rates of the authors' released settings. 224 pixels for 50 and 256 for 200 are unverified.
"""

from ml_collections import ConfigDict

from resnet_rs.config import default_config
from resnet_rs.utils.errors import UserError

# network, methods             paper at 1e-4, 4e-5   ours
PAPER = {
    ('50', 'none'):            (79.7, 78.7),       # not run
    ('50', 'RA-LS'):           (82.4, 82.3),       # not run
    ('50', 'RA-LS-DO'):        (82.2, 82.7),       # not run
    ('200', 'none'):           (82.5, 81.7),       # not run
    ('200', 'RA-LS'):          (85.2, 84.9),       # not run
    ('200', 'RA-LS-SD-DO'):    (85.3, 85.5),       # not run
}  # fmt: skip
WEIGHT_DECAYS = ('1e-4', '4e-5')
IMAGE_SIZES = {'50': 224, '200': 256}
MAGNITUDES = {'50': 10, '200': 15}
ROWS = tuple(
    f'{network},{methods},{decay}' for network, methods in PAPER for decay in WEIGHT_DECAYS
)


def get_config(row: str = ROWS[0]) -> ConfigDict:
    """Returns the configuration of one of ROWS, locked."""
    if row not in ROWS:
        raise UserError(
            f'configs/weight_decay_study.py has no row {row!r}; it has {"; ".join(ROWS)}'
        )
    network, methods, decay = row.split(',')
    methods = methods.split('-')
    config = default_config()
    config.model.name = f'resnet_rs_{network}'
    config.model.dropout_rate = 0.25 if 'DO' in methods else 0.0
    config.model.stochastic_depth_rate = 0.1 if 'SD' in methods else 0.0
    config.data.image_size = IMAGE_SIZES[network]
    config.data.train_split = 'train_without_minival'
    config.data.eval_split = 'minival'
    config.data.augment = 'randaugment' if 'RA' in methods else 'none'
    config.data.randaugment_magnitude = MAGNITUDES[network]
    config.optimizer.label_smoothing = 0.1 if 'LS' in methods else 0.0
    config.optimizer.weight_decay = float(decay)
    return config.lock()
