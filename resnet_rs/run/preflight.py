"""Checks of a run that import neither JAX nor TensorFlow and write nothing."""

import contextlib
import os
import pathlib
import shlex
import tempfile
from collections.abc import Iterator

import ml_collections
from absl import logging
from etils import epath

from resnet_rs.config import (
    DEFAULT_EVALUATION,
    SETTINGS,
    flatten,
    is_of_evaluation,
    may_change_on_resume,
    mixture,
)
from resnet_rs.config.durations import to_steps
from resnet_rs.config.evaluations import evaluation_config, evaluation_names
from resnet_rs.config.stored import (
    CONFIG_FILE,
    read_class_names,
    read_config,
    stored_config_of,
)
from resnet_rs.config.validation import check_settings
from resnet_rs.datasets.file_cache import check_cache
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.pseudo_labels import PseudoLabels
from resnet_rs.datasets.sources import sources_of
from resnet_rs.datasets.splits import DatasetInfo
from resnet_rs.hub.download import is_hub_name
from resnet_rs.hub.timm_repository import find_source_config
from resnet_rs.run.class_names import (
    check_class_count,
    check_class_order,
    check_same_classes,
    stored_class_names,
)
from resnet_rs.run.run_log import is_reported
from resnet_rs.training.transfer import HeadTransfer, transfer_head
from resnet_rs.utils.errors import UserError, count_of
from resnet_rs.utils.files import read_json

STEPS_PER_EPOCH = 20
DATA_FILE = 'data.json'
COMMIT_FILE = 'commit_success.txt'  # orbax's name


def check_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> DatasetInfo:
    """Raises UserError for any error that would stop this run later; returns the dataset."""
    info = check_own_settings(config)
    check_pseudo_labels(config, info)
    find_head(config, info, workdir)
    check_teacher(config, info)
    check_workdir(config, workdir)
    check_training_data(config, info, workdir)
    return info


def check_own_settings(config: ml_collections.ConfigDict) -> DatasetInfo:
    """Raises UserError for any error that shows without weights and labels of other runs."""
    info = check_dataset(config)
    if info.num_classes != config.model.num_classes:
        raise UserError(
            f'model.num_classes is {config.model.num_classes}, but {info.name} has '
            f'{count_of(info.num_classes, "class")}; use '
            f'--config.model.num_classes={info.num_classes}'
        )
    split = info.split(config.data.train_split)
    if split.label_set_feature:
        raise UserError(
            f'{info.name} has sets of labels ({split.label_set_feature}): it is for evaluation '
            'only; train on another set with --config.data.name'
        )
    check_durations(config, mixture.images_per_epoch(config, split.num_examples))
    check_cache(info, config.data)
    check_evaluations(config, info)
    return info


