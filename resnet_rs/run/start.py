"""The start of a run in its work directory: new, fine-tuned from another, or resumed."""

import contextlib
import dataclasses
import sys

import jax
import jax.numpy as jnp
import ml_collections
from absl import logging
from etils import epath

from resnet_rs.config.stored import CLASS_NAMES_FILE, write_config
from resnet_rs.datasets.splits import DatasetInfo
from resnet_rs.hub.download import is_hub_name
from resnet_rs.models import count_parameters
from resnet_rs.multihost import consistency, hosts
from resnet_rs.run import preflight, provenance
from resnet_rs.run.checkpoint import Checkpoints, RunMetadata
from resnet_rs.run.lock import RUN_LOCK, locked
from resnet_rs.run.run_log import parameter_table
from resnet_rs.run.source import open_source
from resnet_rs.run.teacher import weights_digest
from resnet_rs.training.sharding import shardings_of
from resnet_rs.training.state import TrainState
from resnet_rs.training.steps import Program
from resnet_rs.utils.errors import UserError, count_of


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """The weights with which a run starts: those of a step in config.init_from.

    step: of the checkpoint there.
    columns, described: those of the HeadTransfer.
    """

    step: int
    columns: tuple[int, ...] | None
    described: str


def lock_workdir(workdir: str, closing: contextlib.ExitStack) -> None:
    """Holds the work directory for this run until `closing` ends; process 0 does it for all.

    Raises UserError on every process when another run holds it.
    """
    problem = ''
    if jax.process_index() == 0:
        try:
            closing.enter_context(locked(workdir, RUN_LOCK))
        except UserError as error:
            problem = str(error)
    consistency.agree('work directory locked', problem)


def start_workdir(config: ml_collections.ConfigDict, workdir: str, info: DatasetInfo) -> None:
    """Writes the resolved configuration and facts of its data, once every check has passed."""
    if jax.process_index() == 0:
        write_config(workdir, config)
        (epath.Path(workdir) / CLASS_NAMES_FILE).write_text('\n'.join(info.class_names) + '\n')
    provenance.write(workdir, preflight.DATA_FILE, preflight.training_data(config, info))
    hosts.barrier('configuration written')


def start_or_resume(
    config: ml_collections.ConfigDict,
    program: Program,
    checkpoints: Checkpoints,
    mesh: jax.sharding.Mesh,
    start: FineTuning | None,
) -> tuple[TrainState, RunMetadata]:
    """Returns the state of the last checkpoint, or a new one.

    `start` says which weights of config.init_from a new one has, where that is set.
    Raises UserError where it is None although config.init_from is set and there is no checkpoint.
    """
    group_size = program.model.architecture.batch_norm_group_size
    steps = checkpoints.steps()
    if not steps:
        if config.init_from and start is None:  # the run would train from random weights
            raise UserError(
                f'{checkpoints.directory} holds something with the name of a step, but no complete '
                f'checkpoint, so that this run would not start from init_from={config.init_from!r};'
                ' remove it, or use a new --workdir'
            )
        state = program.init()
        if start:
            state = fine_tuning_start(config.init_from, state, start)
        logging.info(
            '%s: %s, %s on %s',
            config.model.name,
            count_of(count_parameters(state.variables['params']), 'parameter'),
            count_of(program.total_steps, 'step'),
            count_of(mesh.size, 'device'),
        )
        if jax.process_index() == 0 and not sys.stderr.isatty():  # there it would hide the rest
            logging.info('parameters:\n%s', parameter_table(state.variables['params']))
        return state, RunMetadata(0.0, group_size)

    state, run = checkpoints.restore(steps[-1], program.state, config.seed)
    if steps[-1] == program.total_steps:
        logging.info('the run is finished, after step %d; --mode=eval evaluates it', steps[-1])
    else:
        logging.info('resuming from step %d of %d', steps[-1], program.total_steps)
    if run.batch_norm_group_size != group_size:
        logging.warning(
            'batch norm groups had %s examples and now have %s, because '
            'model.batch_norm_group_size is %d and the number of devices changed; a new run with '
            '--config.model.batch_norm_group_size=%s has the same groups on any number of devices',
            run.batch_norm_group_size,
            group_size,
            config.model.batch_norm_group_size,
            run.batch_norm_group_size,
        )
    return state, dataclasses.replace(run, batch_norm_group_size=group_size)


def check_init_from(
    config: ml_collections.ConfigDict, info: DatasetInfo, workdir: str, program: Program
) -> FineTuning | None:
    """Returns the weights with which this run will start; None as find_head does.

    Raises UserError unless the last checkpoint there fits the network, and where hosts read other
    weights than process 0.
    """
    head = preflight.find_head(config, info, workdir)
    if head is None:
        return None
    with open_source(config.init_from) as source:
        step = source.find('last')
        source.check_fine_tuning(step, program.state.variables, head.columns)
        facts = {'step of init_from': str(step)}
        if is_hub_name(config.init_from):  # a branch may move between the downloads of two hosts
            facts = {'init_from': str(source.directory)}
        elif hosts.count() > 1:  # a local directory, or one that another run still writes
            facts['weights of init_from'] = weights_digest(source.weights_on_host(step))
    provenance.agree('weights', facts)
    return FineTuning(step, head.columns, head.described)


def fine_tuning_start(directory: str, state: TrainState, start: FineTuning) -> TrainState:
    """Returns `state` whose raw and EMA weights are the EMA weights of another directory."""
    with open_source(directory) as source:
        step = source.find(str(start.step))
        variables = source.restore_for_fine_tuning(step, state.variables, start.columns)
    logging.info(
        'starting from the EMA weights of step %d in %s, %s', step, directory, start.described
    )
    ema = jax.device_put(jax.tree.map(jnp.copy, variables), shardings_of(state.ema))
    return state.replace(variables=variables, ema=ema)
