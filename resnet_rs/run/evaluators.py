"""The evaluations of a run, ready to be compiled and called."""

import dataclasses
from collections.abc import Callable

import jax
import ml_collections
from absl import logging

from resnet_rs.config import DEFAULT_EVALUATION
from resnet_rs.config.durations import to_steps
from resnet_rs.config.evaluations import deciding_setting, evaluation_config
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.memory import check_evaluation
from resnet_rs.datasets.splits import DatasetInfo, SplitInfo
from resnet_rs.run.checkpoint import score_name
from resnet_rs.run.preflight import naming_evaluation
from resnet_rs.training import WEIGHTS
from resnet_rs.training.evaluation import MEAN_PER_CLASS, Evaluation, describe_weights
from resnet_rs.training.sharding import check_divides
from resnet_rs.training.steps import batch_shapes
from resnet_rs.utils.errors import count_of


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """One of the evaluations of a run.

    Attributes:
      name: 'eval' for the default one, or that in config.evals.
      config: the configuration of a run whose default evaluation this one is.
      info: the description of its dataset.
      batch_size_setting: the setting that its batch size comes from.
      every: steps from one to the next.
      step: the evaluation step (training.steps.create_eval_step), compiled or not.
    """

    name: str
    config: ml_collections.ConfigDict
    info: DatasetInfo
    batch_size_setting: str
    every: int
    step: Callable

    @property
    def is_default(self) -> bool:
        return self.name == DEFAULT_EVALUATION

    @property
    def kind(self) -> str:
        """Returns the kind of its lines in metrics.jsonl, and how its TensorBoard tags begin."""
        return self.name if self.is_default else f'{DEFAULT_EVALUATION}/{self.name}'

    @property
    def split(self) -> SplitInfo:
        return self.info.split(self.config.data.eval_split)

    @property
    def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        return batch_shapes(
            self.config, DEFAULT_EVALUATION, label_sets=bool(self.split.label_set_feature)
        )

    def scores(self, evaluation: Evaluation) -> dict[str, float]:
        """Returns the metrics by the names that they have in checkpoints."""
        return {score_name(self.name, name): value for name, value in evaluation.metrics.items()}

    def describe(self, step: int, evaluation: Evaluation) -> str:
        """Returns a line for each of the weights on the results after a training step."""
        name = '' if self.is_default else f'{self.name}, '
        start = f'step {step}, {name}{count_of(evaluation.examples, "image")}'

        def line(weights):
            top1, top5, loss = (
                evaluation.metrics.get(f'{weights}_{name}') for name in ('top1', 'top5', 'loss')
            )
            more = '' if top5 is None else f'top-5 {100 * top5:.2f} %, '
            if mean := evaluation.metrics.get(f'{weights}_{MEAN_PER_CLASS}'):
                more = f'per class {100 * mean:.2f} %, '  # in place of the top-5: 80 columns
            return f'{start}, {weights}: top-1 {100 * top1:.2f} %, {more}loss {loss:.4f}'

        return '\n'.join(map(line, WEIGHTS))

    def result(self, evaluation: Evaluation, checkpoint: str, step: int) -> dict:
        """Returns what WORKDIR/evaluations keeps of the results of a checkpoint."""
        name = {} if self.is_default else {'evaluation': self.name}
        return name | {
            'checkpoint': checkpoint,
            'step': step,
            'data': self.info.name,
            'split': self.config.data.eval_split,
            'image_size': self.config.eval.image_size or self.config.data.image_size,
            'crop': self.config.data.eval_crop,
            'examples': evaluation.examples,
            'left_out': self.split.num_examples - evaluation.examples,
            'weights': describe_weights(evaluation),
        }


def create_evaluators(
    config: ml_collections.ConfigDict,
    names: tuple[str, ...],
    mesh: jax.sharding.Mesh,
    step: Callable,
    examples_per_epoch: int = 1,
) -> list[Evaluator]:
    """Returns the evaluations `names` of `config`, which preflight.check_evaluations accepts.

    `step` is the evaluation step, the same for all; `examples_per_epoch` of training says when
    they are due. Raises UserError for a batch that does not divide over the mesh, and for one of
    videos that the host memory does not hold.
    """
    evaluators = []
    for name in names:
        of_this = evaluation_config(config, name)
        info = find_dataset(of_this.data)
        of_this = with_smaller_eval_batch(of_this, info, mesh)
        setting = deciding_setting(config, name, 'batch_size')
        devices = count_of(mesh.size, 'device')
        check_divides(setting, of_this.eval.batch_size, mesh.size, devices)
        with naming_evaluation(name):
            size = of_this.eval.image_size or of_this.data.image_size
            check_evaluation(
                of_this,
                of_this.eval.batch_size // jax.process_count(),
                size,
                setting,
                deciding_setting(config, name, 'clips'),
            )
        every = to_steps(
            of_this.eval.every,
            batch_size=config.batch_size,
            examples_per_epoch=examples_per_epoch,
        )
        evaluators.append(Evaluator(name, of_this, info, setting, max(every, 1), step))
    return evaluators


def with_smaller_eval_batch(
    config: ml_collections.ConfigDict, info: DatasetInfo, mesh: jax.sharding.Mesh
) -> ml_collections.ConfigDict:
    """Returns `config` with an eval.batch_size of at most the examples of data.eval_split."""
    examples = info.split(config.data.eval_split).num_examples
    whole_split = -(-examples // mesh.size) * mesh.size
    if config.eval.batch_size <= whole_split:
        return config
    logging.info(
        'Evaluation takes %s of %s in one batch, fewer than eval.batch_size=%d',
        count_of(examples, 'image'),
        config.data.eval_split,
        config.eval.batch_size,
    )
    smaller = config.copy_and_resolve_references().unlock()
    smaller.eval.batch_size = whole_split
    return smaller.lock()
