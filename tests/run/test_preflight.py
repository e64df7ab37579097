"""Failed starts leave no file, and the first checkpoint fixes a work directory's configuration."""

import errno
import json
import os
import pathlib
import re

import numpy as np
import PIL.Image
import pytest
from etils import epath
from helpers import prepared

import train_lib
from configs import digits, image_folder
from resnet_rs.config import SETTINGS, may_change_on_resume
from resnet_rs.config.stored import write_config
from resnet_rs.datasets.image_folder import find_image_folder
from resnet_rs.run import preflight
from resnet_rs.run.preflight import check_config, check_durations, check_workdir
from resnet_rs.run.start import start_workdir
from resnet_rs.training.optimizer import create_schedule
from resnet_rs.utils.errors import UserError


def config_of(**settings):
    config = digits.get_config('debug').unlock()
    config.data.data_dir = prepared.data_dir('digits', 'array_record')
    config.update_from_flattened_dict(settings)
    return config


@pytest.mark.parametrize(
    'settings, message',
    [
        (
            {'data.resize': 'bicubik'},
            "data.resize is 'bicubik'; it takes .* did you mean 'bicubic'",
        ),
        ({'batch_size': 20}, 'batch_size is 20, which does not divide over 8 devices'),
        ({'eval.batch_size': 20}, 'eval.batch_size is 20, which does not divide'),
        ({'sharding.slices': 3}, 'sharding.slices is 3'),
        ({'data.host_memory_gib': 1e-4}, 'needs .* a larger --config.data.host_memory_gib'),
        (
            {'data.cache': 'memory', 'data.host_memory_gib': 1e-9},
            "data.cache is 'memory', which needs",
        ),
        ({'init_from': 'nowhere'}, "init_from is 'nowhere', which holds no config.json"),
    ],
)
def test_a_failed_start_leaves_nothing(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train_lib.train_and_evaluate(config_of(**settings), str(tmp_path / 'runs' / 'run'))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=message):
        train_lib.check(config_of(**settings), str(tmp_path / 'check'))


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
        f'{tmp_path} was started with batch_size=32; changing it on resume is not possible. Use '
        '--config.batch_size=32 or a new --workdir (start it from these weights with '
        f'--config.init_from={tmp_path})'
    )
    check_workdir(
        config_of(
            **{
                'batch_size': 32,
                'sharding.strategy': 'zero1',
                'data.cache_dir': '/x',
                'eval.image_size': 64,
            }
        ),
        tmp_path,
    )


def test_a_partial_checkpoint_of_a_bucket_does_not_count(monkeypatch, tmp_path):
    """Orbax writes into checkpoints/STEP itself there, and adds a file when all is there."""
    assert preflight._has_commit_files(epath.Path('gs://bucket/run/checkpoints'))
    for other in (tmp_path, 's3://bucket/run'):  # orbax renames there
        assert not preflight._has_commit_files(epath.Path(other))
    write_config(tmp_path, config_of(batch_size=32))
    (tmp_path / 'checkpoints' / '100' / 'weights').mkdir(parents=True)
    assert preflight.last_checkpoint(tmp_path) == 100
    monkeypatch.setattr(preflight, '_has_commit_files', lambda path: True)
    assert preflight.last_checkpoint(tmp_path) == -1
    assert not preflight.has_checkpoint(tmp_path)
    check_workdir(config_of(batch_size=16), tmp_path)
    (tmp_path / 'checkpoints' / '50').mkdir()
    (tmp_path / 'checkpoints' / '50' / 'commit_success.txt').touch()
    assert preflight.last_checkpoint(tmp_path) == 50


