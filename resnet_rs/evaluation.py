"""Exact evaluation: every example once, on any number of devices."""

import dataclasses
from collections.abc import Callable, Iterable

import jax
import numpy as np

from resnet_rs.device_batches import DeviceBatches
from resnet_rs.run_log import WEIGHTS
from resnet_rs.sharding import replicated


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Results on one split.

    metrics: {'raw_top1', 'raw_top5', 'raw_loss', 'ema_top1', ...}, fractions and nats.
    examples: how many were counted.
    table: per-example arrays in the order of the split: index, label, and for both weights
      {name}_prediction, {name}_top1, {name}_top5, {name}_loss.
    """

    metrics: dict[str, float]
    examples: int
    table: dict[str, np.ndarray]


def evaluate(
    eval_step: Callable, weights: dict, batches: Iterable, expected: Callable[[], int],
    mesh: jax.sharding.Mesh,
) -> Evaluation:
    """Runs `eval_step(weights, batch)` over all batches and averages over the examples.

    `expected()` is asked after the last batch how many examples there should have been; any
    other number raises RuntimeError. Sums are taken in float64 in the order of the split, so
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
        f'{weight}_{name}': values[order] for weight in WEIGHTS
        for name, values in rows[weight].items()
    }
    metrics = {
        f'{weight}_{name}': float(np.mean(table[f'{weight}_{name}'], dtype=np.float64))
        for weight in WEIGHTS for name in ('top1', 'top5', 'loss')
    }
    return Evaluation(metrics, examples, table)
