"""Starts that fail leave no file, and a work directory binds from its first checkpoint on."""

import numpy as np
import prepared
import pytest

import train_lib
from configs import digits
from resnet_rs.errors import UserError
from resnet_rs.optimizer import create_schedule
from resnet_rs.preflight import check_config, check_durations, check_workdir
from resnet_rs.stored_config import write_config


def config_of(**settings):
    config = digits.get_config('debug').unlock()
    config.data.data_dir = prepared.data_dir('digits', 'array_record')
    config.update_from_flattened_dict(settings)
    return config


@pytest.mark.parametrize('settings, message', [
    ({'data.resize': 'bicubik'}, "data.resize is 'bicubik'; it takes .* did you mean 'bicubic'"),
    ({'batch_size': 20}, 'batch_size is 20, which does not divide over 8 devices'),
    ({'eval.batch_size': 20}, 'eval.batch_size is 20, which does not divide'),
    ({'sharding.slices': 3}, 'sharding.slices is 3'),
    ({'data.host_memory_gib': 1e-4}, 'the input needs .* raise it'),
    ({'data.cache': 'memory', 'data.host_memory_gib': 1e-9}, "data.cache='memory' needs"),
    ({'init_from': 'nowhere'}, "init_from is 'nowhere', which holds no config.json"),
])
def test_a_failed_start_leaves_nothing(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train_lib.train_and_evaluate(config_of(**settings), str(tmp_path / 'runs' / 'run'))
    assert not list(tmp_path.iterdir())


def test_a_checked_start_leaves_nothing(tmp_path):
    check_config(config_of(), tmp_path / 'runs' / 'run')
    assert not list(tmp_path.iterdir())


def test_a_workdir_without_a_checkpoint_is_free(tmp_path):
    write_config(tmp_path, config_of(batch_size=32))
    (tmp_path / 'checkpoints' / '6.orbax-checkpoint-tmp').mkdir(parents=True)
    check_workdir(config_of(batch_size=16), tmp_path)
    (tmp_path / 'checkpoints' / '6').mkdir()
    with pytest.raises(UserError) as error:
        check_workdir(config_of(batch_size=16), tmp_path)
    assert str(error.value) == (
        f'{tmp_path} holds a run with batch_size=32, which cannot become 16 on a resume; give '
        f'--config.batch_size=32, or another --workdir (--config.init_from={tmp_path} starts it '
        'from these weights)'
    )
    check_workdir(config_of(**{
        'batch_size': 32, 'sharding.strategy': 'zero1', 'data.cache_dir': '/x',
        'eval.image_size': 64,
    }), tmp_path)


def test_a_warm_up_that_is_too_long_becomes_a_tenth_of_the_run(caplog):
    config = config_of(**{'duration': '2 epochs', 'optimizer.warmup': '5 epochs'})
    with caplog.at_level('INFO', 'absl'):
        check_durations(config, 1600)
    assert 'warm-up of 5 epochs (500 steps) is shortened to 20 of the 200 steps' in caplog.text
    schedule = create_schedule(config, 200, 1600)
    rates = [float(schedule(step)) for step in range(200)]
    assert int(np.argmax(rates)) == 20 and rates[0] == 0 and rates[10] == pytest.approx(
        rates[20] / 2)


def test_a_run_lasts_a_step():
    with pytest.raises(UserError, match="duration is '0.1 steps', less than one step"):
        check_durations(config_of(duration='0.1 steps'), 1600)


def test_a_batch_is_at_most_an_epoch():
    config = config_of(**{'batch_size': 400, 'duration': '8 epochs'})
    with pytest.raises(UserError, match=(
        'batch_size is 400, but train has 100 images, so that a step would be 4 epochs; use a '
        'smaller --config.batch_size'
    )):
        check_durations(config, 100)
    config.data.allow_batch_beyond_epoch = True
    check_durations(config, 100)
    config.data.allow_batch_beyond_epoch = False
    config.data.repeated_augmentation = 4
    check_durations(config, 100)
