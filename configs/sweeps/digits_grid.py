"""Depth x width x resolution on real digits, three seeds each: 81 runs of small ResNet-RS.

    python -m resnet_rs.datasets.prepare digits
    python -m resnet_rs.sweep --sweep=configs/sweeps/digits_grid.py --workdir=DIR --parallel=2

As in the paper's short runs (its appendix E), weight decay and the crop are the only
regularisation: no RandAugment, dropout, stochastic depth or label smoothing. Seeds differ by as
much as networks do (up to 3.6 points of top-1 where two were run), so that 360 test images tell
little about them.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import digits
from resnet_rs.sweep.combinators import product, run_name, values

GRID = product(
    values('seed', (0, 1, 2)),  # first, so that the whole grid runs before the next seed
    values('depth', (14, 26, 50)),
    values('width', (0.125, 0.25, 0.5)),
    values('resolution', (16, 24, 32)),
)


def get_sweep() -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, config) of every run."""
    for settings in GRID:
        yield run_name(settings), get_config(**settings)


def get_config(depth: int, width: float, resolution: int, seed: int) -> ConfigDict:
    """Returns the configuration of one run, locked."""
    config = digits.get_config().unlock()
    config.seed = seed
    config.batch_size = 32
    config.duration = '4 epochs'
    config.model.name = f'resnet_rs_{depth}'
    config.model.width_multiplier = width
    config.model.dropout_rate = 0.0
    config.model.stochastic_depth_rate = 0.0
    config.data.image_size = resolution
    config.data.augment = 'none'
    config.data.crop_area = (0.9, 1.0)
    config.data.crop_ratio = (0.95, 1.05)
    config.data.mixup_alpha = 0.0
    config.data.cutmix_alpha = 0.0
    config.optimizer.learning_rate = 1.0
    config.optimizer.weight_decay = 1e-3
    config.optimizer.label_smoothing = 0.0
    config.optimizer.warmup = '1 epochs'
    config.eval.every = '4 epochs'
    config.checkpoint.every = '2 epochs'
    config.checkpoint.keep_last = 1
    return config.lock()
