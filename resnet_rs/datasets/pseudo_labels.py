"""Pseudo-labels: a teacher's probabilities for every image of a split, in one file.

FILE is an .npz file, which `python -m resnet_rs.pseudo_label` writes, with the arrays

    probabilities  float32 [examples, k], of all classes in their order, or of the k likeliest
    classes        int32 [examples, k], the numbers of the k likeliest; absent for all classes
    label          int32 [examples], the data's own, which tells whether its order has changed
    mask           bool [examples], False for images that could not be decoded
    description    the text of a JSON object: `Description`
"""

import dataclasses
import functools
import hashlib
import io
import json
import os
import zipfile
from typing import Self

import numpy as np
from etils import epath

from resnet_rs.datasets.splits import DatasetInfo, SplitInfo
from resnet_rs.utils.errors import UserError, count_of
from resnet_rs.utils.files import replacing

# The errors of reading a damaged file.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
)


@dataclasses.dataclass(frozen=True)
class Description:
    """The origin of pseudo-labels.

    teacher: the teacher in words, with the digest of its weights.
    source, name, split: those of the images, as in config.data.
    data: digest of the images' files and classes (`data_digest`).
    class_names: of the teacher, in the order of the probabilities; () if unknown.
    num_classes: the number of the teacher's classes.
    classes, label: data.classes and data.label of the images.
    """

    teacher: str
    source: str
    name: str
    split: str
    data: str
    class_names: tuple[str, ...]
    num_classes: int
    classes: tuple[int, ...] = ()
    label: str = ''


