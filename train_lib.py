"""Training and evaluation of one configuration, read from top to bottom."""

import contextlib
import dataclasses
import functools

import jax
import ml_collections
import numpy as np
from absl import logging

import input_pipeline
from resnet_rs.config.clips import example_noun
from resnet_rs.config.durations import to_steps
from resnet_rs.config.evaluations import evaluation_config, evaluation_names
from resnet_rs.config.mixture import images_per_epoch
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.multihost import consistency, hosts
from resnet_rs.plan.attached import compile_evaluators, compile_steps
from resnet_rs.run import data_check, preflight, report
from resnet_rs.run.checkpoint import Checkpoints
from resnet_rs.run.evaluators import create_evaluators
from resnet_rs.run.profiling import Profile
from resnet_rs.run.progress import Progress
from resnet_rs.run.pseudo_labels import check_pseudo_labels, write_pseudo_labels
from resnet_rs.run.pseudo_labels import describe as describe_pseudo_labels
from resnet_rs.run.run_log import RunLog, is_reported
from resnet_rs.run.signals import StopRequest
from resnet_rs.run.start import check_init_from, lock_workdir, start_or_resume, start_workdir
from resnet_rs.run.teacher import load_teacher, place_frozen, write_teacher
from resnet_rs.training.device_prefetch import DeviceBatches
from resnet_rs.training.evaluation import (
    Evaluation,
    evaluate,
    with_mean_per_class,
    write_predictions,
    write_result,
)
from resnet_rs.training.networks import model_of, variable_shapes
from resnet_rs.training.sharding import create_mesh, replicated
from resnet_rs.training.state import TrainState
from resnet_rs.training.steps import (
    create_eval_step,
    create_program,
)
from resnet_rs.training.window import first_nonfinite
from resnet_rs.utils.errors import Stopped, count_of

DATA_CHECK_SECONDS = REPORT_SECONDS = 7 * 24 * 3600.0


