"""The teacher of a run: its weights, and WORKDIR/teacher.json, which says what they were.

The file holds a digest of the weights, and the other facts that determine the teacher's logits.
"""

import dataclasses
import hashlib
import os

import flax.traverse_util
import jax
import ml_collections
import numpy as np

from resnet_rs.hub.timm_repository import source_config
from resnet_rs.run import provenance
from resnet_rs.run.preflight import has_checkpoint
from resnet_rs.run.source import open_source
from resnet_rs.training.steps import Program
from resnet_rs.training.teacher import create_teacher

TEACHER_FILE = 'teacher.json'


@dataclasses.dataclass(frozen=True)
class LoadedTeacher:
    """The weights of a teacher on this host.

    variables: {'params', 'batch_stats'} of numpy arrays, float32: the EMA weights.
    facts: what teacher.json holds, by name; their equality means the same logits.
    described: the teacher in words, for the log.
    """

    variables: dict
    facts: dict
    described: str


def load_teacher(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike
) -> LoadedTeacher | None:
    """Returns the teacher of a run; None where its objective has none.

    Raises UserError where the teacher's checkpoint does not fit its configuration, where hosts read
    different ones, and where it is not the teacher with which the run in `workdir` started.
    """
    if config.objective != 'distillation':
        return None
    directory, teacher = config.distillation.teacher, create_teacher(config)
    like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), teacher.shapes())
    best_by = source_config(directory).checkpoint.best_by
    with open_source(directory, best_by) as source:
        step = source.find(config.distillation.checkpoint)
        variables = source.restore_weights(step, like, ('ema',))['ema']
    facts = {
        'weights': weights_digest(variables),
        'network': f'{teacher.name}, {np.dtype(teacher.network.architecture.dtype).name}',
        'image size': str(teacher.image_size),
        'mean_rgb': str(teacher.mean),
        'std_rgb': str(teacher.deviation),
    }
    provenance.agree('teacher', facts)
    if has_checkpoint(workdir):
        what = f'the teacher in {directory}'
        provenance.check_same(workdir, TEACHER_FILE, facts, what, 'restore that teacher')
    return LoadedTeacher(
        variables,
        facts,
        f'the EMA weights of step {step} in {directory}, {teacher.image_size} pixels, digest '
        f'{facts["weights"]}',
    )


def weights_digest(variables: dict) -> str:
    """Returns 16 hexadecimal digits of SHA-256 over names, shapes, dtypes and bits of arrays."""
    digest = hashlib.sha256()
    for name, leaf in sorted(flax.traverse_util.flatten_dict(variables, sep='/').items()):
        digest.update(f'{name} {leaf.dtype} {leaf.shape}\n'.encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()[:16]


def write_teacher(workdir: str | os.PathLike, teacher: LoadedTeacher | None) -> None:
    """Writes teacher.json for a run that has one."""
    if teacher:
        provenance.write(workdir, TEACHER_FILE, teacher.facts)


def place_frozen(program: Program, teacher: LoadedTeacher | None) -> dict:
    """Returns `program.frozen` as arrays on the devices, {} without a teacher."""
    if teacher is None:
        return {}

    def place(like, leaf):
        return jax.make_array_from_callback(leaf.shape, like.sharding, leaf.__getitem__)

    return jax.tree.map(place, program.frozen, {'teacher': teacher.variables})
