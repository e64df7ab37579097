"""Checkpoints: one per step, with the complete state of a run.

WORKDIR/config.json is the resolved configuration; WORKDIR/checkpoints/STEP/ holds three items:
  weights   {'raw': variables, 'ema': variables}, variables = {'params', 'batch_stats'}, float32
  training  step, optimiser state, sums of the current logging window
  run       JSON: elapsed seconds, batch-norm group size
The seed is a setting of the run, so config.json alone holds it (and `run` of older checkpoints).
Converted weights have the first and the last item only, at step 0. Stages are stored unrolled
(models/stacked.py) whatever the network of the run, so model.scan_blocks may change at any time.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence

import flax.struct
import flax.traverse_util
import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers

from resnet_rs.config import DEFAULT_EVALUATION
from resnet_rs.models.stacked import stack_blocks_like, unstack_blocks
from resnet_rs.training.inflation import inflate, is_of_images, plan_inflation
from resnet_rs.training.sharding import replicated, shapes_on
from resnet_rs.training.state import TrainState
from resnet_rs.utils.errors import UserError

BEST_METRIC = 'ema_top1'
NOT_EVALUATED = {BEST_METRIC: -1.0}  # ranks below every accuracy


def score_name(evaluation: str, metric: str = BEST_METRIC) -> str:
    """Returns the name under which checkpoints keep a metric of an evaluation."""
    return metric if evaluation == DEFAULT_EVALUATION else f'{evaluation}/{metric}'


@dataclasses.dataclass(frozen=True)
class RunMetadata:
    """The metadata of a run that a checkpoint holds in addition to its arrays."""

    elapsed_seconds: float
    batch_norm_group_size: int | None


class Checkpoints:
    """The checkpoints of a work directory, written in the background.

    Keeps the newest `keep_last` and the `keep_best` with the highest EMA top-1 in the evaluation
    `best_by`. Use it in a `with` statement, whose end waits for pending writes. With `read_only`
    the directory does not change: the run may be writing to it.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        keep_last: int = 1,
        keep_best: int = 0,
        best_by: str = DEFAULT_EVALUATION,
        *,
        read_only: bool = False,
    ):
        def score(metrics):
            if best_by == DEFAULT_EVALUATION:  # every checkpoint has it
                return metrics[BEST_METRIC]
            return metrics.get(score_name(best_by), NOT_EVALUATED[BEST_METRIC])

        keep = (
            checkpoint_managers.LatestN(keep_last),
            checkpoint_managers.BestN(get_metric_fn=score, n=keep_best),
        )
        path = epath.Path(workdir)
        if not path.is_absolute():  # a bucket's address counts as absolute
            path = epath.Path(os.path.abspath(workdir))
        self.directory = path / 'checkpoints'
        self._score_of = score
        if read_only and not self.directory.exists():
            raise UserError(
                f'no checkpoint in {self.directory}; train first, or name another --workdir'
            )
        self._manager = self._read(
            None,
            ocp.CheckpointManager,
            self.directory,
            # Without orbax's own read_only, which warns of every default that it overrides.
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
                best_fn=score,  # without it the manager does not store the metrics
                create=not read_only,
                cleanup_tmp_directories=not read_only,
            ),
            item_handlers={
                'weights': _array_handler(),
                'training': _array_handler(),
                'run': ocp.JsonCheckpointHandler(),
            },
        )

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def find(self, which: str) -> int:
        """Returns the step of 'last', 'best' or a number; raises UserError if it is absent."""
        steps = self.steps()
        if not steps:
            raise UserError(
                f'no checkpoint in {self.directory}; train first, or name another --workdir'
            )
        if which == 'last':
            return steps[-1]
        if which == 'best':
            scored = {step: self._score(step) for step in steps}
            if max(scored.values()) == NOT_EVALUATED[BEST_METRIC]:
                raise UserError(
                    f'no checkpoint in {self.directory} was evaluated; there are steps {steps}'
                )
            return max(scored, key=lambda step: (scored[step], step))
        if which.isdigit() and int(which) in steps:
            return int(which)
        raise UserError(
            f'no checkpoint {which!r} in {self.directory}; there are "last", "best" '
            f'and steps {steps}'
        )

    def save(
        self, state: TrainState, run: RunMetadata, metrics: dict[str, float] | None = None
    ) -> None:
        """Writes `state` at its step, unless that step exists; returns before the write ends.

        `metrics` are those of evaluations at this very step, by `score_name`.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        state = unstack_blocks(state)
        training = {'step': state.step, 'opt_state': state.opt_state, 'window': state.window}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                weights=ocp.args.PyTreeSave({'raw': state.variables, 'ema': state.ema}),
                training=ocp.args.PyTreeSave(training),
                run=ocp.args.JsonSave(dataclasses.asdict(run)),
            ),
            metrics=NOT_EVALUATED | (metrics or {}),
        )

    def save_weights(self, weights: dict, run: RunMetadata) -> None:
        """Writes {'raw': variables, 'ema': variables} as step 0: weights from elsewhere."""
        self._manager.save(
            0,
            args=ocp.args.Composite(
                weights=ocp.args.PyTreeSave(weights),
                run=ocp.args.JsonSave(dataclasses.asdict(run)),
            ),
            metrics=NOT_EVALUATED,
        )
        self._manager.wait_until_finished()

    def restore(self, step: int, like: TrainState, seed: int) -> tuple[TrainState, RunMetadata]:
        """Returns the state at `step` with the shapes, dtypes and shardings of `like`.

        `like` holds jax.ShapeDtypeStruct leaves; `seed` is config.seed. Raises UserError when the
        weights are those of another architecture.
        """
        stored = unstack_blocks(like)
        weights = {'raw': stored.variables, 'ema': stored.ema}
        self._check_same_shapes(step, weights)
        training = {'step': stored.step, 'opt_state': stored.opt_state, 'window': stored.window}
        restored = self._read(
            step,
            self._manager.restore,
            step,
            args=ocp.args.Composite(
                weights=_restore_arguments(weights),
                training=_restore_arguments(training, whole=True),
                run=ocp.args.JsonRestore(),
            ),
        )
        run = self._read(step, _metadata_of, restored.run)
        state = TrainState(
            seed=jax.device_put(np.int32(seed), like.seed.sharding),
            variables=restored.weights['raw'],
            ema=restored.weights['ema'],
            **restored.training,
        )
        return stack_blocks_like(state, like), run

    def restore_weights(self, step: int, like: dict, names: Sequence[str] = ('raw', 'ema')) -> dict:
        """Reads {name: variables} at `step` for `names`, and no other weights.

        `like` is one set of variables: arrays, or jax.ShapeDtypeStruct with a sharding. Raises
        UserError when the weights are those of another architecture.
        """
        weights = dict.fromkeys(names, unstack_blocks(like))
        self._check_same_shapes(step, weights)
        args = ocp.args.Composite(weights=_restore_arguments(weights))
        restored = self._read(step, self._manager.restore, step, args=args).weights
        return {name: stack_blocks_like(restored[name], like) for name in names}

    def weights_on_host(self, step: int) -> dict:
        """Returns the EMA weights at `step`, of any network, as numpy arrays."""
        stored = dict(self._stored_weights(step, ('ema',))['ema'])
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), stored)
        return self.restore_weights(step, like, ('ema',))['ema']

    def restore_for_fine_tuning(
        self, step: int, variables: dict, columns: Sequence[int] | None
    ) -> dict:
        """Returns the EMA weights at `step` in place of `variables`, arrays with their sharding.

        `columns` are those of the stored head, in the order in which the new one has them; with
        None the head stays the new one of `variables`. A network for clips takes those of one for
        images (training.inflation). Raises UserError where anything else differs.
        """
        stored = self._stored_weights(step, ('ema',))['ema']
        if is_of_images(stored, variables):
            restored = self._inflated(step, stored, variables)
        else:
            like = self._as_stored(step, variables, columns)
            restored = self.restore_weights(step, like, ('ema',))['ema']
        head = variables['params'].get('head', {})
        if columns is not None and (stored := restored['params'].get('head')):
            take = jax.jit(
                lambda leaves: jax.tree.map(lambda leaf: leaf[..., np.array(columns)], leaves),
                out_shardings=jax.tree.map(lambda leaf: leaf.sharding, head),
            )
            head = take(stored)
        return restored | {'params': restored['params'] | {'head': head}} if head else restored

    def check_fine_tuning(self, step: int, variables: dict, columns: Sequence[int] | None) -> None:
        """Raises UserError where `restore_for_fine_tuning` would; reads metadata alone."""
        stored = self._stored_weights(step, ('ema',))['ema']
        if is_of_images(stored, variables):
            plan_inflation(stored, variables)
            return
        expected = unstack_blocks(self._as_stored(step, variables, columns))
        self._check_same_shapes(step, {'ema': expected})

    def _inflated(self, step: int, stored: dict, variables: dict) -> dict:
        """Returns `variables` with the weights `stored`, of a network for images, and its head."""
        inflation = plan_inflation(stored, variables)
        sharding = jax.tree.leaves(variables)[0].sharding
        if isinstance(sharding, jax.sharding.NamedSharding):
            sharding = replicated(sharding.mesh)
        like = shapes_on(dict(stored), sharding)
        restored = self.restore_weights(step, like, ('ema',))['ema']
        logging.info('%s', inflation.describe())
        inflated = inflate(restored, variables, inflation)
        head = restored['params'].get('head', {})
        return inflated | {'params': inflated['params'] | {'head': head}}

    def _stored_head(self, step: int) -> dict:
        return dict(self._stored_weights(step, ('ema',))['ema']['params'].get('head', {}))

    def _as_stored(self, step: int, variables: dict, columns: Sequence[int] | None) -> dict:
        """Returns `variables`, with a head of the stored shape where it will not be used."""
        if columns is not None:
            return variables
        stored, new_head = self._stored_head(step), dict(variables['params'].get('head', {}))
        if _shapes(stored) == _shapes(new_head):
            return variables
        head = jax.tree.map(
            lambda old, new: jax.ShapeDtypeStruct(old.shape, new.dtype, sharding=new.sharding),
            stored,
            new_head,
        )
        return variables | {'params': variables['params'] | {'head': head}}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        """Waits for writes under way, also after an error, and reports any that failed."""
        self._manager.close()

    def _score(self, step: int) -> float:
        """Returns the EMA top-1 of an evaluation at `step`, or -1 if it was not evaluated."""
        return self._read(step, lambda: float(self._score_of(self._manager.metrics(step))))

    def _stored_weights(self, step: int, names: Iterable[str]) -> dict:
        """Returns {name: variables} with the shapes at `step`, for 'raw', 'ema' or both."""

        def read():
            tree = self._manager.item_metadata(step).weights.tree
            tree = {name: tree[name] for name in names}
            for variables in tree.values():
                _shapes(variables['params'])  # raises where they are none
            return tree

        return self._read(step, read)

    def _read(self, step: int | None, function: Callable, *arguments, **settings):
        """Returns what `function` returns; raises UserError where a file cannot be read.

        Orbax and TensorStore raise nearly anything for a damaged file, from KeyError to errors of
        their own. A want of memory says nothing about the file and passes through.
        """
        try:
            return function(*arguments, **settings)
        except (UserError, MemoryError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [''])[0]
            reason = f'{type(error).__name__}: {reason:.300}'
            if step is None:
                raise UserError(
                    f'the checkpoints in {self.directory} cannot be read ({reason}); '
                    'where one is damaged, move it away to use the others'
                ) from error
            raise UserError(
                f'the checkpoint at step {step} in {self.directory} cannot be read ({reason}); '
                f'where it is damaged, move {self.directory / str(step)} away to use an earlier one'
            ) from error

    def _check_same_shapes(self, step: int, expected: dict) -> None:
        stored = flax.traverse_util.flatten_dict(self._stored_weights(step, expected), sep='/')
        wanted = flax.traverse_util.flatten_dict(expected, sep='/')
        where = f'the checkpoint at step {step} in {self.directory}'
        for path in sorted(stored.keys() ^ wanted.keys()):
            has, lacks = ('has', 'the network of this configuration does not')
            if path in wanted:
                has, lacks = ('lacks', 'the network of this configuration has')
            raise UserError(
                f'{where} {has} {path}, which {lacks}: it is of another architecture; use the '
                'config it was trained with'
            )
        for path, leaf in sorted(wanted.items()):
            if tuple(stored[path].shape) != tuple(leaf.shape):
                raise UserError(
                    f'{where} has {path} of shape {tuple(stored[path].shape)}, the network of '
                    f'this configuration {tuple(leaf.shape)}; use the config it was trained with'
                )


def _shapes(tree: dict) -> dict:
    return jax.tree.map(lambda leaf: tuple(leaf.shape), dict(tree))


def _array_handler() -> ocp.PyTreeCheckpointHandler:
    """Returns a handler of arrays that writes small ones whole.

    orbax cuts every replicated array into a slice for each device, to write them in parallel. Most
    arrays of a network are so small that the cutting takes longer than the writing.
    """
    arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=2**20)
    return ocp.PyTreeCheckpointHandler(
        type_handler_registry=ocp.type_handlers.create_type_handler_registry(
            (jax.Array, arrays),
            (np.ndarray, ocp.type_handlers.NumpyHandler()),
            (np.number, ocp.type_handlers.ScalarHandler()),
        )
    )


def _restore_arguments(tree: dict, *, whole: bool = False) -> ocp.args.PyTreeRestore:
    """Returns arguments that read the leaves of `tree`, each with its sharding.

    Others are left out; if `whole`, they are an error.
    """
    return ocp.args.PyTreeRestore(
        item=tree,
        restore_args=ocp.checkpoint_utils.construct_restore_args(tree),
        partial_restore=not whole,
    )


def _metadata_of(stored: dict) -> RunMetadata:
    """Parses the `run` item of a checkpoint; raises TypeError for a damaged one."""
    run = RunMetadata(**{name: value for name, value in stored.items() if name != 'seed'})
    if not isinstance(run.elapsed_seconds, (int, float)) or not run.elapsed_seconds >= 0:
        raise TypeError(f'elapsed_seconds is {run.elapsed_seconds!r}')
    if not isinstance(run.batch_norm_group_size, int | None):
        raise TypeError(f'batch_norm_group_size is {run.batch_norm_group_size!r}')
    return run
