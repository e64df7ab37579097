"""The checks of --mode=check on the data: counts, files, labels, and the network's input."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np
from etils import epath

from resnet_rs.config import mixture
from resnet_rs.config.evaluations import evaluation_config, evaluation_names
from resnet_rs.datasets import decoding, records
from resnet_rs.datasets.examples import wrong_label
from resnet_rs.datasets.labels import read_labels
from resnet_rs.datasets.locate import KNOWN_SIZES, find_dataset
from resnet_rs.datasets.splits import DatasetInfo, Shard, SplitInfo
from resnet_rs.run import report
from resnet_rs.utils.errors import UserError, count_of, first_of
from resnet_rs.utils.figures import encode_figure

SAMPLED_FILES = 3  # files of a split that are read whole
SHEET_ROWS, SHEET_COLUMNS = 4, 8


def check_data(
    config: ml_collections.ConfigDict,
    workdir: str | os.PathLike,
    train_batches: Callable,
    eval_batches: Callable,
) -> list[str]:
    """Checks every split and writes WORKDIR/check/train.png and eval.png; returns lines of text.

    All record files must exist and must not be empty. A few files of each split are read whole and
    must have the number of records that the metadata states. All images of small splits are
    decoded, and a sample of large ones (`datasets.decoding`). Raises UserError, naming the file,
    if a check fails, and for images and labels that training or evaluation would refuse.

    `train_batches` and `eval_batches` are the functions of input_pipeline.
    """
    config = config.copy_and_resolve_references().unlock()
    config.data.cache = ''  # a check must not copy all of the data
    info = find_dataset(config.data)
    place = '' if info.name == info.directory else f', in {info.directory}'
    lines = [f'{info.name}: {info.file_format}, {count_of(info.num_classes, "class")}{place}']
    used = [
        info.split(name)
        for name in dict.fromkeys((config.data.train_split, config.data.eval_split))
    ]
    # The labels of whole splits have the numbers of all classes.
    for split in used if info.classes else info.splits.values():
        lines += check_split(info, split)
    for split in used:
        if not info.classes and split.name not in info.splits:
            lines.append(f'{split.name}: {count_of(split.num_examples, "example")}')
    lines += check_decoding(config, info, used)
    directory = epath.Path(workdir) / 'check'
    directory.mkdir(parents=True, exist_ok=True)
    for name, purpose, batch in (
        ('train', 'training', training_sample(config, train_batches)),
        ('eval', 'evaluation', evaluation_sample(config, eval_batches)),
    ):
        split = config.data[f'{name}_split']
        lines.append(draw_sheet(info, batch, split, purpose, directory / f'{name}.png'))
    for name in evaluation_names(config)[1:]:
        of_this = evaluation_config(config, name)
        found = find_dataset(of_this.data)
        split = found.split(of_this.data.eval_split)
        lines.append(f'evaluation {name}: {found.name}, in {found.directory}')
        lines += check_split(found, split)
        if (found.directory, split.name) not in {(info.directory, other.name) for other in used}:
            lines += check_decoding(of_this, found, [split])
        batch, path = evaluation_sample(of_this, eval_batches), directory / f'eval_{name}.png'
        lines.append(draw_sheet(found, batch, split.name, f'evaluation {name!r}', path))
    return lines


def draw_sheet(info: DatasetInfo, batch: dict, split: str, purpose: str, path: epath.Path) -> str:
    """Writes a picture of the images of `batch` under their classes; returns a line on it."""
    titles = [report.class_title(info.class_names[label]) for label in batch['label']]
    title = f'{split}: what the network sees in {purpose}, {batch["image"].shape[-2]} pixels'
    figure = report.draw_images(batch['image'], titles, title, columns=SHEET_COLUMNS)
    path.write_bytes(encode_figure(figure, 'png'))
    noun = 'image' if batch['image'].ndim == 4 else 'video'
    return f'{count_of(len(titles), noun)} of {split}, decoded and cropped: {path}'


def check_split(info: DatasetInfo, split: SplitInfo) -> list[str]:
    """Returns two lines: examples and bytes next to the expected number of examples; labels."""
    if not split.num_examples:
        return [f'{split.name}: empty']
    text = (
        f'{split.name}: {count_of(split.num_examples, "example")} in '
        f'{count_of(len(split.files), "file")}'
    )
    if split.shards:
        text += f', {total_bytes(split) / 1e9:,.3g} GB'
    known = KNOWN_SIZES.get(info.name.partition(':')[0].partition('/')[0], {}).get(split.name)
    if known and not info.classes:
        text += (
            ' (as expected)'
            if known == split.num_examples
            else (f'; WARNING: the whole split has {known:,}')
        )
    counts, source = label_counts(info, split)
    return [
        text,
        f'  labels of {source}: {np.count_nonzero(counts):,} of '
        f'{count_of(info.num_classes, "class")}, {counts.min():,} to {counts.max():,} each, median '
        f'{np.median(counts):,g}',
    ]


def check_decoding(config, info: DatasetInfo, splits: Sequence[SplitInfo]) -> list[str]:
    """Decodes images of `splits`; returns lines with their number and the images to be skipped.

    Raises UserError naming undecodable images if data.corrupt_images is 'fail'.
    """
    lines, problems = [], []
    threads = config.data.threads or len(os.sched_getaffinity(0))
    for split in splits:
        sample = decoding.choose_sample(split, info.file_format)
        result = decoding.decode(split, info.file_format, sample, threads)
        _check_labels(info, split, result.labels, result.indices)
        lines.append(f'{split.name}: decoded {sample.text}, {len(result.bad):,} failed')
        if result.bad:
            places = first_of([split.describe(index) for index in result.bad])
            problems.append(
                f'{len(result.bad):,} of {count_of(sample.size, split.noun)} of '
                f'{split.name} that were tried cannot be decoded: {places}'
            )
        span = (config.data.frames - 1) * config.data.frame_stride + 1
        if short := result.shorter_than(span):
            places = first_of([split.describe(index) for index in short])
            lines.append(
                f'{split.name}: {count_of(len(short), "video")} of fewer than the {span} frames '
                f'that a clip spans, which repeats them: {places}'
            )
    if problems and config.data.corrupt_images == 'fail':
        raise UserError(
            '; '.join(problems) + '; replace them, or train without them: '
            '--config.data.corrupt_images=skip'
        )
    return lines + [f'WARNING: {problem}; they will be skipped' for problem in problems]


def _check_labels(info: DatasetInfo, split: SplitInfo, labels, indices) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= info.num_classes))
    if len(wrong):
        place = split.describe(indices[wrong[0]])
        raise wrong_label(labels[wrong[0]], info.num_classes, place)


def total_bytes(split: SplitInfo) -> int:
    """Returns the size of the record files; raises UserError for a missing or empty one."""

    def size(shard: Shard) -> int:
        try:
            length = epath.Path(shard.filename).stat().length
        except OSError as error:
            raise UserError(f'{shard.filename} is missing: prepare the dataset again') from error
        if shard.take and not length:
            raise UserError(f'{shard.filename} is empty: prepare the dataset again')
        return length

    # A bucket has a high latency, so the requests run in parallel.
    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        return sum(threads.map(size, (shard for shard in split.shards if shard.take)))


def label_counts(info: DatasetInfo, split: SplitInfo) -> tuple[np.ndarray, str]:
    """Returns (examples per class int [classes], the counted examples in words).

    It counts all images of a folder, or the records of a few whole files.
    """
    if split.images:
        return np.bincount(split.labels, minlength=info.num_classes), 'all examples'
    if split.records:
        labels = read_labels(split, info.file_format)
        return np.bincount(labels, minlength=info.num_classes), 'all examples'
    filled = [shard for shard in split.shards if shard.take]
    chosen = np.unique(np.linspace(0, len(filled) - 1, SAMPLED_FILES).round().astype(int))
    counts = np.zeros(info.num_classes, np.int64)
    for number in chosen:
        shard = filled[number]
        if info.file_format == 'tfrecord' and (damage := records.overlong_record(shard.filename)):
            raise UserError(f'split {split.name} cannot be read: {damage}')
        part = dataclasses.replace(split, num_examples=shard.take, shards=(shard,))
        elements = records.sequential_records(part, info.file_format, 0, shard.take, threads=2)
        try:
            labels = elements.map(lambda element: element['label']).as_numpy_iterator()
            labels = np.array(list(labels))
        except records.READ_ERRORS as error:
            damage = records.damaged_file(part, info.file_format)
            if damage is None:
                raise
            raise UserError(f'split {split.name} cannot be read: {damage}') from error
        _check_labels(info, part, labels, range(len(labels)))
        counts += np.bincount(labels, minlength=info.num_classes)
    if len(chosen) == len(filled):
        return counts, f'all {count_of(counts.sum(), "example")}, read and counted'
    return counts, (
        f'{count_of(len(chosen), "file")}, {count_of(counts.sum(), "example")}, read and counted'
    )


def training_sample(config: ml_collections.ConfigDict, train_batches: Callable) -> dict:
    """Returns the first images of a run, augmented, but without mixup, which the device does."""
    config = config.copy_and_resolve_references().unlock()
    wanted = SHEET_ROWS * SHEET_COLUMNS
    config.optimizer.accumulation_steps = 1
    group = config.data.repeated_augmentation
    if mixture.has_pseudo_labels(config):
        group *= sum(mixture.group_sizes(config))
    config.batch_size = max(wanted - wanted % group, group)
    config.data.shuffle_window = min(config.data.shuffle_window, 16)
    return _unmasked(next(train_batches(config)))


def evaluation_sample(config: ml_collections.ConfigDict, eval_batches: Callable) -> dict:
    """Returns evaluation crops from the whole split, so that they show many classes."""
    batches = [
        eval_batches(
            config,
            batch_size=SHEET_ROWS * SHEET_COLUMNS,
            process_index=place,
            process_count=SHEET_COLUMNS,
        )
        for place in range(SHEET_COLUMNS)
    ]
    parts = [_unmasked(next(iter(part))) for part in batches]
    return {name: np.concatenate([part[name] for part in parts]) for name in ('image', 'label')}


def _unmasked(batch: dict) -> dict:
    return {name: batch[name][batch['mask'] > 0] for name in ('image', 'label')}