def test_a_workdir_below_a_closed_directory_is_named(monkeypatch, tmp_path):
    def exists(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(preflight.pathlib.Path, 'exists', exists)  # as for a user who is not root
    with pytest.raises(UserError, match=r'run cannot be written \(Permission denied\); name anoth'):
        check_workdir(config_of(), tmp_path / 'closed' / 'run')


def test_a_teacher_for_clips_is_named_with_its_setting(tmp_path):
    teacher = config_of(**{'model.name': 'resnet_3d_rs_50', 'data.frames': 8})
    write_config(tmp_path, teacher)
    (tmp_path / 'checkpoints' / '6').mkdir(parents=True)
    config = config_of(**{'objective': 'distillation', 'distillation.teacher': str(tmp_path)})
    with pytest.raises(UserError) as error:
        preflight.check_teacher(config, preflight.check_dataset(config))
    assert str(error.value) == (
        f"distillation.teacher is '{tmp_path}', with resnet_3d_rs_50 for clips of 8 frames, but "
        'distillation takes images; name the work directory of a network for images with '
        '--config.distillation.teacher'
    )
    write_config(tmp_path, config_of(**{'data.frames': 1}))  # for images: single frames
    preflight.check_teacher(config, preflight.check_dataset(config))


def test_the_flag_that_a_refusal_names_can_be_copied(tmp_path):
    write_config(tmp_path, config_of(**{'duration': '2 epochs', 'data.crop_area': (0.5, 1.0)}))
    (tmp_path / 'checkpoints' / '6').mkdir(parents=True)
    for settings, start in (
        (
            {'duration': '2 epochs'},
            'data.crop_area=(0.5, 1.0); changing it on resume is not '
            "possible. Use '--config.data.crop_area=(0.5, 1.0)' or",
        ),
        (
            {'data.crop_area': (0.5, 1.0)},
            "duration='2 epochs'; changing it on resume is not "
            "possible. Use '--config.duration=2 epochs' or",
        ),
    ):
        with pytest.raises(UserError) as error:
            check_workdir(config_of(**settings), tmp_path)
        assert str(error.value).startswith(f'{tmp_path} was started with {start}')


def test_a_setting_that_is_no_more_is_not_offered_as_a_flag(tmp_path):
    write_config(tmp_path, config_of())
    stored = json.loads((tmp_path / 'config.json').read_text())
    (tmp_path / 'config.json').write_text(json.dumps(stored | {'gone': 3}))
    (tmp_path / 'checkpoints' / '6').mkdir(parents=True)
    with pytest.raises(UserError) as error:
        check_workdir(config_of(), tmp_path)
    assert str(error.value) == (
        f'{tmp_path} was started with gone=3, a setting that no longer exists. Use a new --workdir '
        f'(start it from these weights with --config.init_from={tmp_path})'
    )


def test_readme_lists_what_may_change_on_a_resume():
    readme = (pathlib.Path(__file__).parents[2] / 'README.md').read_text()
    [listed] = re.findall(r'may\s+change on a resume: (.*?)\. ', readme, re.DOTALL)
    names = set()
    for name in re.findall(r'`(.*?)`', listed):
        group = name.removesuffix('*')
        names |= {
            known
            for known in SETTINGS
            if known == name or (name.endswith('.*') and known.startswith(group))
        }
    assert names == {name for name in SETTINGS if may_change_on_resume(name)}


def test_a_warm_up_that_is_too_long_becomes_a_tenth_of_the_run(caplog):
    config = config_of(**{'duration': '2 epochs', 'optimizer.warmup': '5 epochs'})
    check_durations(config, 1600)
    with caplog.at_level('INFO', 'absl'):
        schedule = create_schedule(config, 200, 1600)
    assert 'warm-up of 5 epochs (500 steps) is shortened to 20 of the 200 steps' in caplog.text
    rates = [float(schedule(step)) for step in range(200)]
    assert (
        int(np.argmax(rates)) == 20 and rates[0] == 0 and rates[10] == pytest.approx(rates[20] / 2)
    )


def test_a_run_lasts_a_step():
    with pytest.raises(UserError, match="duration is '0.1 steps', less than one step"):
        check_durations(config_of(duration='0.1 steps'), 1600)


def test_a_batch_is_at_most_an_epoch():
    config = config_of(**{'batch_size': 400, 'duration': '8 epochs'})
    with pytest.raises(
        UserError,
        match=(
            'batch_size is 400, but train has 100 images, so that a step would be 4 epochs; use a '
            'smaller --config.batch_size'
        ),
    ):
        check_durations(config, 100)
    config.data.allow_batch_beyond_epoch = True
    check_durations(config, 100)
    config.data.allow_batch_beyond_epoch = False
    config.data.repeated_augmentation = 4
    check_durations(config, 100)


def test_a_finished_run_keeps_the_settings_it_was_evaluated_with(tmp_path):
    write_config(tmp_path, config_of())
    (tmp_path / 'checkpoints' / '6').mkdir(parents=True)
    other = config_of(**{'data.eval_split': 'train[1000:]', 'data.threads': 3})
    check_workdir(other, tmp_path)
    (tmp_path / 'predictions.npz').touch()
    with pytest.raises(UserError, match="evaluated with data.eval_split='validation'; .*mode=eval"):
        check_workdir(other, tmp_path)
    check_workdir(config_of(**{'data.threads': 3}), tmp_path)


def test_the_crop_of_evaluation_is_fixed_where_training_has_it_too(tmp_path):
    for train_crop, changed in (('random', True), ('evaluation', False)):
        write_config(tmp_path, config_of(**{'data.train_crop': train_crop}))
        (tmp_path / 'checkpoints' / '6').mkdir(parents=True, exist_ok=True)
        other = config_of(**{'data.train_crop': train_crop, 'data.eval_crop': 'fraction 0.9'})
        if changed:
            check_workdir(other, tmp_path)
        else:
            with pytest.raises(UserError, match='was started with data.eval_crop='):
                check_workdir(other, tmp_path)


def test_the_data_of_a_run_stay_the_same(tmp_path):
    """A class that is renamed would give its number to another one without a word."""
    for split in ('train', 'validation'):
        for name in 'ab':
            (tmp_path / 'data' / split / name).mkdir(parents=True)
            for number in range(8):
                image = PIL.Image.new('RGB', (8, 8))
                image.save(tmp_path / 'data' / split / name / f'{number}.png')
    config = image_folder.get_config('small').unlock()
    config.data.data_dir = str(tmp_path / 'data')
    config.update_from_flattened_dict({'batch_size': 8, 'model.num_classes': 2})
    workdir = tmp_path / 'run'
    info = check_config(config, workdir)
    start_workdir(config, str(workdir), info)
    (workdir / 'checkpoints' / '1').mkdir(parents=True)
    check_config(config, workdir)
    (tmp_path / 'data' / 'train' / 'a' / '7.png').unlink()
    find_image_folder.cache_clear()
    with pytest.raises(UserError, match='has 15 training images, but the run in .* with 16'):
        check_config(config, workdir)
    for split in ('train', 'validation'):
        (tmp_path / 'data' / split / 'a').rename(tmp_path / 'data' / split / 'c')
    find_image_folder.cache_clear()
    with pytest.raises(UserError, match="lacks class 'a' and has class 'c', other than the run in"):
        check_config(config, workdir)
    (workdir / 'data.json').unlink()  # as in a work directory of an earlier version
    with pytest.raises(UserError, match="lacks class 'a'"):
        check_config(config, workdir)
