"""The choice of the settings of configs/fashion_mnist.py, on its validation images.

    python -m resnet_rs.sweep --sweep=configs/sweeps/fashion_settings.py --workdir=DIR

Each run changes one setting and trains for a sixth of the epochs. The test images are not
evaluated; the best settings then go into configs/fashion_mnist.py. Not run.

Estimate, from 3 times the 111 ms of a step at 32 pixels (docs/cpu_performance.md) and not from a
run: 8 minutes for each of the eight runs, about an hour on two cores.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import fashion_mnist

EPOCHS = '3 epochs'
# name: what it changes
CHANGES = {
    'base': {},
    'rate_0.1': {'optimizer.learning_rate': 0.1},
    'rate_0.4': {'optimizer.learning_rate': 0.4},
    'decay_1e-3': {'optimizer.weight_decay': 1e-3},
    'mirror': fashion_mnist.MIRROR_ALONE,
    'crop': {'data.augment': 'none'},
    'two_operations': {'data.randaugment_layers': 2},
    'no_dropout': {'model.dropout_rate': 0.0},
}


def get_sweep() -> Iterator[tuple[str, ConfigDict]]:
    """Yields (name, config) of every run."""
    for name, change in CHANGES.items():
        config = fashion_mnist.get_config('choose').unlock()
        config.duration = config.eval.every = EPOCHS
        del config.evals.test
        config.update_from_flattened_dict(change)
        yield name, config.lock()
