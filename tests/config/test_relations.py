"""Settings that contradict each other are refused."""

import pytest

from resnet_rs.config import (
    default_config,
)
from resnet_rs.config.validation import check_settings
from resnet_rs.utils.errors import UserError


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'data.cache': 'disk'}, "data.cache is 'disk', but data.cache_dir is empty"),
        ({'data.source': 'image_folder'}, 'data.data_dir is empty'),
        (
            {'data.source': 'image_folder', 'data.data_dir': 'x', 'data.cache': 'memory'},
            "data.cache is 'memory', which is for sets of records",
        ),
        ({'data.repeated_augmentation': 3}, 'is 3, which does not divide batch_size=4096'),
        ({'optimizer.accumulation_steps': 5}, 'is 5, which does not divide batch_size=4096'),
        ({'model.batch_norm_group_size': 3}, 'is 3, which does not divide'),
        ({'model.remat': 'block,block'}, 'has 2 names; give one, or one for each of the 4'),
        (
            {'model.name': 'resnest_14', 'model.remat': 'block,block'},
            'one for each of the 4 stages',
        ),
        (
            {'model.name': 'resnet_50', 'model.pool_unstrided_shortcut': True},
            'is True, but the shortcuts of resnet_50 have no pool; use',
        ),
        (
            {
                'model.name': 'resnet_3d_50',
                'data.frames': 8,
                'model.pool_unstrided_shortcut': True,
            },
            'is True, but the shortcuts of resnet_3d_50 have no pool; use',
        ),
        (
            {'model.name': 'resnet_50d', 'model.squeeze_excite_divisor': 8},
            'is 8, but resnet_50d has no squeeze-excite; use',
        ),
        (
            {'data.augment': 'autoaugment_v0', 'data.randaugment_operations': ('Rotate',)},
            'autoaugment_v0 has a fixed table',
        ),
        ({'data.crop_area': (0.05, 0.1)}, 'is (0.05, 0.1), but no random crop is smaller than 0.1'),
    ],
)
def test_settings_that_disagree_are_refused(settings, message):
    config = default_config()
    config.update_from_flattened_dict(settings)
    with pytest.raises(UserError) as error:
        check_settings(config)
    assert message in str(error.value)


@pytest.mark.parametrize(
    'settings',
    [
        {'model.name': 'resnet_rs_50', 'model.pool_unstrided_shortcut': True},
        {'model.name': 'resnest_50', 'model.pool_unstrided_shortcut': True},
        {'model.name': 'se_resnet_18', 'model.squeeze_excite_divisor': 8},
    ],
)
def test_parts_that_a_network_has_can_be_set(settings):
    config = default_config()
    config.update_from_flattened_dict(settings)
    check_settings(config)
