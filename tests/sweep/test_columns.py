"""The columns of the table of results that follow from a configuration."""

import pytest

from configs import digits, resnet_rs
from resnet_rs.sweep import columns


def test_costs_are_those_of_the_paper():
    # 35,691,912 parameters; the paper prints twice the multiply-adds, 4.6 billion.
    parameters, multiply_adds = columns.cost_of(resnet_rs.get_config('50@160'))
    assert parameters == 35_691_912
    assert 2 * multiply_adds / 1e9 == pytest.approx(4.6, abs=0.05)


@pytest.mark.parametrize(
    'settings, depth, epochs',
    [
        ({'model.name': 'resnet_3d_rs_50'}, 50, 3.0),
        ({'model.name': 'resnet_3d_101'}, 101, 3.0),
        ({'model.name': 'resnet_50d'}, 50, 3.0),
        ({'model.name': 'efficientnet_b0', 'duration': '5 steps'}, None, None),
        ({'duration': '4epochs'}, 14, 4.0),
    ],
)
def test_depth_and_epochs(settings, depth, epochs):
    config = digits.get_config('debug').unlock()
    config.duration = '3 epochs'
    config.update_from_flattened_dict(settings)
    assert (columns.depth_of(config), columns.epochs_of(config)) == (depth, epochs)