def train_and_evaluate(
    config: ml_collections.ConfigDict, workdir: str, profile_steps: tuple[int, int] | None = None
) -> TrainState:
    """Trains `config` in `workdir`, from its last checkpoint if it has one; returns the end state.

    Raises UserError for invalid settings, before anything is compiled or written; Stopped on
    SIGTERM and Ctrl-C, with a checkpoint saved; and FloatingPointError when loss or norms are no
    longer finite, in which case the last checkpoint is from before.
    """
    info = preflight.check_config(config, workdir)
    names = evaluation_names(config)
    check_hosts(config, names)
    examples = images_per_epoch(config, info.split(config.data.train_split).num_examples)
    mesh = create_mesh(slices=config.sharding.slices)
    program = create_program(config, mesh, examples)
    evaluators = create_evaluators(config, names, mesh, program.eval_step, examples)
    input_pipeline.plan_input(config, jax.process_count())
    head = check_init_from(config, info, workdir, program)
    teacher = load_teacher(config, workdir)
    pseudo_labels = check_pseudo_labels(config, workdir)
    profile = Profile(profile_steps, workdir, program.total_steps)
    checkpoint_every, log_every = (
        max(to_steps(every, batch_size=config.batch_size, examples_per_epoch=examples), 1)
        for every in (config.checkpoint.every, config.log.every)
    )

    consistency.check_shared_workdir(workdir)
    if preflight.last_checkpoint(workdir) < program.total_steps:
        logging.info('Compiling the training and the evaluation step')
        program, evaluators, memory = compile_steps(
            config, program, evaluators, list(mesh.devices.flat)
        )
        logging.info('%s', memory)
    evaluation = None
    with contextlib.ExitStack() as held, contextlib.ExitStack() as closing:
        lock_workdir(workdir, held)
        write_teacher(workdir, teacher)
        write_pseudo_labels(workdir, pseudo_labels)
        start_workdir(config, workdir, info)
        checkpoints = closing.enter_context(
            Checkpoints(
                workdir,
                config.checkpoint.keep_last,
                config.checkpoint.keep_best,
                config.checkpoint.best_by,
            )
        )
        state, run = start_or_resume(config, program, checkpoints, mesh, head)
        if config.trainable != 'all':
            logging.info('%s', program.phases.describe(state.variables['params']))
        frozen = place_frozen(program, teacher)
        if teacher:
            logging.info('learning from %s', teacher.described)
        if pseudo_labels:
            logging.info('%s', describe_pseudo_labels(config, info.class_names))
        first_step = int(state.step)
        batches = input_pipeline.train_batches(
            config,
            first_step=first_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        batches = closing.enter_context(DeviceBatches(batches, mesh))
        log = closing.enter_context(RunLog(workdir, config, first_step))
        progress = closing.enter_context(
            Progress(
                program.total_steps,
                first_step,
                config.batch_size,
                mesh.size,
                run.elapsed_seconds,
                shown=jax.process_index() == 0,
            )
        )
        closing.enter_context(profile)
        stop = closing.enter_context(StopRequest())

        for step in range(first_step + 1, program.total_steps + 1):
            profile.before(step, state)
            with progress.waiting_for_input():
                batch = next(batches)
            with jax.transfer_guard('disallow'):  # an implicit transfer would stall the devices
                state, metrics = program.train_step(state, batch, frozen)
            profile.after(step, state)
            progress.advance(metrics['loss'])
            if frozen and step == first_step + 1:
                check_finite(state, workdir)  # a bad teacher is bad at once

            is_last = step == program.total_steps
            stopping = stop.reached(step) and not is_last
            scores = {}
            if step % log_every == 0 or is_last:
                metrics = jax.device_get(metrics)
                check_finite(state, workdir)
                times = progress.close_window(step, metrics)
                times['skipped_images'] = batches.corrupt_images
                log.write(step, 'train', metrics, times)
            for evaluator in evaluators:
                if step % evaluator.every and not is_last:
                    continue
                with progress.paused('evaluating'):
                    weights = {'raw': state.variables, 'ema': state.ema}
                    found = evaluate_split(evaluator.config, evaluator.step, weights, mesh)
                times = {'elapsed_seconds': progress.elapsed_seconds}
                log.write(step, evaluator.kind, found.metrics, times)
                progress.note(evaluator.describe(step, found))
                scores |= evaluator.scores(found)
                evaluation = found if evaluator.is_default else evaluation
            if step % checkpoint_every == 0 or scores or stopping:
                check_finite(state, workdir)
                with progress.paused('saving'):
                    run = dataclasses.replace(run, elapsed_seconds=progress.elapsed_seconds)
                    checkpoints.save(state, run, scores)
            if stopping:
                raise Stopped(
                    f'after step {step} of {program.total_steps}, saved; the same command resumes',
                    stop.status,
                )

        closing.close()
        if evaluation is None and not is_reported(workdir):  # killed after the last checkpoint
            weights = {'raw': state.variables, 'ema': state.ema}
            evaluation = evaluate_split(evaluators[0].config, evaluators[0].step, weights, mesh)
        if evaluation and jax.process_index() == 0:
            own_share = evaluators[0].config.eval.batch_size // jax.process_count()
            eval_batches = functools.partial(input_pipeline.eval_batches, batch_size=own_share)
            written = report.write(workdir, config, evaluation, info.class_names, eval_batches)
            logging.info('wrote %s in %s', ', '.join(path.name for path in written), workdir)
        hosts.barrier('report written', timeout_seconds=REPORT_SECONDS)
    return state


def evaluate_checkpoint(
    config: ml_collections.ConfigDict,
    workdir: str,
    checkpoint: str = 'last',
    predictions: str = '',
    only: str = '',
) -> dict:
    """Evaluates a checkpoint of `workdir`, 'last', 'best' or a step.

    All evaluations of `config` are made, or the one `only`. Returns the result, or {name: result}
    of several; each is also written to WORKDIR/evaluations. `predictions` names a file for the
    results of every image in the first of them, with the columns of predictions.npz. Raises
    UserError for a missing checkpoint or one of another architecture.
    """
    preflight.check_evaluation(config, workdir, only)
    names = evaluation_names(config, only)
    check_hosts(config, names)
    mesh = create_mesh(slices=config.sharding.slices)
    model = model_of(config, batch_norm_group_size=None)
    eval_step = create_eval_step(config, model, mesh)
    evaluators = create_evaluators(config, names, mesh, eval_step)
    shapes = variable_shapes(model, replicated(mesh))
    best_by = config.checkpoint.best_by
    with Checkpoints(workdir, best_by=best_by, read_only=True) as checkpoints:
        step = checkpoints.find(checkpoint)
        evaluators, memory = compile_evaluators(evaluators, shapes, list(mesh.devices.flat))
        logging.info('%s', memory)
        weights = checkpoints.restore_weights(step, shapes)
        path = checkpoints.directory / str(step)
    results = {}
    for evaluator in evaluators:
        evaluation = evaluate_split(evaluator.config, evaluator.step, weights, mesh)
        result = results[evaluator.name] = evaluator.result(evaluation, str(path), step)
        if jax.process_index() == 0:
            if predictions and len(results) == 1:
                write_predictions(predictions, evaluation)
            keep_result(workdir, result)
    return results if len(results) > 1 else result


def keep_result(workdir: str, result: dict) -> None:
    try:
        logging.info('wrote %s', write_result(workdir, result))
    except OSError as error:  # the run may be another person's
        logging.warning('the result is not kept in %s: %s', workdir, error)


def check_hosts(config: ml_collections.ConfigDict, names: tuple[str, ...]) -> None:
    """Raises UserError unless all hosts have the same code, configuration and data."""
    for name in names:
        of_this = evaluation_config(config, name)
        consistency.check_hosts(of_this, find_dataset(of_this.data))


def evaluate_split(
    config: ml_collections.ConfigDict, eval_step, weights: dict, mesh: jax.sharding.Mesh
) -> Evaluation:
    """Returns exact results of {'raw': variables, 'ema': variables} on data.eval_split."""
    batches = input_pipeline.eval_batches(
        config, process_index=jax.process_index(), process_count=jax.process_count()
    )

    def expected():
        left_out = batches.corrupt_images + batches.unlabelled_images
        skipped = hosts.gather('images left out of the evaluation', str(left_out))
        return batches.num_examples - sum(map(int, skipped))

    found = evaluate(eval_step, weights, batches, expected, mesh)
    return with_mean_per_class(found) if config.eval.mean_per_class else found


def check_finite(state: TrainState, workdir: str) -> None:
    """Raises FloatingPointError naming the first step whose loss or norms were not finite."""
    window = jax.device_get(state.window)
    found = first_nonfinite(window)
    if found is None:
        return
    step, numbers = found
    if not np.isfinite(window.get('teacher_entropy', 0)):
        raise FloatingPointError(
            f"the teacher's logits are not finite at step {step}; check its weights, its input "
            '(--config.distillation.image_size) and its dtype (--config.distillation.dtype)'
        )
    numbers = ', '.join(f'{name.replace("_", " ")} {value}' for name, value in numbers.items())
    raise FloatingPointError(
        f'not finite at step {step}: {numbers}; the last good checkpoint is in {workdir}. A '
        'smaller --config.optimizer.learning_rate or a --config.optimizer.gradient_clip_norm may '
        'help'
    )


def check(config: ml_collections.ConfigDict, workdir: str) -> str:
    """Reports that this run can start here, and its main figures; raises UserError if it cannot.

    Pictures of what the network sees are written into WORKDIR/check.
    """
    info = preflight.check_config(config, workdir)
    names = evaluation_names(config)
    check_hosts(config, names)
    consistency.check_shared_workdir(workdir)
    mesh = create_mesh(slices=config.sharding.slices)
    split = info.split(config.data.train_split)
    per_epoch = images_per_epoch(config, split.num_examples)
    program = create_program(config, mesh, per_epoch)
    evaluators = create_evaluators(config, names, mesh, program.eval_step)
    input_pipeline.plan_input(config, jax.process_count())
    lines = (
        data_check.check_data(
            config, workdir, input_pipeline.train_batches, input_pipeline.eval_batches
        )
        if jax.process_index() == 0
        else []
    )
    # The others wait for as long as reading takes; a lost process is noticed apart from this.
    hosts.barrier('data checked', timeout_seconds=DATA_CHECK_SECONDS)
    if head := check_init_from(config, info, workdir, program):
        lines.append(f'starts from the EMA weights in {config.init_from}, {head.described}')
    if config.trainable != 'all':
        lines.append(program.phases.describe(program.state.variables['params']))
    if teacher := load_teacher(config, workdir):
        lines.append(f'learns from {teacher.described}')
    if check_pseudo_labels(config, workdir):
        lines.append(describe_pseudo_labels(config, info.class_names))
    lines.append(compile_steps(config, program, evaluators, list(mesh.devices.flat))[-1])
    noun = example_noun(config)
    images = count_of(config.batch_size, noun)
    epochs = count_of(program.total_steps * config.batch_size / per_epoch, 'epoch')
    trained = count_of(split.num_examples, f'training {split.noun}')
    evaluated = count_of(evaluators[0].split.num_examples, f'evaluation {split.noun}')
    steps = count_of(program.total_steps, 'step')
    lines.append(
        f'ready: {config.model.name} on {mesh.size} x {jax.devices()[0].device_kind}, {steps} of '
        f'{images} or {epochs}, {trained} and {evaluated} of {info.name}'
    )
    return '\n'.join(lines)
