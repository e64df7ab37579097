"""Whole runs: interrupted anywhere they equal the run that was not; nothing good is lost."""

import collections.abc
import json
import os
import shutil

import jax
import numpy as np
import pytest
from helpers.whole_runs import Killed, assert_identical, small_config, without_time

import train_lib
from resnet_rs.config.stored import read_config
from resnet_rs.run.checkpoint import Checkpoints
from resnet_rs.run.run_log import read_metrics
from resnet_rs.training import WEIGHTS
from resnet_rs.training.sharding import create_mesh
from resnet_rs.utils.errors import UserError

pytestmark = pytest.mark.usefixtures('one_stage', 'shared_programs')


def change_batches(monkeypatch, change):
    """The run gets `change(step, batch)` for each batch; steps count from 1."""
    real = train_lib.input_pipeline.train_batches

    class Changed(collections.abc.Iterator):
        def __init__(self, config, first_step, **processes):
            self.batches = real(config, first_step=first_step, **processes)

        def __next__(self):
            step = self.batches.step + 1
            return change(step, next(self.batches))

        @property
        def corrupt_images(self):
            return self.batches.corrupt_images

    monkeypatch.setattr(train_lib.input_pipeline, 'train_batches', Changed)


def kill_before_step(monkeypatch, fatal):
    """The run ends without warning when it asks for the batch of step `fatal`."""

    def change(step, batch):
        if step == fatal:
            raise Killed
        return batch

    change_batches(monkeypatch, change)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('uninterrupted')
    state = train_lib.train_and_evaluate(small_config(), str(workdir))
    return workdir, jax.device_get(state)


def test_killed_and_resumed_is_uninterrupted(uninterrupted, no_report, monkeypatch, tmp_path):
    """Killed before the first checkpoint, before and after an evaluation, and before the end."""
    for step in (2, 5, 7, 10):
        with monkeypatch.context() as patch:
            kill_before_step(patch, step)
            with pytest.raises(Killed):
                train_lib.train_and_evaluate(small_config(), str(tmp_path))
    state = train_lib.train_and_evaluate(small_config(), str(tmp_path))
    workdir, expected = uninterrupted
    assert_identical(state, expected)
    assert without_time(tmp_path) == without_time(workdir)


def test_a_run_killed_before_its_report_writes_it_when_started_again(uninterrupted, tmp_path):
    workdir, _ = uninterrupted
    again = tmp_path / 'again'
    shutil.copytree(workdir, again)
    expected = dict(np.load(again / 'predictions.npz'))
    (again / 'predictions.npz').unlink()
    train_lib.train_and_evaluate(small_config(), str(again))
    assert_identical(dict(np.load(again / 'predictions.npz')), expected)


def test_a_run_leaves_what_it_says(uninterrupted):
    workdir, state = uninterrupted
    names = {path.name for path in workdir.iterdir()}
    assert {
        'config.json',
        'class_names.txt',
        'environment.json',
        'metrics.jsonl',
        'checkpoints',
        'predictions.npz',
        'curves.png',
        'confusion_matrix.png',
        'mistakes.png',
        'report.html',
    } <= names
    assert any('tfevents' in name for name in names)
    assert read_config(workdir).to_dict() == small_config().to_dict()
    assert (workdir / 'class_names.txt').read_text().split() == [str(i) for i in range(10)]
    environment = json.loads((workdir / 'environment.json').read_text())
    assert environment['packages']['jax'] == jax.__version__
    assert Checkpoints(workdir).steps() == [3, 6, 9, 10]

    lines = read_metrics(workdir)
    kinds = [(line['step'], line['kind']) for line in lines]
    assert kinds == [
        (2, 'train'),
        (4, 'train'),
        (6, 'train'),
        (6, 'eval'),
        (8, 'train'),
        (10, 'train'),
        (10, 'eval'),
    ]
    assert {'loss', 'top1', 'learning_rate', 'gradient_norm', 'parameter_norm', 'update_norm'} <= (
        lines[0].keys()
    )
    predictions = np.load(workdir / 'predictions.npz')
    assert len(predictions['label']) == 360
    for weight in WEIGHTS:
        right = predictions[f'{weight}_prediction'] == predictions['label']
        assert right.mean() == pytest.approx(lines[-1][f'{weight}_top1'])


