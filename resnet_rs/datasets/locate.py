"""Where a dataset lies and what is in it, told from its metadata alone.

Nothing here imports TensorFlow, so a missing dataset is reported in milliseconds. Directories may
be local or on a bucket (gs://...), the latter through etils.epath.
"""

import dataclasses
import fnmatch
import functools
import itertools
import os
import pathlib
import re

from absl import logging

from resnet_rs.errors import UserError
from resnet_rs.text_files import read_json, read_text

MOST_EXAMPLES = 2**31 - 1  # of a split; batches number them in int32
MOST_CLASSES = 1_000_000
FILE_FORMATS = ('array_record', 'tfrecord')
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
# Examples of sets whose size is known, by the name before '/' and ':'.
KNOWN_SIZES = {
    'imagenet2012': {'train': 1_281_167, 'validation': 50_000},
    'imagenet2012_real': {'validation': 50_000},
    'imagenet_v2': {'test': 10_000},
    'digits': {'train': 1_437, 'validation': 360},
}
# The features a record may have beside 'image': the class number, and a set of right classes
# (ImageNet-ReaL, tfds 'imagenet2012_real').
LABEL_FEATURES = (('label', ''), ('original_label', 'real_label'))
# The part of the training split that the paper holds out to tune on: 20 of ImageNet's 1024 files.
MINIVAL, TRAIN_WITHOUT_MINIVAL = 'minival', 'train_without_minival'
_MINIVAL_FILES, _MINIVAL_OF = 20, 1024


