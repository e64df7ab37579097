"""The pseudo-labels of a run, and WORKDIR/pseudo_labels.json, which says what they were."""

import os

import ml_collections

from resnet_rs.config import mixture
from resnet_rs.datasets.pseudo_labels import PseudoLabels
from resnet_rs.datasets.sources import sources_of
from resnet_rs.run import provenance
from resnet_rs.run.preflight import has_checkpoint
from resnet_rs.utils.errors import count_of

FILE = 'pseudo_labels.json'


def check_pseudo_labels(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike
) -> dict[str, str]:
    """Returns what pseudo_labels.json holds for a run; {} where it has no pseudo-labels.

    Raises UserError where hosts read different ones, and where they are not those with which the
    run in `workdir` started.
    """
    if not mixture.has_pseudo_labels(config):
        return {}
    labels = PseudoLabels.read(config.pseudo_labels.file)
    described = labels.description
    facts = {
        'labels': labels.digest,
        'teacher': described.teacher,
        'data': f'{described.split} of {described.name}, digest {described.data}',
    }
    provenance.agree('pseudo-labels', facts)
    if has_checkpoint(workdir):
        provenance.check_same(
            workdir,
            FILE,
            facts,
            f'the file of pseudo-labels {config.pseudo_labels.file}',
            'restore that file',
        )
    return facts


def write_pseudo_labels(workdir: str | os.PathLike, facts: dict[str, str]) -> None:
    """Writes pseudo_labels.json for a run that has pseudo-labels."""
    if facts:
        provenance.write(workdir, FILE, facts)


def describe(config: ml_collections.ConfigDict, class_names: tuple[str, ...]) -> str:
    """Returns a line on the pseudo-labelled images that a run learns from."""
    source = sources_of(config)[1]
    counts, described = source.selection.per_class, source.labels.description
    images = int((source.selection.copies == 0).sum())
    empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
    none = f'; WARNING: none of {count_of(len(empty), "class")}, as {empty[0]!r}' if empty else ''
    return (
        f'learning from {images:,} of the {len(source.labels.label):,} pseudo-labelled images in '
        f'{described.split} of {described.name}: {counts.sum():,} in an epoch, {counts.min():,} to '
        f'{counts.max():,} per class{none}; the teacher: {described.teacher}'
    )
