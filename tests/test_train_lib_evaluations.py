"""A run with several evaluations: each exact, under its name, and the best checkpoint by one."""

import collections
import json

import jax
import numpy as np
import pytest
from helpers import prepared
from helpers.whole_runs import Killed, assert_identical, small_config, without_time
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

import input_pipeline
import train_lib
from resnet_rs.config.evaluations import evaluation_config
from resnet_rs.plan import attached
from resnet_rs.run import preflight
from resnet_rs.run.checkpoint import Checkpoints
from resnet_rs.run.run_log import read_metrics
from resnet_rs.run.workdir import load_workdir
from resnet_rs.training.networks import model_of, normalise
from resnet_rs.utils.errors import UserError

pytestmark = pytest.mark.usefixtures('one_stage', 'shared_programs')


def config_of(**settings):
    """Beside the default one every 6 steps, 101 training images every 4, and at 24 pixels."""
    config = small_config(**{'checkpoint.best_by': 'seen', 'checkpoint.every': '5 steps'})
    config.evals.seen = dict(split='train[:101]', every='4 steps', batch_size=16)
    config.evals.tiny = dict(image_size=24)
    config.update_from_flattened_dict(settings)
    return config


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """(work directory, end state) of a run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp('several')
    state = train_lib.train_and_evaluate(config_of(), str(workdir))
    return workdir, jax.device_get(state)


def lines_of(workdir):
    """{kind: {step: line}} of metrics.jsonl."""
    lines = collections.defaultdict(dict)
    for line in read_metrics(workdir):
        lines[line['kind']][line['step']] = line
    return lines


def test_each_evaluation_has_its_lines_and_tags(finished):
    workdir, _ = finished
    lines = lines_of(workdir)
    assert list(lines['eval']) == [6, 10] and list(lines['eval/tiny']) == [6, 10]
    assert list(lines['eval/seen']) == [4, 8, 10]
    events = event_accumulator.EventAccumulator(str(workdir)).Reload()
    for kind in ('eval', 'eval/seen', 'eval/tiny'):
        for name in ('raw_top1', 'ema_top5', 'ema_loss'):
            found = {
                event.step: float(tensor_util.make_ndarray(event.tensor_proto))
                for event in events.Tensors(f'{kind}/{name}')
            }
            assert found == {
                step: pytest.approx(line[name], rel=1e-6) for step, line in lines[kind].items()
            }


def test_each_evaluation_is_that_of_its_images(finished):
    """The last results beside those in NumPy, from the state that the run returned."""
    workdir, state = finished
    apply = jax.jit(model_of(config_of(), batch_norm_group_size=None).apply, static_argnums=2)
    for name, settings in (
        ('seen', dict(split='train[:101]', batch_size=101)),
        ('tiny', dict(image_size=24, batch_size=360)),
    ):
        [batch] = input_pipeline.eval_batches(small_config(), **settings)
        images = normalise(jax.numpy.asarray(batch['image']), small_config())
        assert images.shape[:2] == {'seen': (101, 32), 'tiny': (360, 24)}[name]
        line = lines_of(workdir)[f'eval/{name}'][10]
        for weights, variables in (('raw', state.variables), ('ema', state.ema)):
            logits = np.asarray(apply(variables, images, False), np.float64)
            of_label = logits[np.arange(len(logits)), batch['label']]
            loss = (np.log(np.exp(logits).sum(1)) - of_label).mean()
            assert line[f'{weights}_loss'] == pytest.approx(loss, rel=1e-4)
            right = (logits.argmax(1) == batch['label']).mean()
            assert line[f'{weights}_top1'] == pytest.approx(right)


def test_the_best_checkpoint_goes_by_the_evaluation_that_is_named(finished):
    workdir, _ = finished
    for best_by, kind in (('seen', 'eval/seen'), ('eval', 'eval')):
        scores = {step: line['ema_top1'] for step, line in lines_of(workdir)[kind].items()}
        best = max(scores, key=lambda step: (scores[step], step))
        with Checkpoints(workdir, best_by=best_by, read_only=True) as checkpoints:
            assert checkpoints.find('best') == best
        if best_by == 'seen':
            _, _, variables = load_workdir(workdir, 'ema', 'best')
            _, _, of_step = load_workdir(workdir, 'ema', str(best))
            assert_identical(variables, of_step)


def test_a_run_killed_between_its_evaluations_ends_as_one_that_was_not(
    finished, monkeypatch, tmp_path
):
    real, names = train_lib.evaluate_split, []

    def evaluate_split(config, *arguments):
        names.append(config.data.eval_split)
        if len(names) == 3:  # after 'seen' at step 4 and the default one at step 6
            raise Killed
        return real(config, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train_lib, 'evaluate_split', evaluate_split)
        with pytest.raises(Killed):
            train_lib.train_and_evaluate(config_of(), str(tmp_path))
    assert names == ['train[:101]', 'validation', 'validation']
    state = train_lib.train_and_evaluate(config_of(), str(tmp_path))
    assert_identical(state, finished[1])
    assert without_time(tmp_path) == without_time(finished[0])


def test_evaluating_a_checkpoint_makes_all_or_the_one_that_is_named(finished, tmp_path):
    workdir, _ = finished
    file = tmp_path / 'seen.npz'
    result = train_lib.evaluate_checkpoint(config_of(), str(workdir), '10', str(file), 'seen')
    assert result['evaluation'] == 'seen' and result['examples'] == 101
    assert result['split'] == 'train[:101]' and len(np.load(file)['index']) == 101
    results = train_lib.evaluate_checkpoint(config_of(), str(workdir), '10')
    assert list(results) == ['eval', 'seen', 'tiny'] and results['seen'] == result
    assert results['tiny']['image_size'] == 24 and 'evaluation' not in results['eval']
    lines = lines_of(workdir)
    for kind, name in (('eval', 'eval'), ('eval/seen', 'seen'), ('eval/tiny', 'tiny')):
        assert results[name]['weights']['ema']['top1'] == lines[kind][10]['ema_top1']
    kept = {path.name: json.loads(path.read_text()) for path in (workdir / 'evaluations').iterdir()}
    assert kept == {
        'validation_32_10.json': results['eval'],
        'seen_32_10.json': results['seen'],
        'tiny_24_10.json': results['tiny'],
    }


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(split='test'), "evals.other: .* has no split 'test': it has train, validation"),
        (dict(name='digitz'), 'evals.other: dataset digitz is not prepared in .*; run: python'),
        (
            dict(source='image_folder', data_dir='/nowhere'),
            'evals.other: image folder /nowhere does not exist',
        ),
        (dict(batch_size=12), 'evals.other.batch_size is 12, which does not divide over 8 devices'),
        (dict(image_size=3), 'evals.other.image_size is 3; it takes'),
    ],
)
def test_an_evaluation_that_cannot_be_made_is_told_before_anything_is_done(
    settings, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(train_lib, 'compile_steps', None)
    config = small_config()
    config.evals.other = settings
    with pytest.raises(UserError, match=message) as error:
        train_lib.train_and_evaluate(config, str(tmp_path / 'run'))
    assert '\n' not in str(error.value) and not list(tmp_path.iterdir())


def test_other_classes_are_refused(tmp_path):
    config = small_config()
    config.evals.photographs = dict(source='image_folder', data_dir=prepared.image_folder())
    with pytest.raises(
        UserError, match='evals.photographs: .* has 3; evaluate it on data of its own'
    ):
        preflight.check_config(config, tmp_path / 'run')


def test_the_memory_of_each_evaluation_is_counted(monkeypatch):
    """The second evaluation is the one that does not fit."""
    sizes = {'train': 10, 'eval': 10, 'wide': 2**50}
    compiled = []

    def compile_lowered(lowered):
        compiled.append(lowered)
        return lowered

    monkeypatch.setattr(attached, 'compile_lowered', compile_lowered)
    monkeypatch.setattr(attached, 'peak_bytes', sizes.get)

    class Step:
        def lower(self, weights, batch):
            return 'wide' if batch['image'].shape[1] == 512 else 'eval'

    config = small_config()
    config.evals.same = dict(split='train[:64]')
    config.evals.wide = dict(image_size=512)
    mesh = train_lib.create_mesh()
    names = train_lib.evaluation_names(config)
    evaluators = train_lib.create_evaluators(config, names, mesh, Step())
    assert evaluation_config(config, 'same').eval.batch_size == 64
    with pytest.raises(
        UserError,
        match=r'an evaluation step \(wide\) of 8 images per device does not fit, .* GiB are '
        'needed: this machine has .* use a smaller --config.eval.batch_size or more devices',
    ):
        attached.compile_evaluators(evaluators, {}, jax.devices())
    assert compiled == ['eval', 'wide']  # 'same' has the shapes of the default one


def test_mode_check_looks_at_the_data_of_each(tmp_path, monkeypatch):
    monkeypatch.setattr(train_lib, 'compile_steps', lambda *arguments: ['memory: enough'])
    text = train_lib.check(config_of(), str(tmp_path))
    assert 'evaluation seen: digits, in ' in text and 'evaluation tiny: digits, in ' in text
    assert 'train[:101]: decoded all 101 images, 0 failed' in text
    assert {path.name for path in (tmp_path / 'check').iterdir()} == {
        'train.png',
        'eval.png',
        'eval_seen.png',
        'eval_tiny.png',
    }
