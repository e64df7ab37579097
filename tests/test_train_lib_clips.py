"""A run on videos: training on clips, and evaluations of one view and of six."""

import jax
import numpy as np
import pytest
from helpers import clip_networks, videos

import input_pipeline
import train_lib
from configs import resnet_3d_rs, video_study
from resnet_rs.config.validation import check_settings
from resnet_rs.run import report
from resnet_rs.run.run_log import read_metrics
from resnet_rs.run.workdir import load_workdir
from resnet_rs.utils.errors import UserError

CLIPS = dict(clips=2, crops=3, image_size=20)
IMAGES = {'data.source': 'tfds', 'data.frames': 0, 'model.name': 'resnet_14'}
ONE_VIEW = {'evals.views.clips': 1, 'evals.views.crops': 1}


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp('videos')
    videos.write_folder(root, {'train': (9, 12, 3, 5), 'validation': (10, 5)})
    config = clip_networks.small_config()
    config.duration = '2 steps'
    config.data.update(data_dir=str(root), mixup_alpha=0.2)
    config.optimizer.warmup = '0 steps'
    config.eval.every = '2 steps'
    config.evals.views = CLIPS
    return config.lock()


@pytest.fixture
def small_network(monkeypatch):
    clip_networks.shorten(monkeypatch.setitem)


def test_training_and_the_average_over_views(config, small_network, no_report, tmp_path):
    train_lib.train_and_evaluate(config, str(tmp_path))
    lines = [line for line in read_metrics(tmp_path) if 'ema_loss' in line]
    assert {line['kind'] for line in lines} == {'eval', 'eval/views'}

    _, model, variables = load_workdir(tmp_path, 'ema')
    expected = {}
    for kind, settings in (('eval', {}), ('eval/views', CLIPS)):
        of_this = config.copy_and_resolve_references().unlock()
        of_this.eval.update(settings)
        losses = []
        for batch in input_pipeline.eval_batches(of_this):
            views = (batch['image'] - np.float32(config.data.mean_rgb)) / np.float32(
                config.data.std_rgb
            )
            apply = jax.jit(model.apply, static_argnums=2)
            logits = apply(variables, views.reshape(-1, *views.shape[2:]), False)
            probabilities = np.asarray(jax.nn.softmax(logits)).reshape(*views.shape[:2], -1)
            of_label = probabilities.mean(1)[np.arange(len(views)), batch['label']]
            losses += (-np.log(of_label))[batch['mask'] > 0].tolist()
        assert len(losses) == 4
        expected[kind] = np.mean(losses)
    for line in lines:
        assert line['ema_loss'] == pytest.approx(expected[line['kind']], rel=1e-4)


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'data.frames': 0}, "'resnet_3d_rs_14', a network for clips, but data.frames is 0"),
        ({'model.name': 'resnet_rs_14'}, "'resnet_rs_14', a network for images"),
        ({'eval.crops': 2}, r'1 \(the centre\) or 3'),
        (IMAGES, 'evals.views.clips is 2, which is for videos, but data.frames is 0; give'),
        (IMAGES | {'evals.views.clips': 1}, 'evals.views.crops is 3, which is for videos'),
        (IMAGES | ONE_VIEW | {'data.frame_stride': 4}, '=1$'),
        (IMAGES | ONE_VIEW | {'eval.clips': 30}, 'or use --config.eval.clips=1'),
        (IMAGES | ONE_VIEW, None),
    ],
)
def test_settings_that_conflict(config, settings, message, tmp_path):
    changed = config.copy_and_resolve_references().unlock()
    changed.update_from_flattened_dict(settings)
    if message is None:
        check_settings(changed)
        return
    with pytest.raises(UserError, match=message):
        check_settings(changed)


def test_published_recipes():
    for row in video_study.ROWS:
        check_settings(video_study.get_config(row))
    whole, last = (
        resnet_3d_rs.get_config('50').to_dict(),
        video_study.get_config('resnet_d').to_dict(),
    )
    assert (whole['model'].pop('name'), last['model'].pop('name')) == (
        'resnet_3d_rs_50',
        'resnet_3d_rs_50_ungated',
    )
    assert whole == last
    assert whole['batch_size'] * whole['optimizer']['learning_rate'] / 256 == pytest.approx(0.8)


def test_a_clip_is_shown_as_four_frames():
    clip = np.arange(7)[:, None, None, None] * np.ones((7, 5, 6, 3), np.uint8)
    picture = report.picture_of(clip)
    assert picture.shape == (10, 12, 3)
    assert picture[::5, ::6, 0].tolist() == [[0, 2], [4, 6]]
    np.testing.assert_array_equal(report.picture_of(clip[None]), picture)
    np.testing.assert_array_equal(report.picture_of(clip[3]), clip[3])