def test_a_finished_run_stays_as_it_is(uninterrupted):
    workdir, state = uninterrupted
    before = (workdir / 'metrics.jsonl').read_text()
    again = train_lib.train_and_evaluate(small_config(), str(workdir))
    assert_identical(again, state)
    assert (workdir / 'metrics.jsonl').read_text() == before


def test_eight_devices_resume_on_fewer(uninterrupted, no_report, monkeypatch, tmp_path):
    workdir, expected = uninterrupted
    shutil.copytree(workdir, tmp_path / 'run')
    for step in (9, 10):
        shutil.rmtree(tmp_path / 'run' / 'checkpoints' / str(step))
    mesh = create_mesh(jax.devices()[:2])
    monkeypatch.setattr(train_lib, 'create_mesh', lambda **_: mesh)
    next_batches = train_lib.input_pipeline.train_batches(small_config(), first_step=6)
    seen = []
    change_batches(monkeypatch, lambda step, batch: seen.append(batch) or batch)
    state = train_lib.train_and_evaluate(small_config(), str(tmp_path / 'run'))
    for batch, wanted in zip(seen, next_batches, strict=False):
        assert_identical(batch, wanted)
    assert len(seen) >= 4  # and what was read ahead
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
        jax.device_get(state.variables),
        expected.variables,
    )


def test_evaluation_of_a_checkpoint_at_any_resolution(uninterrupted):
    workdir, _ = uninterrupted
    config = small_config()
    same = train_lib.evaluate_checkpoint(config, str(workdir))
    last = read_metrics(workdir)[-1]
    assert (same['examples'], same['step']) == (360, 10)
    for weights in WEIGHTS:
        for name in ('top1', 'top5', 'loss'):
            assert same['weights'][weights][name] == last[f'{weights}_{name}']
    at_step_6 = train_lib.evaluate_checkpoint(config, str(workdir), '6')
    assert at_step_6['weights']['raw']['loss'] == read_metrics(workdir)[3]['raw_loss']
    config.eval.image_size = 48
    config.data.eval_crop = 'fraction 0.875'
    config.eval.batch_size = 128
    other = train_lib.evaluate_checkpoint(config, str(workdir))
    assert other['examples'] == 360
    assert other['weights']['raw']['loss'] != same['weights']['raw']['loss']


def test_fine_tuning_starts_from_the_ema_weights(uninterrupted, no_report, tmp_path):
    workdir, trained = uninterrupted
    config = small_config(**{'init_from': str(workdir), 'duration': '1 step'})
    config.optimizer.learning_rate = 0.0
    config.optimizer.warmup = '0 steps'
    config.model.batch_norm_momentum = 1.0  # keeps the statistics as they are
    state = jax.device_get(train_lib.train_and_evaluate(config, str(tmp_path / 'same')))
    assert_identical(state.variables, trained.ema)
    assert_identical(state.ema, trained.ema)


def test_fine_tuning_gives_other_classes_a_new_head(uninterrupted, tmp_path):
    workdir, trained = uninterrupted
    program = train_lib.create_program(small_config(), create_mesh(jax.devices()[:1]), 1437)
    state = program.init()
    features = len(state.variables['params']['head']['kernel'])
    three = {'kernel': jax.numpy.ones((features, 3)), 'bias': jax.numpy.zeros(3)}
    variables = state.variables | {'params': state.variables['params'] | {'head': three}}
    with Checkpoints(workdir, read_only=True) as checkpoints:
        restored = checkpoints.restore_for_fine_tuning(10, variables, None)
    assert_identical(restored['params'].pop('head'), three)
    expected = dict(trained.ema['params'])
    del expected['head']
    assert_identical(restored['params'], expected)
    for settings, message in (
        ({'init_from': str(tmp_path)}, 'holds no config.json'),
        ({'init_from': str(workdir), 'model.name': 'resnet_rs_26'}, 'another architecture'),
        ({'init_from': str(workdir), 'model.width_multiplier': 0.25}, 'of shape .* the network of'),
    ):
        with pytest.raises(UserError, match=message):
            train_lib.train_and_evaluate(small_config(**settings), str(tmp_path / 'run'))
        assert not (tmp_path / 'run').exists()