@dataclasses.dataclass(frozen=True)
class Shard:
    """Records [skip, skip + take) of one file (the fields of tfds' FileInstruction)."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


@dataclasses.dataclass(frozen=True)
class SplitInfo:
    """A split or a slice of one: either shards of records or image files.

    Attributes:
      name: as asked for, such as 'train' or 'train[:99%]'.
      num_examples: number of examples.
      shards: the record files in order; empty for an image folder.
      images: the paths of an image folder, ordered by class, then name; empty otherwise.
      labels: class numbers of `images`.
      label_feature: of a record, holds its class number.
      label_set_feature: of a record, holds any number of right classes; '' where there is none.
    """

    name: str
    num_examples: int
    shards: tuple[Shard, ...] = ()
    images: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    label_feature: str = 'label'
    label_set_feature: str = ''

    @property
    def shard_lengths(self) -> tuple[int, ...]:
        return tuple(shard.take for shard in self.shards)

    @property
    def files(self) -> tuple[str, ...]:
        return self.images or tuple(shard.filename for shard in self.shards)

    def describe(self, index: int) -> str:
        """The place of example `index`: an image file, or a record (from 0) of a record file."""
        if self.images:
            return f'{self.images[index]} (example {index} of split {self.name})'
        first = 0
        for shard in self.shards:
            if index < first + shard.take:
                record = shard.skip + index - first
                return f'record {record} of {shard.filename} (example {index} of {self.name})'
            first += shard.take
        raise IndexError(index)

    def slice(self, name: str, start: int, stop: int) -> 'SplitInfo':
        """Examples [start, stop) of a split of shards."""
        shards = []
        first = 0
        for shard in self.shards:
            low, high = max(start - first, 0), min(stop - first, shard.take)
            if low < high:
                part = dataclasses.replace(shard, skip=shard.skip + low, take=high - low)
                shards.append(part)
            first += shard.take
        count = sum(shard.take for shard in shards)
        return dataclasses.replace(self, name=name, num_examples=count, shards=tuple(shards))

    def minival(self) -> tuple['SplitInfo', 'SplitInfo']:
        """The training split in two: (held out, the rest); no example is in both.

        Held out are 20 of every 1024 files where that is a whole number, the first ones: tfds
        mixes the examples of nearly every set before it writes them. With any other number of
        files they are the first 20/1024 of the examples, rounded; in an image folder, whose
        images are ordered by class, 20/1024 of the images at even distances.
        """
        names = (MINIVAL, TRAIN_WITHOUT_MINIVAL)
        if self.images:
            numbers = range(self.num_examples)
            held_out = [
                (number + 1) * _MINIVAL_FILES // _MINIVAL_OF
                > number * _MINIVAL_FILES // _MINIVAL_OF for number in numbers
            ]
            return tuple(
                SplitInfo(
                    name, held_out.count(part), (),
                    tuple(self.images[number] for number in numbers if held_out[number] == part),
                    tuple(self.labels[number] for number in numbers if held_out[number] == part),
                ) for name, part in zip(names, (True, False), strict=True)
            )
        files, remainder = divmod(len(self.shards) * _MINIVAL_FILES, _MINIVAL_OF)
        if remainder:
            count = round(self.num_examples * _MINIVAL_FILES / _MINIVAL_OF)
        else:
            count = sum(self.shard_lengths[:files])
        bounds = ((0, count), (count, self.num_examples))
        return tuple(self.slice(name, *ends) for name, ends in zip(names, bounds, strict=True))


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """A prepared dataset.

    Attributes:
      name: as in the config.
      directory: of the prepared version, or the root of the image folder.
      file_format: 'array_record', 'tfrecord' or 'image_folder'.
      class_names: one per class, in label order.
      splits: whole splits by name.
    """

    name: str
    directory: str
    file_format: str
    class_names: tuple[str, ...]
    splits: dict[str, SplitInfo]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def split(self, name: str) -> SplitInfo:
        """Returns a split by name; of sets of records also slices and sums, written as in tfds.

        For instance 'train[:99%]', 'train[100:]', 'train[:25%]+train[50%:]'. Percentages are
        rounded to the nearest example. 'minival' and 'train_without_minival' are parts of 'train'.
        Raises UserError for a split that does not exist, is empty or holds an example twice.
        """
        if self.file_format == 'image_folder' and {'[', '+'} & set(name):
            raise UserError(
                f'an image folder has no slices or sums such as {name!r} (its images are ordered '
                'by class): make one folder per split'
            )
        first, *others = parts = [self._split_or_slice(part) for part in name.split('+')]
        if not others:
            return first
        shards = tuple(shard for part in parts for shard in part.shards)
        ranges = sorted((shard.filename, shard.skip, shard.take) for shard in shards)
        for (file, skip, take), (next_file, next_skip, _) in itertools.pairwise(ranges):
            if file == next_file and skip + take > next_skip:
                raise UserError(f'split {name!r} of {self.name} is wrong: its parts overlap')
        count = sum(part.num_examples for part in parts)
        return dataclasses.replace(first, name=name, num_examples=count, shards=shards)

    def _split_or_slice(self, name: str) -> SplitInfo:
        match = re.fullmatch(r'([^\[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?', name)
        base = match.group(1) if match else name
        if base == 'validation' and 'val' in self.splits and 'validation' not in self.splits:
            base = 'val'
        splits = self.splits
        if base in (MINIVAL, TRAIN_WITHOUT_MINIVAL) and 'train' in splits:
            splits = {part.name: part for part in splits['train'].minival()} | splits
        if not match or base not in splits:
            raise UserError(
                f'{self.directory} has no split {name!r}: it has {", ".join(sorted(self.splits))}'
            )
        whole = splits[base]
        if not whole.num_examples:
            raise UserError(f'split {base!r} of {self.name} in {self.directory} holds no example')
        if '[' not in name:
            return whole
        start = _bound(match.group(2), 0, whole.num_examples)
        stop = _bound(match.group(3), whole.num_examples, whole.num_examples)
        if start >= stop:
            raise UserError(
                f'split {name!r} of {self.name} holds no example: {base} has {whole.num_examples}'
            )
        return whole.slice(name, start, stop)


def _bound(text: str | None, default: int, total: int) -> int:
    """One end of a slice as a number of examples in [0, total]."""
    if not text:
        return default
    value = round(total * int(text[:-1]) / 100) if text.endswith('%') else int(text)
    return min(max(value + total if value < 0 else value, 0), total)


def data_dir(data) -> pathlib.Path:
    """config.data.data_dir, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return as_path(data.data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')


def prepare_command(data) -> str:
    """What to type so that the dataset of config.data exists."""
    where = f' --data_dir={data.data_dir}' if data.data_dir else ''
    return f'python -m resnet_rs.datasets.prepare {data.name}{where}'


def find_dataset(data) -> DatasetInfo:
    """The dataset of config.data, with the evaluation split known to be there.

    Sets made for evaluation, such as imagenet_v2, have no training split: who trains asks for it.
    Raises UserError, without importing TensorFlow, when the directory, the dataset, the split or
    one of its files is absent; the message names the command that prepares it. What was found is
    remembered for the life of the process.
    """
    if data.source == 'image_folder':
        info = _find_image_folder(data.data_dir, (data.train_split, data.eval_split))
    else:
        info = find_prepared(str(data_dir(data)), data.name, prepare_command(data))
    info.split(data.eval_split)
    return info


@functools.lru_cache(maxsize=8)
def find_prepared(root: str, name: str, command: str) -> DatasetInfo:
    """The tfds set `name` under `root`; UserErrors tell to run `command`."""
    directory = _version_directory(as_path(root), name, command)
    names_there = {path.name for path in directory.iterdir()}
    again = f'delete {directory} and run: {command}'
    metadata = read_json(directory / 'dataset_info.json', again)
    feature_metadata = read_json(directory / 'features.json', again)
    try:
        features = feature_metadata['featuresDict']['features']
        kinds = [kind for kind in LABEL_FEATURES if {'image', *filter(None, kind)} <= set(features)]
        if not kinds:
            raise UserError(f'{name} in {directory} has the features {sorted(features)}: an image '
                            "classification set has 'image' and 'label'")
        label_feature, label_set_feature = kinds[0]
        file_format = metadata.get('fileFormat') or 'tfrecord'
        if file_format not in FILE_FORMATS:
            raise UserError(f'{name} in {directory} has file format {file_format!r}: prepare it as '
                            f'one of {", ".join(FILE_FORMATS)}')
        splits = {}
        for split in metadata['splits']:
            files = _shard_files(split, metadata['name'], file_format)
            if missing := [file for file, length in files if length and file not in names_there]:
                raise UserError(f'{directory} lacks the file {missing[0]}: {again}')
            shards = tuple(
                Shard(str(directory / file), 0, length, length) for file, length in files)
            count = sum(shard.take for shard in shards)
            splits[split['name']] = SplitInfo(
                split['name'], count, shards, (), (), label_feature, label_set_feature)
        class_names = _class_names(directory, label_feature, features, names_there, again)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f'{directory / "dataset_info.json"} or features.json is damaged '
                        f'({error!r:.80}): {again}') from error
    return DatasetInfo(name, str(directory), file_format, class_names, splits)


