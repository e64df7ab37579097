"""Starts that fail leave no file, and a work directory binds from its first checkpoint on."""

import prepared
import pytest

import train_lib
from configs import digits
from resnet_rs.errors import UserError
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


def test_a_warm_up_is_shorter_than_the_run():
    config = config_of(**{'duration': '2 epochs', 'optimizer.warmup': '5 epochs'})
    with pytest.raises(UserError) as error:
        check_durations(config, 1600)
    assert str(error.value) == (
        "optimizer.warmup is '5 epochs' or 500 steps, but the run has 200; shorten it, for "
        "instance to --config.optimizer.warmup='20 steps'"
    )
    with pytest.raises(UserError, match="duration is '0.1 steps', less than one step"):
        check_durations(config_of(duration='0.1 steps'), 1600)
