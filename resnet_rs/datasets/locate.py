"""The location and the contents of a dataset, read from its metadata alone.

This module does not import TensorFlow, so a missing dataset is reported in milliseconds.
Directories may be local or, through etils.epath, on a bucket (gs://...).
"""

import dataclasses
import fnmatch
import functools
import os
import pathlib
import re
import shlex

from resnet_rs.datasets import subsets
from resnet_rs.datasets.computed_labels import COMPUTED_LABELS, labels_of
from resnet_rs.datasets.image_folder import find_image_folder
from resnet_rs.datasets.labels import read_labels
from resnet_rs.datasets.splits import DatasetInfo, Shard, SplitInfo
from resnet_rs.datasets.video_folder import find_sequence_examples, find_video_folder
from resnet_rs.utils.errors import UserError, count_of
from resnet_rs.utils.files import read_json, read_text

MOST_EXAMPLES = 2**31 - 1  # of a split; batches number them in int32
MOST_CLASSES = 1_000_000
FILE_FORMATS = ('array_record', 'tfrecord')
# {name before '/' and ':': examples per split} of well-known datasets.
KNOWN_SIZES = {
    'imagenet2012': {'train': 1_281_167, 'validation': 50_000},
    'imagenet2012_real': {'validation': 50_000},
    'imagenet_v2': {'test': 10_000},
    'digits': {'train': 1_437, 'validation': 360},
    'moving_digits': {'train': 2_874, 'validation': 720},
    'fashion_mnist': {'train': 60_000, 'test': 10_000},
}
# Features of a record in addition to 'image': the class number, and a set of right classes
# (ImageNet-ReaL, tfds 'imagenet2012_real').
LABEL_FEATURES = (('label', ''), ('original_label', 'real_label'))


FIND = {
    'image_folder': find_image_folder,
    'video_folder': find_video_folder,
    'sequence_examples': find_sequence_examples,
}