def _shard_files(split: dict, dataset: str, file_format: str) -> list[tuple[str, int]]:
    """(name, records) of each file of a split of dataset_info.json."""
    lengths = [int(length) for length in split.get('shardLengths', ())]
    if min(lengths, default=0) < 0 or sum(lengths) > MOST_EXAMPLES:
        raise ValueError(f'split {split["name"]!r} of {sum(lengths)} examples')
    template = split.get('filepathTemplate') or '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
    files = []
    for number, length in enumerate(lengths):
        file = template  # str.format would also obey a width of 10^10 that the file asks for
        for key, value in (
            ('DATASET', dataset), ('SPLIT', split['name']), ('FILEFORMAT', file_format),
            ('SHARD_X_OF_Y', f'{number:05d}-of-{len(lengths):05d}'),
            ('SHARD_INDEX', f'{number:05d}'), ('NUM_SHARDS', f'{len(lengths):05d}'),
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
            raise UserError(f'{directory / file} has {len(names)} names, not {count}: {again}')
        return names
    if count is None:
        raise UserError(f'the feature {label_feature!r} in {directory} is not a class label')
    return tuple(str(number) for number in range(int(count)))


def _version_directory(root, name: str, command: str):
    """The newest prepared version of 'name', 'name/config', or either with ':version'."""
    base, _, wanted = name.partition(':')
    directory = root / base
    if not root.is_dir() or not any(root.iterdir()):
        state = 'is empty' if root.is_dir() else 'does not exist'
        raise UserError(f'dataset {name} not found: data directory {root} {state}; run: {command}')
    versions = _version_names(directory)
    if not versions and directory.is_dir():
        configs = sorted(path.name for path in directory.iterdir() if _version_names(path))
        if configs:
            raise UserError(f'dataset {name} has configurations: set data.name to one of '
                            + ', '.join(f'{base}/{config}' for config in configs))
    versions = fnmatch.filter(versions, wanted or '*')
    if not versions:
        raise UserError(f'dataset {name} is not prepared in {root}; run: {command}')
    return directory / max(versions, key=lambda text: tuple(map(int, text.split('.'))))


def _version_names(directory) -> list[str]:
    if not directory.is_dir():
        return []
    return [
        path.name for path in directory.iterdir()
        if re.fullmatch(r'\d+\.\d+\.\d+', path.name) and (path / 'dataset_info.json').exists()
    ]


@functools.lru_cache(maxsize=8)
def _find_image_folder(root: str, wanted: tuple[str, ...]) -> DatasetInfo:
    """Reads root/SPLIT/CLASS/*.jpg|jpeg|png (any case); classes are those of the first split.

    Folders that are all numbers, as those of ImageNet-V2, are classes in the order of the numbers:
    by name, '10' would come before '2'.
    """
    directory = as_path(root)
    if not directory.is_dir():
        raise UserError(f'image folder {directory} does not exist: set data.data_dir')
    there = {path.name for path in directory.iterdir() if path.is_dir()}
    names = {name.partition('[')[0] for name in wanted}
    parts = {name for name in (MINIVAL, TRAIN_WITHOUT_MINIVAL) if name not in there}
    names = {'train' if name in parts else name for name in names}
    names = {'val' if name == 'validation' and name not in there else name for name in names}
    splits = {}
    classes = None
    for name in sorted(names & there):
        found = sorted(path.name for path in (directory / name).iterdir() if path.is_dir())
        if all(folder.isdecimal() for folder in found):
            found.sort(key=int)
        if not found:
            raise UserError(f'{directory / name} has no class folders: it must hold CLASS/*.jpg')
        if classes is not None and found != classes:
            odd = sorted(set(found) ^ set(classes))[0]
            raise UserError(f'the splits of {directory} have different classes: {odd!r} is not '
                            'in all of them')
        classes = found
        splits[name] = _read_split(directory / name, name, classes)
    if not splits:
        raise UserError(f'{directory} has none of the folders {", ".join(wanted)}: set '
                        'data.train_split and data.eval_split to the names of its folders')
    return DatasetInfo(str(directory), str(directory), 'image_folder', tuple(classes), splits)


def _read_split(directory, name: str, classes: list[str]) -> SplitInfo:
    images, labels = [], []
    ignored = 0
    for label, class_name in enumerate(classes):
        files = sorted(path.name for path in (directory / class_name).iterdir())
        kept = [file for file in files if file.lower().endswith(IMAGE_SUFFIXES)]
        if not kept:
            raise UserError(f'class folder {directory / class_name} has no image ending in '
                            f'{", ".join(IMAGE_SUFFIXES)}')
        ignored += len(files) - len(kept)
        images.extend(str(directory / class_name / file) for file in kept)
        labels.extend(itertools.repeat(label, len(kept)))
    if ignored:
        logging.warning('%s: ignored %d files that do not end in %s', directory, ignored,
                        ', '.join(IMAGE_SUFFIXES))
    return SplitInfo(name, len(images), (), tuple(images), tuple(labels))


def as_path(text: str):
    """A pathlib.Path, or for a bucket (gs://...) the etils.epath.Path that behaves like one."""
    if '://' in text:
        # Only buckets need the import, which takes as long as everything else here.
        from etils import epath

        return epath.Path(text)
    return pathlib.Path(text).expanduser()
