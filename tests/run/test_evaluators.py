"""The evaluations of a run: their batches and the lines with their results."""

import types

import numpy as np
import pytest
from helpers import prepared

from resnet_rs.datasets.locate import find_dataset
from resnet_rs.run import evaluators
from resnet_rs.run.evaluators import Evaluator, create_evaluators, with_smaller_eval_batch
from resnet_rs.training.evaluation import Evaluation, describe_weights, with_mean_per_class
from resnet_rs.utils.errors import UserError


@pytest.mark.parametrize(
    'devices, given, batch_size', [(1, 1024, 18), (8, 1024, 24), (8, 24, 24), (8, 16, 16)]
)
def test_a_batch_holds_the_split_once_at_most(devices, given, batch_size):
    """18 images; the batch divides over the devices."""
    config = prepared.config('image_folder')
    config.eval.batch_size = given
    mesh = types.SimpleNamespace(size=devices)
    found = with_smaller_eval_batch(config, find_dataset(config.data), mesh)
    assert found.eval.batch_size == batch_size


def test_results_of_an_evaluation_fit_80_columns():
    """A line for each of the weights, with the figures of both below each other."""
    metrics = {'top1': 0.788, 'top5': 0.943, 'loss': 1.2345}
    metrics = {
        f'{weights}_{name}': value for weights in ('raw', 'ema') for name, value in metrics.items()
    }
    evaluation = Evaluation(metrics, 50_000, {})
    evaluator = Evaluator('eval', None, None, 'eval.batch_size', 1, None)
    lines = evaluator.describe(109_459, evaluation).splitlines()
    assert lines == [
        f'step 109459, 50,000 images, {weights}: top-1 78.80 %, top-5 94.30 %, loss 1.2345'
        for weights in ('raw', 'ema')
    ]
    assert max(map(len, lines)) <= 80


def test_the_mean_over_classes_counts_each_class_once():
    labels = np.array([3] * 6 + [1] * 2 + [0])
    raw = np.array([1, 1, 1, 0, 0, 0, 1, 0, 1], bool)
    table = {'label': labels, 'raw_top1': raw, 'ema_top1': np.ones(9, bool)}
    metrics = {f'{weights}_{name}': 0.5 for weights in ('raw', 'ema') for name in ('top1', 'loss')}
    found = with_mean_per_class(Evaluation(metrics, 9, table))
    assert found.metrics['raw_mean_per_class'] == pytest.approx((3 / 6 + 1 / 2 + 1) / 3)
    assert found.metrics['ema_mean_per_class'] == 1
    described = describe_weights(found)['raw']
    assert described['top1_count'] == 5 and 'mean_per_class_count' not in described
    lines = Evaluator('eval', None, None, 'eval.batch_size', 1, None).describe(9, found)
    assert lines.splitlines()[0].endswith('raw: top-1 50.00 %, per class 66.67 %, loss 0.5000')


def test_videos_that_the_memory_does_not_hold_are_told_before_the_run(monkeypatch):
    """Each evaluation is checked: 30 views of 32 frames in batches of 64, the default one holds."""
    config = prepared.config('image_folder', image_size=224)
    config.evals.views = dict(clips=10, crops=3)
    config.data.frames = 32
    config.eval.batch_size = 64
    monkeypatch.setattr(evaluators, 'find_dataset', lambda data: Videos())
    mesh = types.SimpleNamespace(size=1)
    with pytest.raises(UserError) as error:
        create_evaluators(config, ('eval', 'views'), mesh, None)
    needed = 64 * 30 * 32 * 224**2 * 3 * (config.data.prefetch_batches + 4) / 2**30
    assert str(error.value).startswith(
        f'evals.views: the evaluation needs {needed:.3g} GiB of memory for batches of 64'
    )
    assert 'use a smaller --config.eval.batch_size, fewer --config.evals.views.clips' in str(
        error.value
    )
    config.evals.views.batch_size = 64
    with pytest.raises(UserError, match='use a smaller --config.evals.views.batch_size, fewer'):
        create_evaluators(config, ('views',), mesh, None)
    config.data.host_memory_gib = needed + 1
    assert len(create_evaluators(config, ('eval', 'views'), mesh, None)) == 2


class Videos:
    """A dataset of 64 videos."""

    def split(self, name):
        return types.SimpleNamespace(num_examples=64, name=name)
