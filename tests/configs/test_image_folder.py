"""The configurations for a folder of one's own images, and the sizes that come from it."""

import types

import pytest
from helpers import prepared

from configs import digits, fine_tune, image_folder, moving_digits
from resnet_rs.config.stored import write_config
from resnet_rs.run import preflight
from resnet_rs.utils.errors import UserError


@pytest.mark.parametrize('variant', image_folder.VARIANTS)
def test_an_image_folder_needs_no_other_setting(variant, tmp_path):
    config = image_folder.get_config(variant).unlock()
    config.data.data_dir, config.data.eval_split = prepared.image_folder(), 'val'
    config = preflight.with_sizes_of_data(config)
    assert (config.model.num_classes, config.batch_size) == (3, 8)
    info = preflight.check_config(config, tmp_path / 'run')
    assert info.split('train').num_examples == 72


@pytest.mark.parametrize(
    'examples, batch_size',
    [
        (1, 8),
        (159, 8),
        (319, 8),
        (320, 16),
        (2559, 64),
        (2560, 128),
        (5120, 256),
        (10**6, 256),
    ],
)
def test_an_epoch_has_twenty_steps_where_the_batch_may_be_so_small(
    examples, batch_size, monkeypatch
):
    split = types.SimpleNamespace(num_examples=examples)
    info = types.SimpleNamespace(num_classes=7, split=lambda name: split)
    monkeypatch.setattr(preflight, 'check_dataset', lambda config: info)
    config = preflight.with_sizes_of_data(image_folder.get_config())
    assert (config.batch_size, config.model.num_classes) == (batch_size, 7)


def test_sizes_that_are_set_stay():
    config = image_folder.get_config().unlock()
    config.batch_size, config.model.num_classes = 48, 5
    assert preflight.with_sizes_of_data(config) is config


def test_fine_tuning_takes_the_network_of_the_other_run(tmp_path):
    source = digits.get_config()
    write_config(tmp_path, source)
    config = fine_tune.get_config(str(tmp_path))
    assert config.init_from == str(tmp_path) and config.model.num_classes == 0
    for name in ('name', 'width_multiplier', 'dtype', 'stochastic_depth_rate'):
        assert config.model[name] == source.model[name]
    for name in ('image_size', 'resize', 'mean_rgb', 'std_rgb', 'eval_crop'):
        assert config.data[name] == source.data[name]
    assert config.data.source == 'image_folder'


def test_a_network_for_clips_is_refused(tmp_path):
    write_config(tmp_path, moving_digits.get_config())
    with pytest.raises(UserError, match='resnet_3d_rs_14, which takes clips of videos'):
        fine_tune.get_config(str(tmp_path))


@pytest.mark.parametrize(
    'get_config, argument, message',
    [
        (image_folder.get_config, 'tiny', "no variant 'tiny'; it has standard and small"),
        (
            fine_tune.get_config,
            'nowhere',
            "'nowhere' holds no config.json; write configs/fine_tune.py",
        ),
        (fine_tune.get_config, '', "'' holds no config.json"),
    ],
)
def test_wrong_variants(get_config, argument, message):
    with pytest.raises(UserError, match=message):
        get_config(argument)
