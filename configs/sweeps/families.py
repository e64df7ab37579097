"""The families of networks on real digits, three seeds each: the same recipe, another network.

    python -m resnet_rs.sweep --sweep=configs/sweeps/families.py --workdir=DIR

12 runs, not run; the first seed of every network comes first. Everything but the network is that of
configs/digits.py; widths are a quarter of the published ones. EfficientNet keeps its padding and
epsilon, and has the recipe of the others.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import digits
from resnet_rs.sweep.combinators import product, run_name, values

# network: settings of config.model
NETWORKS = {
    'resnet_14d': {},
    'resnet_rs_14': {},
    'resnest_14': {},
    'efficientnet_b0': dict(padding='same', batch_norm_epsilon=1e-3),
}
GRID = product(values('seed', (0, 1, 2)), values('network', tuple(NETWORKS)))


def get_sweep() -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, configuration) of every run."""
    for settings in GRID:
        yield run_name(settings), get_config(**settings)


def get_config(network: str, seed: int) -> ConfigDict:
    """Returns one run, locked."""
    config = digits.get_config().unlock()
    config.seed = seed
    config.model.name = network
    config.model.update(NETWORKS[network])
    return config.lock()
