"""Depth against width at four resolutions and three lengths: the runs of the paper's Figure 3.

    python -m resnet_rs.sweep --sweep=configs/sweeps/scaling_study.py --workdir=DIR --dry_run \
      --examples=1256145 --eval_examples=25022

The sweep has 72 runs; not run. The sizes are those of EfficientNet's minival; a machine without
ImageNet needs them.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import scaling_study
from resnet_rs.sweep.combinators import chain, product, run_name, values

SHAPES = chain(
    product(values('depth', (101, 200, 300, 400)), values('width', (1.0,))),
    product(values('depth', (101,)), values('width', (1.5, 2.0))),
)
GRID = product(SHAPES, values('resolution', (128, 160, 224, 320)), values('epochs', (10, 100, 350)))


def get_sweep() -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, config) of every run."""
    for settings in GRID:
        cell = ','.join(f'{axis}={value}' for axis, value in settings.items())
        yield run_name(settings), scaling_study.get_config(cell)
