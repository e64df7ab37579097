"""Exact evaluation: every example once, on any number of devices; and the files of its results."""

import dataclasses
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable

import jax
import numpy as np
from etils import epath

from resnet_rs.training import WEIGHTS
from resnet_rs.training.device_prefetch import DeviceBatches
from resnet_rs.training.sharding import replicated
from resnet_rs.utils.files import replacing

SCORES = ('top1', 'top5', 'loss')
MEAN_PER_CLASS = 'mean_per_class'
RESULTS_DIRECTORY = 'evaluations'


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Results on one split.

    metrics: {'raw_top1', 'raw_top5', 'raw_loss', 'ema_top1', ...}, fractions and nats; like the
      table without top5 for five classes or fewer; on request with mean_per_class.
    examples: the number of counted examples.
    table: per-example arrays in the order of the split: index, label, and for both weights
      {name}_prediction, {name}_confidence (its probability), {name}_top1, {name}_top5,
      {name}_loss.
    """

    metrics: dict[str, float]
    examples: int
    table: dict[str, np.ndarray]


def evaluate(
    eval_step: Callable,
    weights: dict,
    batches: Iterable,
    expected: Callable[[], int],
    mesh: jax.sharding.Mesh,
) -> Evaluation:
    """Runs `eval_step(weights, batch)` over all batches and averages over the examples.

    After the last batch `expected()` returns the expected number of examples; any other number
    raises RuntimeError. Sums are taken in float64 in the order of the split, so
    they do not depend on the batch size or the number of devices.
    """
    weights = jax.device_put(weights, replicated(mesh))
    with DeviceBatches(batches, mesh) as on_devices:
        results = [eval_step(weights, batch) for batch in on_devices]
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), *jax.device_get(results))
    counted = np.flatnonzero(rows['mask'])
    order = counted[np.argsort(rows['index'][counted], kind='stable')]
    examples, wanted = len(order), expected()
    distinct = len(np.unique(rows['index'][order]))
    if not examples == distinct == wanted:
        raise RuntimeError(
            f'evaluation counted {examples} examples, {distinct} of them distinct, '
            f'instead of {wanted}'
        )
    table = {name: rows[name][order] for name in ('index', 'label')}
    table |= {
        f'{weight}_{name}': values[order]
        for weight in WEIGHTS
        for name, values in rows[weight].items()
    }
    metrics = {
        f'{weight}_{name}': float(np.mean(table[f'{weight}_{name}'], dtype=np.float64))
        for weight in WEIGHTS
        for name in SCORES
        if f'{weight}_{name}' in table
    }
    return Evaluation(metrics, examples, table)


def with_mean_per_class(evaluation: Evaluation) -> Evaluation:
    """Adds the mean over the classes of the top-1 of their examples to the metrics."""
    labels = evaluation.table['label']
    classes = [labels == number for number in np.unique(labels)]
    means = {}
    for weights in WEIGHTS:
        right = evaluation.table[f'{weights}_top1']
        means[f'{weights}_{MEAN_PER_CLASS}'] = float(
            np.mean([right[each].mean() for each in classes])
        )
    return dataclasses.replace(evaluation, metrics=evaluation.metrics | means)


def describe_weights(evaluation: Evaluation) -> dict[str, dict]:
    """Returns {'raw': results, 'ema': results}: the metrics, and the number of right examples."""
    results = {}
    for weights in WEIGHTS:
        scores = {
            name: evaluation.metrics[f'{weights}_{name}']
            for name in (*SCORES, MEAN_PER_CLASS)
            if f'{weights}_{name}' in evaluation.metrics
        }
        right = {
            f'{name}_count': int(evaluation.table[f'{weights}_{name}'].sum())
            for name in scores
            if name in ('top1', 'top5')
        }
        results[weights] = scores | right
    return results


def write_result(workdir: str | os.PathLike, result: dict) -> epath.Path:
    """Writes WORKDIR/evaluations/NAME_SIZE_STEP.json and returns its path.

    `result` has 'image_size', 'step' and the name: 'evaluation', or 'split' in its absence. No file
    is overwritten: another result of the same name, for instance with another crop, gets a number;
    an equal result is not written again.
    """
    directory = epath.Path(workdir) / RESULTS_DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    name = re.sub(r'[^\w.%+-]+', '-', result.get('evaluation', result['split'])).strip('-')
    name = f'{name}_{result["image_size"]}_{result["step"]}'
    text = json.dumps(result, indent=2) + '\n'
    for number in itertools.count(1):
        path = directory / (f'{name}.json' if number == 1 else f'{name}_{number}.json')
        if not path.exists():
            partial = path.with_suffix('.json.partial')
            partial.write_text(text)
            partial.replace(path)
            return path
        if path.read_text() == text:
            return path


def write_predictions(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Writes `evaluation.table` as an .npz file with an array for each column."""
    buffer = io.BytesIO()  # a bucket's files cannot be written to in any order
    np.savez_compressed(buffer, **evaluation.table)
    with replacing(epath.Path(path)) as partial:
        partial.write_bytes(buffer.getvalue())