@dataclasses.dataclass(frozen=True, eq=False)
class PseudoLabels:
    """The contents of a file of pseudo-labels; see the head of this module."""

    description: Description
    probabilities: np.ndarray
    classes: np.ndarray | None
    label: np.ndarray
    mask: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The likeliest class of each example, int32 [examples]."""
        best = self.probabilities.argmax(1)
        if self.classes is None:
            return best.astype(np.int32)
        return np.take_along_axis(self.classes, best[:, None], 1)[:, 0]

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the likeliest class, float32 [examples]."""
        return self.probabilities.max(1)

    def targets(self, examples: np.ndarray, temperature: float) -> np.ndarray:
        """Returns the distributions p^(1/T) / sum over the stored classes, float32 [k, classes].

        `examples` are numbers in the split, int [k]. Probabilities of classes that are not stored
        are 0. Source: Noisy Student's code (Xie et al. 2020).
        """
        stored = self.probabilities[examples].astype(np.float64) ** (1 / temperature)
        stored = (stored / stored.sum(1, keepdims=True)).astype(np.float32)
        if self.classes is None:
            return stored
        targets = np.zeros((len(examples), self.description.num_classes), np.float32)
        np.put_along_axis(targets, self.classes[examples].astype(np.int64), stored, 1)
        return targets

    @functools.cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of SHA-256 over the arrays and the description."""
        digest = hashlib.sha256(_json(self.description).encode())
        for name, array in self._arrays().items():
            digest.update(f'{name} {array.dtype} {array.shape}\n'.encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {'probabilities': self.probabilities, 'label': self.label, 'mask': self.mask}
        return arrays if self.classes is None else arrays | {'classes': self.classes}

    def write(self, path: str | os.PathLike) -> None:
        """Writes the file; a reader sees the old one or the whole new one."""
        description = np.frombuffer(_json(self.description).encode(), np.uint8)
        buffer = io.BytesIO()  # a bucket's files cannot be written to in any order
        np.savez(buffer, **self._arrays(), description=description)
        with replacing(epath.Path(path)) as partial:
            partial.write_bytes(buffer.getbuffer())

    @classmethod
    def read(cls, path: str | os.PathLike) -> Self:
        """Reads a file, again only if it has changed since the last call.

        Raises UserError for a missing or damaged file.
        """
        path = epath.Path(path)
        if not path.exists():
            raise UserError(
                f'pseudo_labels.file={path} does not exist; write it with python -m '
                'resnet_rs.pseudo_label'
            )
        stat = path.stat()
        return _read(os.fspath(path), stat.mtime, stat.length)


def _json(description: Description) -> str:
    facts = dataclasses.asdict(description)
    # Fields with a default are left out where they have it: so the digest of a file that was
    # written without them, which runs have stored, stays the same.
    for field in dataclasses.fields(description):
        if facts[field.name] == field.default:
            del facts[field.name]
    return json.dumps(facts, sort_keys=True)


@functools.lru_cache(maxsize=1)
def _read(path: str, modified: float, length: int) -> PseudoLabels:
    del modified, length  # they make another key of a file that has changed
    try:
        with epath.Path(path).open('rb') as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        described = json.loads(arrays.pop('description').tobytes())
        described['class_names'] = tuple(described['class_names'])
        described['classes'] = tuple(described.get('classes', ()))
        labels = PseudoLabels(Description(**described), **{'classes': None, **arrays})
        count, stored_classes = labels.probabilities.shape
        if not (labels.label.shape == labels.mask.shape == (count,)):
            raise ValueError('its arrays have different lengths')
        if labels.classes is None and stored_classes != labels.description.num_classes:
            raise ValueError(f'{stored_classes} probabilities of each example')
    except _DAMAGE as error:
        raise UserError(
            f'{path} is no file of pseudo-labels ({error}); write it with python -m '
            'resnet_rs.pseudo_label'
        ) from error
    return labels


def data_digest(info: DatasetInfo, split: SplitInfo) -> str:
    """Returns 16 hexadecimal digits of SHA-256 over the classes and the files of a split.

    They are names and the numbers of chosen records, not contents; the directory, which may differ
    between hosts, does not count.
    """
    files = [_below(info.directory, file) for file in split.images] or [
        (_below(info.directory, shard.filename), shard.skip, shard.take) for shard in split.shards
    ]
    part = [split.records] if split.records else []
    text = json.dumps([info.class_names, files, *part])
    return hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]


def _below(directory: str, file: str) -> str:
    """Returns the path of a file in a directory, which begins with '/'."""
    if directory == '.':  # pathlib writes the files in it without './'
        return f'/{file.removeprefix("./")}'
    return f'/{file.removeprefix(directory).lstrip("/")}'


@dataclasses.dataclass(frozen=True)
class Selection:
    """The examples that are learnt from, some of them several times.

    examples: numbers in the split, int64 [n], ascending.
    copies: how many times the example occurs earlier in `examples`, int64 [n].
    per_class: how many of them have each class as their prediction, int64 [classes].
    """

    examples: np.ndarray
    copies: np.ndarray
    per_class: np.ndarray


@functools.lru_cache(maxsize=1)
def select(
    labels: PseudoLabels, least_confidence: float, per_class: int, seed: int = 0
) -> Selection:
    """Filters examples by confidence, and balances the predicted classes in both directions.

    Of a class with more than `per_class` examples of at least `least_confidence` it takes the most
    confident ones. Of one with fewer it takes all, each the same number of times, and the rest of
    `per_class` at random without replacement. With `per_class` 0 it takes every example once.

    Noisy Student (Xie et al. 2020, section 3.1: at least 0.3, and 130,000 images of each class)
    bins confidence by 0.01 and repeats images with a probability, so its numbers are near these.
    """
    confidence, predicted = labels.confidence, labels.predicted
    chosen = labels.mask & (confidence >= least_confidence)
    counts = chosen.astype(np.int64)
    if per_class:
        random = np.random.default_rng(seed)
        for number in range(labels.description.num_classes):
            members = np.flatnonzero(chosen & (predicted == number))
            if len(members) >= per_class:
                order = np.argsort(-confidence[members], kind='stable')
                counts[members[order[per_class:]]] = 0
            elif len(members):
                times, rest = divmod(per_class, len(members))
                counts[members] = times
                counts[random.choice(members, rest, replace=False)] += 1
    examples = np.repeat(np.arange(len(counts)), counts)
    copies = np.arange(len(examples)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.bincount(predicted[examples], minlength=labels.description.num_classes)
    return Selection(examples, copies, found)


def find_images(labels: PseudoLabels, info: DatasetInfo) -> SplitInfo:
    """Returns the split of `info` that the labels are of.

    Raises UserError for labels of another dataset, or of another number of examples.
    """
    described = labels.description
    split = info.split(described.split)
    if split.num_examples != len(labels.label):
        raise UserError(
            f'the pseudo-labels are of {count_of(len(labels.label), "example")}, but '
            f'{described.split} of {info.name} has {split.num_examples:,}; write them anew'
        )
    if data_digest(info, split) != described.data:
        raise UserError(
            f'the pseudo-labels are of other data than {described.split} of {info.name} in '
            f'{info.directory} (digest {described.data}, not {data_digest(info, split)}); write '
            'them anew, or name the directory of that data with --config.pseudo_labels.data_dir'
        )
    return split