def test_wrong_checkpoints_are_explained(uninterrupted, tmp_path):
    workdir, _ = uninterrupted
    with pytest.raises(UserError, match="no checkpoint '4'.*steps \\[3, 6, 9, 10\\]"):
        train_lib.evaluate_checkpoint(small_config(), str(workdir), '4')
    with pytest.raises(UserError, match=f'no run is in {tmp_path}'):
        train_lib.evaluate_checkpoint(small_config(), str(tmp_path))
    wider = small_config(**{'model.width_multiplier': 0.25})
    with pytest.raises(UserError, match='of shape .* the network of this configuration'):
        train_lib.evaluate_checkpoint(wider, str(workdir))
    deeper = small_config(**{'model.name': 'resnet_rs_26'})
    with pytest.raises(UserError, match='another architecture'):
        train_lib.evaluate_checkpoint(deeper, str(workdir))


def test_another_runs_workdir_is_left_alone(uninterrupted):
    workdir, _ = uninterrupted
    before = {path: os.stat(path).st_mtime_ns for path in workdir.rglob('*')}
    other = small_config(**{'optimizer.momentum': 0.8})
    with pytest.raises(UserError, match='was started with optimizer.momentum=0.9; changing it'):
        train_lib.train_and_evaluate(other, str(workdir))
    after = {path: os.stat(path).st_mtime_ns for path in workdir.rglob('*')}
    assert {path for path in after if path != workdir} == {p for p in before if p != workdir}
    assert all(after[path] == before[path] for path in before if path.is_file())


def test_a_setting_younger_than_the_run_has_its_default(uninterrupted, tmp_path):
    workdir, _ = uninterrupted
    stored = json.loads((workdir / 'config.json').read_text())
    assert stored['model'].pop('padding') == 'symmetric'
    (tmp_path / 'config.json').write_text(json.dumps(stored))
    (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
    assert read_config(tmp_path).to_dict() == small_config().to_dict()
    train_lib.preflight.check_workdir(small_config(), tmp_path)
    with pytest.raises(UserError, match="was started with model.padding='symmetric'; changing"):
        other = small_config(**{'model.padding': 'same'})
        train_lib.preflight.check_workdir(other, tmp_path)


def test_divergence_stops_and_keeps_the_last_good_checkpoint(no_report, monkeypatch, tmp_path):
    def poison(step, batch):
        return batch | {'mask': np.full_like(batch['mask'], np.nan)} if step == 9 else batch

    with monkeypatch.context() as patch:
        change_batches(patch, poison)
        with pytest.raises(FloatingPointError, match='not finite at step 9: loss nan'):
            train_lib.train_and_evaluate(small_config(), str(tmp_path))
    assert Checkpoints(tmp_path).steps() == [3, 6]
    state = train_lib.train_and_evaluate(small_config(), str(tmp_path))
    assert int(state.step) == 10
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.ema)))


def test_best_and_last_checkpoints_are_kept(no_report, tmp_path):
    config = small_config(
        **{
            'eval.every': '2 steps',
            'checkpoint.every': '2 steps',
            'checkpoint.keep_last': 2,
            'checkpoint.keep_best': 1,
        }
    )
    train_lib.train_and_evaluate(config, str(tmp_path))
    scores = {
        line['step']: line['ema_top1'] for line in read_metrics(tmp_path) if line['kind'] == 'eval'
    }
    best = max(scores, key=lambda step: (scores[step], step))
    checkpoints = Checkpoints(tmp_path)
    assert {8, 10} <= set(checkpoints.steps())
    assert scores[checkpoints.find('best')] == scores[best]
    assert len(checkpoints.steps()) <= 3
