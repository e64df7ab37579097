"""The losses of objectives against published numbers."""

import jax.numpy as jnp
import pytest

from resnet_rs.config import default_config
from resnet_rs.training.objectives import create_objective, smoothed_cross_entropy


def test_smoothed_cross_entropy_against_the_published_numbers():
    """z = (1, 2, 3, .5), label 2: plain .4607734892, with smoothing .1 (eps/K) .5982734892."""
    logits, labels = jnp.asarray([[1.0, 2.0, 3.0, 0.5]]), jnp.asarray([2])
    assert float(smoothed_cross_entropy(logits, labels, 0.0)[0]) == pytest.approx(0.4607734892)
    assert float(smoothed_cross_entropy(logits, labels, 0.1)[0]) == pytest.approx(0.5982734892)


@pytest.mark.parametrize(
    'over, expected', (('all_classes', 0.5982734892), ('other_classes', 0.6441068225))
)
def test_both_forms_of_label_smoothing(over, expected):
    """The same example; the papers' form gives eps / (K - 1) to the other classes."""
    config = default_config()
    config.model.num_classes = 4
    config.optimizer.label_smoothing_over = over
    loss, _, _ = create_objective(config).losses(
        lambda images, rngs: (jnp.asarray([[1.0, 2.0, 3.0, 0.5]]), {}),
        {'image': None, 'label': jnp.asarray([2])},
        {},
        {},
    )
    assert float(loss[0]) == pytest.approx(expected)
