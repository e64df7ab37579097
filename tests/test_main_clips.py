"""main.py on videos: the check, a run that is killed and resumed, and a clip that is too large."""

import collections.abc
import json

import jax
import numpy as np
import pytest
from helpers import clip_networks, videos
from helpers.whole_runs import assert_identical, without_time
from PIL import Image

import train_lib
from resnet_rs.plan import attached
from resnet_rs.run.workdir import load_workdir

pytestmark = pytest.mark.usefixtures('small_network', 'shared_programs', 'no_report')
SETTINGS = {
    'batch_size': 8,
    'duration': '4 steps',
    'model.num_classes': 2,
    'model.width_multiplier': 0.125,
    'model.dropout_rate': 0.2,
    'data.source': 'video_folder',
    'data.frames': 4,
    'data.image_size': 16,
    'data.crop_area': '(0.5,1.0)',
    'data.flip': True,
    'data.threads': 2,
    'optimizer.warmup': '0 steps',
    'eval.batch_size': 8,
    'eval.every': '4 steps',
    'checkpoint.every': '2 steps',
    'log.every': '2 steps',
}


class Killed(Exception):
    pass


@pytest.fixture(scope='module')
def small_network():
    with pytest.MonkeyPatch.context() as patch:
        clip_networks.shorten(patch.setitem)
        yield


@pytest.fixture(scope='module')
def command(tmp_path_factory):
    root = tmp_path_factory.mktemp('videos')
    videos.write_folder(root, {'train': (9, 12, 3, 5), 'validation': (10, 5)})
    flags = [f'--config.{name}={value}' for name, value in SETTINGS.items()]
    return ['--config=configs/moving_digits.py', f'--config.data.data_dir={root}', *flags]


def test_a_killed_run_on_videos_resumes_to_the_same_bits(command, run_main, monkeypatch, tmp_path):
    """Killed before the third of four steps, with a checkpoint of the second."""
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    assert run_main(*command, f'--workdir={whole}')[0] == 0

    real = train_lib.input_pipeline.train_batches

    class UntilKilled(collections.abc.Iterator):
        def __init__(self, *arguments, **settings):
            self.batches = real(*arguments, **settings)
            self.corrupt_images = 0

        def __next__(self):
            if self.batches.step == 2:
                raise Killed
            return next(self.batches)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train_lib.input_pipeline, 'train_batches', UntilKilled)
        run_main(*command, f'--workdir={killed}')
    assert [path.name for path in (killed / 'checkpoints').iterdir()] == ['2']
    assert run_main(*command, f'--workdir={killed}')[0] == 0
    assert without_time(killed) == without_time(whole)
    assert json.loads(without_time(whole)[-1])['step'] == 4
    for weights in ('raw', 'ema'):
        found, expected = (load_workdir(place, weights)[2] for place in (killed, whole))
        assert_identical(jax.device_get(found), jax.device_get(expected))


def test_the_check_shows_clips(command, run_main, tmp_path):
    """A sheet has four frames of every clip; the red of a frame is ten times its number."""
    status, text, errors = run_main(*command, f'--workdir={tmp_path}', '--mode=check')
    assert (status, errors) == (0, [])
    assert 'train: decoded all 8 videos, 0 failed' in text
    assert 'train: 2 videos of fewer than the 4 frames that a clip spans, which repeats' in text
    assert '4 videos of validation, decoded and cropped' in text and 'ready: ' in text
    for name in ('train', 'eval'):
        with Image.open(tmp_path / 'check' / f'{name}.png') as picture:
            red = np.asarray(picture.convert('RGB'))[..., 0]
        assert {10, 20, 30} <= set(red.ravel().tolist())


def test_clips_that_do_not_fit_the_memory(command, run_main, monkeypatch, tmp_path):
    """One line names the remedy, before anything is written."""
    monkeypatch.setattr(attached, 'machine_memory', lambda: 2**20)
    status, _, [line] = run_main(*command, f'--workdir={tmp_path / "run"}')
    assert status == 2 and 'a training step of 1 clip per device does not fit' in line
    assert 'use a smaller --config.batch_size' in line
    assert not list((tmp_path / 'run').glob('*'))