def with_sizes_of_data(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns `config` with the sizes that depend on the data.

    model.num_classes = 0 becomes the dataset's number of classes; batch_size = 0 the largest power
    of two from 8 to 256 with at least STEPS_PER_EPOCH steps per epoch. Raises UserError if the
    dataset does not exist.
    """
    if config.model.num_classes and config.batch_size:
        return config
    info = check_dataset(config)
    sized = config.copy_and_resolve_references().unlock()
    if not sized.model.num_classes:
        sized.model.num_classes = info.num_classes
    if not sized.batch_size:
        examples = info.split(config.data.train_split).num_examples
        power = max(examples // STEPS_PER_EPOCH, 1).bit_length() - 1
        sized.batch_size = min(max(2**power, 8), 256)
        logging.info(
            'batch_size is %d, for %s', sized.batch_size, count_of(examples, 'training image')
        )
    return sized.lock()


def find_head(
    config: ml_collections.ConfigDict, info: DatasetInfo, workdir: str | os.PathLike
) -> HeadTransfer | None:
    """Returns the part of the classifier in config.init_from that this run starts with.

    The result is None for a run that starts from new weights or resumes its own. Raises UserError
    if config.init_from holds no network.
    """
    if not config.init_from or has_checkpoint(workdir):
        return None
    stored = find_source_config(config.init_from)
    if stored is None:
        raise UserError(
            f'init_from is {config.init_from!r}, which holds no {CONFIG_FILE}; name the work '
            'directory of a run or of converted weights with --config.init_from'
        )
    number = stored.model.num_classes
    return transfer_head(
        stored_class_names(config.init_from, number),
        number,
        info.class_names,
        same_dataset=_dataset_of(stored) == _dataset_of(config),
    )


def check_teacher(config: ml_collections.ConfigDict, info: DatasetInfo) -> None:
    """Raises UserError unless the teacher, if any, has a checkpoint and fits the data.

    It must be a network for images, of the classes of `info`.
    """
    directory = config.distillation.teacher
    if not directory:
        return
    stored = find_source_config(directory)
    if stored is None or not (is_hub_name(directory) or has_checkpoint(directory)):
        lacks = 'checkpoint' if stored else CONFIG_FILE
        raise UserError(
            f'distillation.teacher is {directory!r}, which holds no {lacks}; name the work '
            'directory of a run or of converted weights with --config.distillation.teacher'
        )
    if stored.data.frames > 1:
        raise UserError(
            f'distillation.teacher is {directory!r}, with {stored.model.name} for clips of '
            f'{stored.data.frames} frames, but distillation takes images; name the work directory '
            'of a network for images with --config.distillation.teacher'
        )
    number = stored.model.num_classes
    if number != info.num_classes:
        raise UserError(
            f'the teacher in {directory} has {count_of(number, "class")}, but {info.name} has '
            f'{info.num_classes}; use a teacher of the same classes'
        )
    check_same_classes(
        info,
        stored_class_names(directory, number),
        f'the teacher in {directory}',
        remedy='use a teacher of the same classes',
        consequence='the teacher would teach wrong classes',
    )


def check_pseudo_labels(config: ml_collections.ConfigDict, info: DatasetInfo) -> None:
    """Raises UserError unless the pseudo-labels, if any, are of images that this run can read.

    They must be of the classes of `info`.
    """
    if not mixture.has_pseudo_labels(config):
        return
    file = config.pseudo_labels.file
    described = PseudoLabels.read(file).description
    if described.num_classes != info.num_classes:
        raise UserError(
            f'the pseudo-labels in {file} are of {count_of(described.num_classes, "class")}, but '
            f'{info.name} has {info.num_classes}; use a teacher of the same classes'
        )
    check_same_classes(
        info,
        described.class_names,
        f'the teacher of {file}',
        remedy='use a teacher of the same classes',
        consequence='the pseudo-labels would be of wrong classes',
    )
    data = sources_of(config)[1].config.data
    check_cache(find_dataset(data), data)


def _dataset_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Returns the identity of a dataset and its label: its name, or the path of a folder."""
    data = config.data
    if data.source != 'tfds':
        return data.source, os.path.abspath(data.data_dir)
    return data.source, data.name.partition(':')[0], data.label  # without the version


def check_durations(config: ml_collections.ConfigDict, examples: int) -> None:
    """Raises UserError if training is shorter than a step or a batch is larger than an epoch."""
    distinct = config.batch_size // config.data.repeated_augmentation
    if distinct > examples and not config.data.allow_batch_beyond_epoch:
        raise UserError(
            f'batch_size is {config.batch_size}, but {config.data.train_split} has '
            f'{count_of(examples, "image")}, so that a step would be {distinct / examples:.3g} '
            'epochs; use a smaller --config.batch_size, or allow it with '
            '--config.data.allow_batch_beyond_epoch'
        )
    lengths = dict(batch_size=config.batch_size, examples_per_epoch=examples)
    steps = to_steps(config.duration, **lengths)
    if steps < 1:
        raise UserError(
            f'duration is {config.duration!r}, less than one step of '
            f'{count_of(config.batch_size, "image")}; use a longer --config.duration or a smaller '
            '--config.batch_size'
        )


def check_dataset(config: ml_collections.ConfigDict) -> DatasetInfo:
    """Raises UserError unless the settings are valid and the dataset has data.eval_split."""
    check_settings(config)
    info = find_dataset(config.data)
    info.split(config.data.eval_split)
    return info


def check_evaluations(config: ml_collections.ConfigDict, info: DatasetInfo) -> None:
    """Raises UserError unless each evaluation in config.evals has data of the classes of `info`."""
    for name in evaluation_names(config)[1:]:
        with naming_evaluation(name):
            of_this = evaluation_config(config, name)
            found = check_dataset(of_this)
            check_cache(found, of_this.data)
            check_same_classes(found, info.class_names, info.name)
            check_class_count(found, info.num_classes, info.name)


def check_evaluation(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike, only: str = ''
) -> None:
    """Raises UserError unless the network in `workdir` can be evaluated on the data of `config`.

    `only` is the one evaluation that is made, empty for all.
    """
    stored = stored_config_of(workdir)
    check_settings(config)
    for name in evaluation_names(config, only):
        with naming_evaluation(name):
            info = check_dataset(evaluation_config(config, name))
            check_class_order(info, workdir)
            check_class_count(info, stored.model.num_classes, f'the network in {workdir}')


@contextlib.contextmanager
def naming_evaluation(name: str) -> Iterator[None]:
    """Puts the name of an evaluation of config.evals before a UserError."""
    try:
        yield
    except UserError as error:
        if name == DEFAULT_EVALUATION:
            raise
        raise UserError(f'evals.{name}: {error}') from error


def check_workdir(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> None:
    """Raises UserError unless this run can start or resume in `workdir`; writes nothing.

    The configuration of a run is fixed from its first checkpoint on, and the settings of its
    evaluation from its end on.
    """
    directory = epath.Path(workdir)
    stored = read_config(directory) if has_checkpoint(directory) else None
    if stored is not None:
        here, there = flatten(config.to_dict()), flatten(stored.to_dict())
        for name in sorted(here.keys() | there.keys()):
            if here.get(name) == there.get(name):
                continue
            trains_on_it = name == 'data.eval_crop' and config.data.train_crop == 'evaluation'
            if trains_on_it or not may_change_on_resume(name):
                raise UserError(_refusal(directory, name, there.get(name)))
            if is_of_evaluation(name) and is_reported(directory):
                raise UserError(
                    f'the finished run in {directory} was evaluated with '
                    f'{name}={there.get(name)!r}; evaluate it with another value by --mode=eval, '
                    f'or use {shlex.quote(f"--config.{name}={there.get(name)}")}'
                )
    if '://' in os.fspath(workdir):
        return  # only a write shows the permissions of a bucket
    existing = pathlib.Path(workdir).absolute()
    try:
        while not existing.exists():  # raises for a directory that this user may not enter
            existing = existing.parent
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise UserError(
            f'--workdir={directory} cannot be written ({error.strerror}); name another'
        ) from error


def check_training_data(
    config: ml_collections.ConfigDict, info: DatasetInfo, workdir: str | os.PathLike
) -> None:
    """Raises UserError where the classes or training images of a run that resumes have changed."""
    if not has_checkpoint(workdir):
        return
    check_same_classes(
        info,
        read_class_names(workdir),
        f'the run in {workdir}',
        remedy='restore the classes, or use a new --workdir',
        consequence='the network would learn wrong labels',
    )
    path = epath.Path(workdir) / DATA_FILE
    if not path.exists():
        return
    restore = 'restore it, or use a new --workdir'
    before = read_json(path, restore)
    if not isinstance(before, dict):
        raise UserError(f'{path} is damaged: it holds no object; {restore}')
    for name, value in training_data(config, info).items():
        if before.get(name) != value:
            raise UserError(
                f'{info.name} has {value} {name.replace("_", " ")}, but the run in {workdir} '
                f'started with {before.get(name)}, so that other images would follow; restore '
                'them, or use a new --workdir'
            )


def training_data(config: ml_collections.ConfigDict, info: DatasetInfo) -> dict[str, int]:
    """Returns the facts of the training data that WORKDIR/data.json holds."""
    return {'training_images': info.split(config.data.train_split).num_examples}


def _refusal(workdir: epath.Path, name: str, value) -> str:
    """Returns why the run in `workdir` cannot resume with another `value` of a setting."""
    start = f'a new --workdir (start it from these weights with --config.init_from={workdir})'
    if name not in SETTINGS:
        return (
            f'{workdir} was started with {name}={value!r}, a setting that no longer exists. '
            f'Use {start}'
        )
    return (
        f'{workdir} was started with {name}={value!r}; changing it on resume is not possible. '
        f'Use {shlex.quote(f"--config.{name}={value}")} or {start}'
    )


def last_checkpoint(workdir: str | os.PathLike) -> int:
    """Returns the step of the last complete checkpoint, -1 without one; converted weights have 0.

    On a file system the names that orbax gives to partial checkpoints are not numbers. A bucket
    cannot rename a directory, so there a file that orbax writes last says that all is there.
    """
    checkpoints = epath.Path(workdir) / 'checkpoints'
    entries = checkpoints.iterdir() if checkpoints.is_dir() else ()
    found = [path for path in entries if path.name.isdecimal()]
    if _has_commit_files(checkpoints):
        found = [path for path in found if (path / COMMIT_FILE).exists()]
    return max((int(path.name) for path in found), default=-1)


def _has_commit_files(path: epath.Path) -> bool:
    """Returns whether orbax marks complete checkpoints by a file; of all buckets only on gs://."""
    return os.fspath(path).startswith('gs://')


def has_checkpoint(workdir: str | os.PathLike) -> bool:
    """Returns whether `workdir` holds a complete checkpoint."""
    return last_checkpoint(workdir) >= 0
