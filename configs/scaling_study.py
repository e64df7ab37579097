"""The scaling study: any cell of the paper's grid of depth, width, resolution and epochs.

    python main.py --config=configs/scaling_study.py:depth=101,width=1.0,resolution=224,epochs=350 \
      --workdir=DIR

trains a cell. An axis that is not given has its value in this command. Accuracy is measured on
minival, a held-out part of the training images. The paper shows its results only as plots, so it
has no number for a cell; ours: not run.

Runs of 10 and 100 epochs have no RandAugment, dropout, stochastic depth or label smoothing (the
paper's appendix E). The rates of the 350-epoch runs below are unverified, because we have not seen
the paper's Table 12. Its text says that dropout depends on the width alone. The 0.25 at width 1 and
the magnitudes 10 and 15 agree with the authors' released settings; stochastic depth 0.2 does not
(0.1 there). The layout of depth 26 is an assumption (resnet_rs/models).
"""

from ml_collections import ConfigDict

from resnet_rs.config import default_config
from resnet_rs.utils.errors import UserError

GRID = {
    'depth': (26, 50, 101, 200, 300, 350, 400),
    'width': (0.25, 0.5, 1.0, 1.5, 2.0),
    'resolution': (128, 160, 224, 320, 448),
    'epochs': (10, 100, 350),
}
DEFAULTS = {'depth': 101, 'width': 1.0, 'resolution': 224, 'epochs': 350}
DROPOUT_OF_WIDTH = {0.25: 0.0, 0.5: 0.1, 1.0: 0.25, 1.5: 0.6, 2.0: 0.75}  # only 1.0 is verified


def get_config(cell: str = '') -> ConfigDict:
    """Returns the configuration of a cell such as 'depth=101,epochs=350', locked."""
    chosen = DEFAULTS | _parse(cell)
    config = default_config()
    config.duration = f'{chosen["epochs"]} epochs'
    config.model.name = f'resnet_rs_{chosen["depth"]}'
    config.model.width_multiplier = chosen['width']
    config.data.image_size = chosen['resolution']
    config.data.train_split = 'train_without_minival'
    config.data.eval_split = 'minival'
    config.optimizer.weight_decay = 4e-5
    if chosen['epochs'] == 350:
        _regularise(config, chosen['width'], chosen['resolution'])
    else:
        config.model.dropout_rate = 0.0
        config.model.stochastic_depth_rate = 0.0
        config.data.augment = 'none'
        config.optimizer.label_smoothing = 0.0
    return config.lock()


def _regularise(config: ConfigDict, width: float, resolution: int) -> None:
    config.model.dropout_rate = DROPOUT_OF_WIDTH[width]
    config.data.randaugment_magnitude = (  # unverified
        10 if width <= 0.5 or resolution <= 160 else 15 if resolution <= 320 else 20
    )
    with_stochastic_depth = resolution >= 224 and width > 0.25  # unverified
    config.model.stochastic_depth_rate = 0.2 if with_stochastic_depth else 0.0


def _parse(cell: str) -> dict:
    chosen = {}
    for part in filter(None, cell.split(',')):
        axis, _, text = part.partition('=')
        if axis not in GRID:
            raise UserError(
                f'configs/scaling_study.py has no axis {axis!r}; it has {", ".join(GRID)}'
            )
        values = {str(value): value for value in GRID[axis]}
        values |= {f'{value:g}': value for value in GRID[axis]}
        if text not in values:
            raise UserError(f'{axis} is {text!r}; the study has {", ".join(map(str, GRID[axis]))}')
        chosen[axis] = values[text]
    return chosen