def data_dir(data) -> pathlib.Path:
    """Returns config.data.data_dir, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return as_path(data.data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')


def prepare_command(data) -> str:
    """Returns the command that prepares the dataset of config.data."""
    where = f' --data_dir={shlex.quote(data.data_dir)}' if data.data_dir else ''
    return f'python -m resnet_rs.datasets.prepare {data.name}{where}'


def find_dataset(data) -> DatasetInfo:
    """Returns the dataset of config.data, after a check that its evaluation split exists.

    Sets for evaluation, such as imagenet_v2, have no training split, so only training checks it.
    Raises UserError, without importing TensorFlow, if the directory, the dataset, the split or one
    of its files is missing or cannot be read; where it is missing the message names the command
    that prepares it. The result is cached in the process.
    """
    try:
        if data.source == 'tfds':
            info = find_prepared(str(data_dir(data)), data.name, prepare_command(data), data.label)
        else:
            names = (subsets.parse(name)[0] for name in (data.train_split, data.eval_split))
            info = FIND[data.source](as_path(data.data_dir), tuple(names))
    except OSError as error:
        raise UserError(
            f'{error.filename or data_dir(data)} cannot be read ({error.strerror or error}); let '
            'this user read it, or name another directory with --config.data.data_dir'
        ) from error
    info = dataclasses.replace(info, read_labels=read_labels).of_classes(tuple(data.classes))
    split = info.split(data.eval_split)
    if split.video_form and not data.frames:
        raise UserError(
            f'{info.name} holds videos, but data.frames is 0; use a network for clips, such as '
            '--config.model.name=resnet_3d_rs_50, and give the frames of a clip: '
            '--config.data.frames=32'
        )
    if data.frames and not split.video_form:
        raise UserError(
            f'{info.name} holds images, but data.frames is {data.frames}; name a set of videos, or '
            'use --config.data.frames=0 and a network for images'
        )
    return info


@functools.lru_cache(maxsize=8)
def find_prepared(root: str, name: str, command: str, label: str | None = '') -> DatasetInfo:
    """Returns the tfds set `name` under `root`; its UserErrors advise to run `command`.

    `label` is the name of a computed label, '' for the label that the set has, or None for that
    label or else the first that can be computed.
    """
    directory = _version_directory(as_path(root), name, command)
    names_there = {path.name for path in directory.iterdir()}
    again = f'delete {directory} and run: {command}'
    metadata = read_json(directory / 'dataset_info.json', again)
    feature_metadata = read_json(directory / 'features.json', again)
    try:
        features = feature_metadata['featuresDict']['features']
        is_video = {'video', 'label'} <= set(features) and 'image' not in features
        kinds = [kind for kind in LABEL_FEATURES if {'image', *filter(None, kind)} <= set(features)]
        computable = labels_of(_names_in(features)) if 'image' in features else ()
        if label is None:
            label = computable[0] if computable and not kinds else ''
        if label:
            if label not in computable:
                raise _not_computable(label, name, directory, features)
            kinds = [(next(iter(COMPUTED_LABELS[label].features)), '')]
        if not kinds and not is_video:
            offer = f'; use --config.data.label={" or ".join(computable)}' if computable else ''
            raise UserError(
                f'{name} in {directory} has the features {sorted(features)}: an image '
                "classification set has 'image' and 'label', one of videos 'video' and 'label'"
                + offer
            )
        label_feature, label_set_feature = ('label', '') if is_video else kinds[0]
        file_format = metadata.get('fileFormat') or 'tfrecord'
        if file_format not in FILE_FORMATS:
            raise UserError(
                f'{name} in {directory} has file format {file_format!r}: prepare it as '
                f'one of {", ".join(FILE_FORMATS)}'
            )
        splits = {}
        for split in metadata['splits']:
            files = _shard_files(split, metadata['name'], file_format)
            if missing := [file for file, length in files if length and file not in names_there]:
                raise UserError(f'{directory} lacks the file {missing[0]}: {again}')
            shards = tuple(
                Shard(str(directory / file), 0, length, length) for file, length in files
            )
            count = sum(shard.take for shard in shards)
            splits[split['name']] = SplitInfo(
                split['name'],
                count,
                shards,
                label_feature=label_feature,
                label_set_feature=label_set_feature,
                computed_label=label,
                video_form='example' if is_video else '',
            )
        class_names = (
            COMPUTED_LABELS[label].class_names
            if label
            else _class_names(directory, label_feature, features, names_there, again)
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f'{directory / "dataset_info.json"} or features.json is damaged '
            f'({error!r:.80}): {again}'
        ) from error
    return DatasetInfo(
        name, str(directory), file_format, class_names, splits, computable_labels=computable
    )


def _names_in(features: dict) -> set[str]:
    """Returns the names of features, of those inside of another one as 'objects/size'."""
    names = set(features)
    for name, feature in features.items():
        inner = feature.get('sequence', {}).get('feature', feature).get('featuresDict', {})
        names |= {f'{name}/{other}' for other in _names_in(inner.get('features', {}))}
    return names


def _not_computable(label: str, name: str, directory, features: dict) -> UserError:
    needed = ('image', *COMPUTED_LABELS[label].features)
    missing = next(feature for feature in needed if feature not in _names_in(features))
    return UserError(
        f'{name} in {directory} has no feature {missing!r}, from which data.label={label!r} is '
        f'computed; it has {sorted(features)}'
    )


def _shard_files(split: dict, dataset: str, file_format: str) -> list[tuple[str, int]]:
    """Returns (name, records) of each file of a split of dataset_info.json."""
    lengths = [int(length) for length in split.get('shardLengths', ())]
    if min(lengths, default=0) < 0 or sum(lengths) > MOST_EXAMPLES:
        raise ValueError(f'split {split["name"]!r} of {sum(lengths)} examples')
    template = split.get('filepathTemplate') or '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
    files = []
    for number, length in enumerate(lengths):
        file = template  # str.format would obey a width of 10^10 in a damaged file
        for key, value in (
            ('DATASET', dataset),
            ('SPLIT', split['name']),
            ('FILEFORMAT', file_format),
            ('SHARD_X_OF_Y', f'{number:05d}-of-{len(lengths):05d}'),
            ('SHARD_INDEX', f'{number:05d}'),
            ('NUM_SHARDS', f'{len(lengths):05d}'),
        ):
            file = file.replace(f'{{{key}}}', value)
        files.append((file, length))
    return files


def _class_names(directory, label_feature, features, names_there, again) -> tuple[str, ...]:
    file = f'{label_feature}.labels.txt'
    count = features[label_feature].get('classLabel', {}).get('numClasses')
    if count is not None and not 0 < int(count) <= MOST_CLASSES:
        raise ValueError(f'{count} classes')
    if file in names_there:
        names = tuple(read_text(directory / file, again).split('\n')[:-1])
        if count is not None and len(names) != int(count):
            raise UserError(
                f'{directory / file} has {count_of(len(names), "name")}, not {count}: {again}'
            )
        return names
    if count is None:
        raise UserError(f'the feature {label_feature!r} in {directory} is not a class label')
    return tuple(str(number) for number in range(int(count)))


def _version_directory(root, name: str, command: str):
    """Returns the newest prepared version of 'name', 'name/config', or either with ':version'."""
    base = name.partition(':')[0]
    directory = root / base
    if not root.is_dir() or not any(root.iterdir()):
        state = 'is empty' if root.is_dir() else 'does not exist'
        raise UserError(f'dataset {name} not found: data directory {root} {state}; run: {command}')
    versions = prepared_versions(root, name)
    if not _version_names(directory) and directory.is_dir():
        configs = sorted(path.name for path in directory.iterdir() if _version_names(path))
        if configs:
            names = [f'{base}/{config}' for config in configs]
            raise UserError(
                f'dataset {name} has configurations: {", ".join(names)}; name one with '
                f'--config.data.name={names[0]}'
            )
    if not versions:
        raise UserError(f'dataset {name} is not prepared in {root}; run: {command}')
    return directory / max(versions, key=lambda text: tuple(map(int, text.split('.'))))


def prepared_versions(root, name: str) -> list[str]:
    """Returns the versions under `root` that `name`, which may have a ':version', allows."""
    base, _, wanted = name.partition(':')
    return fnmatch.filter(_version_names(root / base), wanted or '*')


def _version_names(directory) -> list[str]:
    if not directory.is_dir():
        return []
    return [
        path.name
        for path in directory.iterdir()
        if re.fullmatch(r'\d+\.\d+\.\d+', path.name) and (path / 'dataset_info.json').exists()
    ]


def as_path(text: str):
    """Returns a pathlib.Path, or for a bucket (gs://...) the etils.epath.Path that replaces it."""
    if '://' in text:
        # Only buckets need the import, which takes as long as everything else in this module.
        from etils import epath

        return epath.Path(text)
    return pathlib.Path(text).expanduser()
