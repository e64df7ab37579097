"""The twelve cells of the weight-decay study, two seeds each (unverified). Not run.

python -m resnet_rs.sweep --sweep=configs/sweeps/weight_decay_study.py --workdir=DIR --dry_run
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import weight_decay_study
from resnet_rs.sweep.combinators import product, run_name, values


def get_sweep() -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, config) of every run."""
    for settings in product(values('row', weight_decay_study.ROWS), values('seed', (0, 1))):
        config = weight_decay_study.get_config(settings['row']).unlock()
        config.seed = settings['seed']
        yield run_name(settings), config.lock()
