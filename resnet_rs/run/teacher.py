"""The teacher of a run: its weights, and WORKDIR/teacher.json, which says what they were.

A run that resumes with another teacher would be another run. So the file holds a digest of the
weights, and what else decides on the teacher's logits.
"""

import dataclasses
import hashlib
import json
import os

import flax.traverse_util
import jax
import ml_collections
import numpy as np
from etils import epath

from resnet_rs.hub.timm_repository import source_config
from resnet_rs.multihost import consistency, hosts
from resnet_rs.run.preflight import has_checkpoint
from resnet_rs.run.source import open_source
from resnet_rs.training.steps import Program
from resnet_rs.training.teacher import create_teacher
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.files import read_json, replacing

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
    first = json.loads(hosts.gather('teacher', json.dumps(facts))[0])
    consistency.agree('same teacher', consistency.first_difference(facts, first))
    if has_checkpoint(workdir):
        _check_same_teacher(workdir, directory, facts)
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
    """Writes teacher.json for a run that has one; process 0 does it for all."""
    if teacher is None or jax.process_index() != 0:
        return
    with replacing(epath.Path(workdir) / TEACHER_FILE) as partial:
        partial.write_text(json.dumps(teacher.facts, indent=2) + '\n')


def place_frozen(program: Program, teacher: LoadedTeacher | None) -> dict:
    """Returns `program.frozen` as arrays on the devices, {} without a teacher."""
    if teacher is None:
        return {}

    def place(like, leaf):
        return jax.make_array_from_callback(leaf.shape, like.sharding, leaf.__getitem__)

    return jax.tree.map(place, program.frozen, {'teacher': teacher.variables})


def _check_same_teacher(workdir, directory, facts):
    path = epath.Path(workdir) / TEACHER_FILE
    remedy = 'restore it, or use another --workdir'
    stored = read_json(path, remedy)
    if not isinstance(stored, dict):
        raise UserError(f'{path} is damaged: it holds no object; {remedy}')
    for name, value in facts.items():
        if stored.get(name) != value:
            raise UserError(
                f'the teacher in {directory} is not the one with which {workdir} was started: its '
                f'{name} was {stored.get(name)} and is {value}; restore that teacher, or use a new '
                '--workdir'
            )
