"""The contents of a dataset: splits, their slices and sums, and the location of each example."""

import dataclasses
import itertools
import re
from collections.abc import Callable

import numpy as np

from resnet_rs.datasets import subsets
from resnet_rs.utils.errors import UserError

# The paper's held-out part of the training split, for tuning: 20 of ImageNet's 1024 files.
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
      name: the name in the configuration, such as 'train' or 'train[:99%]'.
      num_examples: number of examples.
      shards: the record files in order; empty for an image folder.
      images: the paths of an image folder, ordered by class, then name; empty otherwise.
      labels: class numbers of `images`.
      label_feature: the feature of a record with its class number.
      label_set_feature: the feature of a record with its set of right classes; '' for none.
      computed_label: the label's name in datasets.computed_labels; '' for `label_feature`.
      video_form: how a video's frames are stored: 'example', a tfds record; 'sequence', a
        SequenceExample; 'folder' or 'file', one of `images`; 'pixels', an array; '' for images.
      records: the numbers in the shards of the records in use, ascending; () for all.
      classes: the stored numbers of the classes in use, in the order of their new numbers; ()
        for all.
    """

    name: str
    num_examples: int
    shards: tuple[Shard, ...] = ()
    images: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    label_feature: str = 'label'
    label_set_feature: str = ''
    computed_label: str = ''
    video_form: str = ''
    records: tuple[int, ...] = ()
    classes: tuple[int, ...] = ()

    @property
    def noun(self) -> str:
        """The word for an example in messages."""
        return 'video' if self.video_form else 'image'

    @property
    def shard_lengths(self) -> tuple[int, ...]:
        return tuple(shard.take for shard in self.shards)

    @property
    def files(self) -> tuple[str, ...]:
        return self.images or tuple(shard.filename for shard in self.shards)

    def describe(self, index: int) -> str:
        """Describes the location of example `index`: an image file, or a record of a file."""
        if self.images:
            return f'{self.images[index]} (example {index} of split {self.name})'
        first, number = 0, self.records[index] if self.records else index
        for shard in self.shards:
            if number < first + shard.take:
                record = shard.skip + number - first
                return f'record {record} of {shard.filename} (example {index} of {self.name})'
            first += shard.take
        raise IndexError(index)

    def slice(self, name: str, start: int, stop: int) -> 'SplitInfo':
        """Returns the examples [start, stop) of a split of shards."""
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
        """Divides the training split into two disjoint parts, (held out, the rest).

        The held-out part is the first 20 of every 1024 files if that is a whole number, because
        tfds shuffles the examples of nearly every set before it writes them. For any other number
        of files it is the first 20/1024 of the examples, rounded. In an image folder, whose images
        are ordered by class, it is 20/1024 of the images at even distances.
        """
        names = (MINIVAL, TRAIN_WITHOUT_MINIVAL)
        if self.images:
            numbers = range(self.num_examples)
            held_out = [
                (number + 1) * _MINIVAL_FILES // _MINIVAL_OF
                > number * _MINIVAL_FILES // _MINIVAL_OF
                for number in numbers
            ]
            return tuple(
                SplitInfo(
                    name,
                    held_out.count(part),
                    (),
                    tuple(self.images[number] for number in numbers if held_out[number] == part),
                    tuple(self.labels[number] for number in numbers if held_out[number] == part),
                    video_form=self.video_form,
                )
                for name, part in zip(names, (True, False), strict=True)
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
      name: the name in the configuration.
      directory: directory of the prepared version, or the root of the image folder.
      file_format: 'array_record', 'tfrecord', 'image_folder' or 'video_folder'.
      class_names: one per class, in label order.
      splits: whole splits by name, of all classes.
      classes: the set's own numbers of the classes in `class_names`; () for all.
      computable_labels: the values of data.label that the features of a tfds set allow.
      read_labels: (split, file_format) -> the labels of its examples, int64 [examples].
    """

    name: str
    directory: str
    file_format: str
    class_names: tuple[str, ...]
    splits: dict[str, SplitInfo]
    classes: tuple[int, ...] = ()
    computable_labels: tuple[str, ...] = ()
    read_labels: Callable[[SplitInfo, str], np.ndarray] | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def of_classes(self, classes: tuple[int, ...]) -> 'DatasetInfo':
        """Returns the images of some classes, which get the numbers 0, 1, ... in this order.

        Raises UserError for a class that does not exist.
        """
        if not classes:
            return self
        if unknown := [number for number in classes if number >= self.num_classes]:
            raise UserError(
                f'data.classes has {unknown[0]}, but the classes of {self.name} are 0 to '
                f'{self.num_classes - 1}; name some of these with --config.data.classes'
            )
        names = tuple(self.class_names[number] for number in classes)
        return dataclasses.replace(self, class_names=names, classes=tuple(classes))

    def split(self, name: str) -> SplitInfo:
        """Returns a split by name; sets of records also have slices and sums, written as in tfds.

        Examples are 'train[:99%]', 'train[100:]' and 'train[:25%]+train[50%:]'. Percentages are
        rounded to the nearest example. 'minival' and 'train_without_minival' are parts of 'train'.
        'train[:90%], 100 per class, seed 0' draws 100 images of each class, and
        'train[:90%] except 100 per class, seed 0' has the others (resnet_rs.datasets.subsets).
        Raises UserError for a split that does not exist, is empty or contains an example twice,
        and for a class with fewer images.
        """
        text, draw = subsets.parse(name)
        found = self._sum(text)
        return self._part(found, draw) if draw or self.classes else found

    def _part(self, split: SplitInfo, draw: subsets.Draw | None) -> SplitInfo:
        """Returns the examples of the classes that belong to `draw`, in their order, numbered anew.

        Raises UserError where there is none, and for images with several right labels.
        """
        if split.label_set_feature:
            raise UserError(
                f'{self.name} has sets of labels ({split.label_set_feature}), so its images have '
                'no one class to choose them by; use whole splits and all classes'
            )
        labels = self.read_labels(split, self.file_format)
        classes = self.classes or range(self.num_classes)
        kept = subsets.choose(labels, classes, self.class_names, draw, split.name).tolist()
        name = f'{split.name}{draw or ""}'
        if not kept:
            raise UserError(f'split {name!r} of {self.name} holds no example; take another part')
        found = dataclasses.replace(split, name=name, num_examples=len(kept))
        if not split.images:
            return dataclasses.replace(found, records=tuple(kept), classes=self.classes)
        numbers = {old: new for new, old in enumerate(self.classes)}
        return dataclasses.replace(
            found,
            images=tuple(split.images[number] for number in kept),
            labels=tuple(numbers.get(split.labels[k], split.labels[k]) for k in kept),
        )

    def _sum(self, name: str) -> SplitInfo:
        kind = {'image_folder': 'an image', 'video_folder': 'a video'}.get(self.file_format)
        if kind and {'[', '+'} & set(name):
            raise UserError(
                f'{kind} folder has no slices or sums such as {name!r} (its {kind.split()[1]}s are '
                'ordered by class): make one folder per split'
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
    """Parses one end of a slice to a number of examples in [0, total]."""
    if not text:
        return default
    value = round(total * int(text[:-1]) / 100) if text.endswith('%') else int(text)
    return min(max(value + total if value < 0 else value, 0), total)
