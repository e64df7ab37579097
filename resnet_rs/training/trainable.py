"""The parameters that learn in each phase of a run; all others are frozen (config.trainable).

The step differentiates with respect to the parameters of a phase alone, so the backward pass ends
at the first module that learns. A frozen module, of which no parameter learns, runs as in
evaluation: with its stored statistics and without stochastic depth. A new phase starts with a new
state of the optimiser.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from resnet_rs.config.durations import to_steps
from resnet_rs.config.trainable import FROM_STAGE, STAGE, covers, phases_of
from resnet_rs.models.registry import count_parameters
from resnet_rs.models.stacked import FIRST_STACKED, STACKED
from resnet_rs.training.state import TrainState
from resnet_rs.utils.errors import UserError, count_of

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Phase:
    """The part of a run in which the same parameters learn.

    which: the parameters in the notation of config.trainable.
    learning: the paths of the parameters that learn.
    frozen_modules: the paths of the modules that run as in evaluation.
    end: the number of updates after which the next phase begins; None for the last phase.
    """

    which: str
    learning: frozenset[Path]
    frozen_modules: frozenset[Path]
    end: int | None


@dataclasses.dataclass(frozen=True)
class Phases:
    """The phases of a run, one after the other."""

    phases: tuple[Phase, ...]

    @property
    def learning(self) -> frozenset[Path]:
        """Paths of the parameters that learn in any phase; the optimiser has state for these."""
        return frozenset().union(*(phase.learning for phase in self.phases))

    def gradients(self, functions: Sequence[Callable], state: TrainState, batch, frozen):
        """Returns what the function of the current phase returns, with zeros for the parameters
        that learn in another one.

        `functions` are those of `gradients.create_gradients` for each phase.
        """
        if len(functions) == 1:
            return functions[0](state, batch, frozen)
        zeros = jax.tree.map(jnp.zeros_like, select(state.variables['params'], self.learning))

        def padded(function):
            def gradients(*arguments):
                found, *others = function(*arguments)
                return merge(zeros, found), *others

            return gradients

        branches = [padded(function) for function in functions]
        return jax.lax.switch(self._number(state.step), branches, state, batch, frozen)

    def update(
        self, optimizer: optax.GradientTransformation, gradients, state: TrainState, params: dict
    ) -> tuple[dict, tuple]:
        """Returns the updates of `params`, which learn in any phase, and the new optimiser state.

        A frozen parameter has the update zero and keeps its part of the optimiser state.
        """
        if len(self.phases) == 1:
            return optimizer.update(gradients, state.opt_state, params)
        starts = sum(state.step == phase.end for phase in self.phases[:-1]) > 0
        old = _restarted(starts, state.opt_state, optimizer.init(params))
        updates, new = optimizer.update(gradients, old, params)
        zeros = jax.tree.map(jnp.zeros_like, updates)
        return self._learning_now(state.step, zeros, updates), self._learning_now(
            state.step, old, new
        )

    def _learning_now(self, step, old, new):
        """Returns `new`, with the leaves of `old` for parameters that do not learn now.

        Both are trees of parameters or optimiser states; the names in the path of a leaf are those
        of its parameter, and a leaf of no parameter is new.
        """

        def chosen(path, before, after):
            name = tuple(key.key for key in path if isinstance(key, jax.tree_util.DictKey))
            if not name:
                return after
            learns = jnp.asarray([name in phase.learning for phase in self.phases])
            return jnp.where(learns[self._number(step)], after, before)

        return jax.tree_util.tree_map_with_path(chosen, old, new)

    def describe(self, params: dict) -> str:
        """Describes the parameters that learn, for the log."""
        total, parts = count_parameters(params), []
        for phase in self.phases:
            count = count_parameters(select(params, phase.learning))
            until = '' if phase.end is None else f' until step {phase.end:,}'
            frozen = sorted({path[0] for path in phase.frozen_modules if len(path) == 1})
            frozen = f'; frozen: {", ".join(frozen)}' if frozen else ''
            parts.append(f'{phase.which}, {count:,} of {total:,} parameters{until}{frozen}')
        return 'trainable: ' + ', then '.join(parts)

    def _number(self, step):
        return sum((step >= phase.end).astype(jnp.int32) for phase in self.phases[:-1])


def create_phases(
    config: ml_collections.ConfigDict, params: dict, total_steps: int, examples_per_epoch: int
) -> Phases:
    """Returns the phases of config.trainable for `params`, arrays or shapes.

    Raises UserError where a phase covers no parameter, separates what model.scan_blocks joins, or
    ends before it begins or after the run.
    """
    phases, begin = [], 0
    for which, duration in phases_of(config.trainable):
        learning = _covered(which, params)
        frozen = () if config.frozen_statistics == 'batch' else _modules_without(learning, params)
        end = None
        if duration:
            end = to_steps(
                duration, batch_size=config.batch_size, examples_per_epoch=examples_per_epoch
            )
            if not begin < end < total_steps:
                raise UserError(
                    f'trainable is {config.trainable!r}, but {which!r} would end after step {end} '
                    f'and begins after step {begin} of the {count_of(total_steps, "step")} of this '
                    'run; use increasing durations in --config.trainable or a longer '
                    '--config.duration'
                )
            begin = end
        phases.append(Phase(which, learning, frozenset(frozen), end))
    return Phases(tuple(phases))


def select(tree: dict, paths: frozenset[Path]) -> dict:
    """Returns the nested dictionary `tree` with the leaves at `paths` alone."""
    return unflatten_dict(
        {path: leaf for path, leaf in flatten_dict(tree).items() if path in paths}
    )


def merge(tree: dict, part: dict) -> dict:
    """Returns `tree` with the leaves of `part` in place of its own."""
    return unflatten_dict(flatten_dict(tree) | flatten_dict(part))


def keep_statistics(old: dict, new: dict, phase: Phase) -> dict:
    """Returns the batch statistics `new`, with the very arrays of `old` in frozen modules.

    A mean over micro-batches of equal arrays may differ from them in the last bit.
    """
    old = flatten_dict(old)
    return unflatten_dict(
        {
            path: old[path] if path[:-1] in phase.frozen_modules else leaf
            for path, leaf in flatten_dict(new).items()
        }
    )


def running_frozen_modules_in_evaluation(phase: Phase):
    """Returns a context in which the frozen modules of a network are called with train=False."""
    if not phase.frozen_modules:
        return contextlib.nullcontext()

    def interceptor(call, arguments, settings, context):
        method = getattr(context.module, context.method_name, None)  # None for a loop's body
        if method and context.module.path in phase.frozen_modules:
            signature = inspect.signature(method)
            if 'train' in signature.parameters:
                bound = signature.bind(*arguments, **settings)
                bound.arguments['train'] = False
                arguments, settings = bound.args, bound.kwargs
        return call(*arguments, **settings)

    return nn.intercept_methods(interceptor)


def _restarted(starts: jax.Array, opt_state, new_state):
    """Returns `opt_state`, or `new_state` where a phase `starts`.

    The count that the schedule of the learning rate reads continues.
    """

    def is_count(part):
        return isinstance(part, optax.ScaleByScheduleState)

    def chosen(old, new):
        if is_count(old):
            return old
        return jax.tree.map(lambda o, n: jnp.where(starts, n, o), old, new)

    return jax.tree.map(chosen, opt_state, new_state, is_leaf=is_count)


def _covered(which: str, params: dict) -> frozenset[Path]:
    """Returns the paths of the parameters that `which` covers."""
    learning = set()
    for path, leaf in flatten_dict(params).items():
        covered = {covers(which, '/'.join(each)) for each in _unrolled(path, leaf)}
        if covered == {True, False}:
            raise UserError(_separates(which, path))
        if covered == {True}:
            learning.add(path)
    first = FROM_STAGE.fullmatch(which)
    if not learning or (first and f'stage{int(first[1])}' not in params):
        names = ', '.join(sorted(params))
        stages = sorted(int(found[1]) for name in params if (found := STAGE.fullmatch(name)))
        has = f'stages {stages[0]} to {stages[-1]}' if first else names
        raise UserError(
            f'trainable is {which!r}, which matches no parameter; the network has {has}, and names '
            f'such as {"/".join(min(flatten_dict(params)))}'
        )
    return frozenset(learning)


def _unrolled(path: Path, leaf) -> list[Path]:
    """Returns the path of a parameter in each block of a stacked stage, else the path itself."""
    if STACKED not in path:
        return [path]
    place = path.index(STACKED)
    # With the first block: an optimiser state of the other blocks alone could not be unrolled.
    names = [f'block{number}' for number in range(1, FIRST_STACKED + leaf.shape[0])]
    return [(*path[:place], name, *path[place + 1 :]) for name in names]


def _separates(which: str, path: Path) -> str:
    return (
        f'trainable is {which!r}, which separates blocks of {path[0]} that model.scan_blocks '
        'joins; use --config.model.scan_blocks=False'
    )


def _modules_without(learning: frozenset[Path], params: dict) -> set[Path]:
    """Returns the paths of the modules with parameters of which none learns."""

    def modules(paths):
        return {path[:length] for path in paths for length in range(1, len(path))}

    return modules(flatten_dict(params)) - modules(learning)
