"""The probabilities of a network for every image of a split, kept in parts until all are there.

While FILE is being made, FILE.parts holds the results of `save_every` batches in each file, and
facts.json, which says what they were made from: an interrupted command resumes after its last part.
"""

import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Callable

import jax
import ml_collections
import numpy as np
from absl import logging

from resnet_rs.config import eval_image_size
from resnet_rs.config.validation import check_settings
from resnet_rs.datasets.file_cache import check_cache
from resnet_rs.datasets.locate import as_path, find_dataset
from resnet_rs.datasets.pipeline import EvalBatches
from resnet_rs.datasets.pseudo_labels import Description, PseudoLabels, data_digest
from resnet_rs.datasets.splits import DatasetInfo, SplitInfo
from resnet_rs.hub.timm_repository import source_config
from resnet_rs.multihost import hosts
from resnet_rs.run.class_names import stored_class_names
from resnet_rs.run.source import open_source
from resnet_rs.run.teacher import weights_digest
from resnet_rs.training.inference import create_output_step, outputs_of
from resnet_rs.training.networks import model_of, variable_shapes
from resnet_rs.training.sharding import check_divides, create_mesh, replicated
from resnet_rs.utils.errors import UserError, count_of
from resnet_rs.utils.files import read_json, replacing

FACTS = 'facts.json'
REMEDY = 'delete it to begin anew, or name another --output'


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a split.

    config: a configuration whose evaluation split they are, at the resolution of evaluation.
    """

    config: ml_collections.ConfigDict
    info: DatasetInfo
    split: SplitInfo

    def batches(self) -> EvalBatches:
        """Returns the images once, in order, each process reads its part."""
        return EvalBatches(
            self.config,
            self.split.name,
            self.config.eval.batch_size,
            eval_image_size(self.config),
            jax.process_index(),
            jax.process_count(),
        )


def settings_of(options) -> dict:
    """Returns the settings for `find_images` that the arguments of a command give."""
    return {
        'data.source': options.source,
        'data.name': options.data,
        'data.data_dir': options.data_dir,
        'data.classes': options.classes and tuple(options.classes),
        'eval.batch_size': options.batch_size,
        'eval.image_size': options.image_size,
    }


def find_images(workdir: str | os.PathLike, split: str, settings: dict | None = None) -> Images:
    """Returns the images of a split, preprocessed as the network in `workdir` was evaluated.

    `settings` are {name: value} in place of those of its configuration; a value of None replaces
    nothing. Of other data it takes their own label and all classes, and they are images even where
    the network learnt from single frames of videos. Raises UserError for settings that the table
    does not allow, for data or a split that do not exist, for videos, and for a network for clips.
    """
    config = source_config(workdir).copy_and_resolve_references().unlock()
    if config.data.frames > 1:
        raise UserError(
            f'{config.model.name} in {workdir} takes clips of {config.data.frames} frames, and '
            'labelling and probes are for networks for images; name another --workdir'
        )
    data = _kind_of(config.data)
    settings = {name: value for name, value in (settings or {}).items() if value is not None}
    config.update_from_flattened_dict(settings)
    if data != _kind_of(config.data):
        # A label is computed from features of one set, and classes are numbers in one set.
        config.data.label = ''
        config.data.classes = settings.get('data.classes', ())
        config.data.update(frames=0, frame_stride=1)
        config.eval.update(clips=1, crops=1)
    if config.data.frames:
        raise UserError(
            f'the network in {workdir} was evaluated on videos (data.frames is 1), and labelling '
            'and probes are for images; name other data with --source, --data and --data_dir'
        )
    config.data.train_split = config.data.eval_split = split
    if config.data.cache == 'memory':
        config.data.cache = ''
    check_settings(config)
    info = find_dataset(config.data)
    check_cache(info, config.data)
    return Images(config.lock(), info, info.split(split))


def _kind_of(data: ml_collections.ConfigDict) -> tuple[str, str]:
    """Returns the source and the name of a set, without its version."""
    return data.source, data.name.partition(':')[0]


def label_images(
    workdir: str | os.PathLike,
    checkpoint: str,
    images: Images,
    output: str | os.PathLike,
    *,
    top: int = 0,
    save_every: int = 100,
) -> PseudoLabels:
    """Returns the EMA network's probabilities for all `images`, and writes them to `output`.

    Args:
      workdir: the work directory of the network, the teacher, or 'hf:OWNER/NAME'.
      checkpoint: 'last', 'best' or a step.
      images: to label.
      output: an .npz file, which is read if it exists.
      top: how many of the likeliest classes to keep; 0 for all.
      save_every: batches between two saves.

    Raises UserError before it computes anything if `output` or its parts are of another teacher or
    of other images, and RuntimeError if not every image was labelled once.
    """
    config = source_config(workdir)
    classes = config.model.num_classes
    top = 0 if top >= classes else top
    mesh = create_mesh()
    batch_size = images.config.eval.batch_size
    check_divides('--batch_size', batch_size, mesh.size, count_of(mesh.size, 'device'))
    variables, step = load_network(workdir, checkpoint, mesh)
    description = _describe(workdir, step, variables, images)
    path = as_path(os.fspath(output))
    if path.exists():
        found = PseudoLabels.read(path)
        stored = found.probabilities.shape[1]
        if found.description != description or stored != (top or classes):
            raise UserError(
                f'{path} holds other probabilities than this command would write: of {stored} '
                f'classes by {found.description.teacher}, for {found.description.split} of '
                f'{found.description.name}; {REMEDY}'
            )
        return found
    parts = path.with_name(f'{path.name}.parts')
    facts = dataclasses.asdict(description) | {
        'top': top,
        'batch_size': batch_size,
        'processes': jax.process_count(),
        'image_size': eval_image_size(images.config),
    }
    done = _resume(parts, json.loads(json.dumps(facts)))
    batches = images.batches()
    output_step = _compiled_together(create_output_step(images.config, mesh, 'probabilities', top))
    rows, first = [], done
    for number, found in enumerate(
        outputs_of(output_step, variables, batches.from_batch(done), mesh), start=done + 1
    ):
        if not np.isfinite(found['probabilities']).all():
            raise UserError(
                f'the network in {workdir} has probabilities that are not finite; check its '
                'weights and its dtype (model.dtype in its config.json)'
            )
        rows.append(found)
        if number - first == save_every or number == len(batches):
            _save(parts, first, number, rows)
            rows, first = [], number
            logging.info('labelled %d of %s', number, count_of(len(batches), 'batch'))
    hosts.barrier('all images labelled')
    labels = _joined(parts, description, images.split.num_examples)
    hosts.barrier('all parts read')
    if jax.process_index() == 0:
        labels.write(path)
        for part in parts.iterdir():
            part.unlink()
        parts.rmdir()
    return labels


def _compiled_together(step: Callable) -> Callable:
    """Returns `step`, which every process has compiled before any process runs it.

    The first collective of a program waits half a minute for the other processes and then fails.
    """
    compiled = []

    def call(variables, batch):
        if not compiled:
            compiled.append(step.lower(variables, batch).compile())
            hosts.barrier('labelling compiled')
        return compiled[0](variables, batch)

    return call


def load_network(
    workdir: str | os.PathLike, checkpoint: str, mesh: jax.sharding.Mesh
) -> tuple[dict, int]:
    """Returns the EMA weights of a checkpoint, replicated over `mesh`, and its step."""
    config = source_config(workdir)
    model = model_of(config, batch_norm_group_size=None, scan_blocks=False)
    with open_source(workdir, config.checkpoint.best_by) as source:
        step = source.find(checkpoint)
        like = variable_shapes(model, replicated(mesh))
        return source.restore_weights(step, like, ('ema',))['ema'], step


def _describe(workdir, step: int, variables: dict, images: Images) -> Description:
    """Returns the facts that determine the labels."""
    config, data = source_config(workdir), images.config.data
    size, classes = eval_image_size(images.config), config.model.num_classes
    digest = weights_digest(jax.device_get(variables))
    return Description(
        teacher=f'{config.model.name}, step {step}, {size} pixels, crop {data.eval_crop}, digest '
        + digest,
        source=data.source,
        name=data.name if data.source == 'tfds' else '',
        split=images.split.name,
        data=data_digest(images.info, images.split),
        class_names=stored_class_names(workdir, classes),
        num_classes=classes,
        classes=tuple(data.classes),
        label=data.label,
    )


def _resume(parts: pathlib.Path, facts: dict) -> int:
    """Returns the batches that `parts` has; raises UserError where they are of other `facts`."""
    if jax.process_index() == 0 and not (parts / FACTS).exists() and not _ranges(parts):
        parts.mkdir(parents=True, exist_ok=True)
        with replacing(parts / FACTS) as partial:
            partial.write_text(json.dumps(facts, indent=2) + '\n')
    # Every process waits here, whether process 0 has just written the facts or found them.
    hosts.barrier('labelling begun')
    stored = read_json(parts / FACTS, REMEDY)
    different = [name for name in facts if stored.get(name) != facts[name]]
    if different:
        name = different[0]
        raise UserError(
            f'{parts} was begun with {name} = {stored.get(name)!r}, not {facts[name]!r}; {REMEDY}'
        )
    return max((stop for _, stop in _ranges(parts)), default=0)


def _ranges(parts: pathlib.Path) -> list[tuple[int, int]]:
    """Returns (first batch, batch after the last) of every whole part, in order."""
    names = (path.stem.split('-') for path in parts.glob('*.npz'))
    return sorted((int(first), int(stop)) for first, stop in names)


def _save(parts: pathlib.Path, first: int, stop: int, rows: list[dict]) -> None:
    if jax.process_index() != 0:
        return
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.concatenate([row[name] for row in rows]) for name in rows[0]})
    with replacing(parts / f'{first:08d}-{stop:08d}.npz') as partial:
        partial.write_bytes(buffer.getbuffer())


def _joined(parts: pathlib.Path, description: Description, examples: int) -> PseudoLabels:
    """Returns the contents of all parts by example; raises RuntimeError unless each is there once.

    Images that cannot be decoded (data.corrupt_images = 'skip') count, with mask False.
    """
    arrays, seen = {}, np.zeros(examples, np.int64)
    for first, stop in _ranges(parts):
        name = f'{first:08d}-{stop:08d}.npz'
        with (parts / name).open('rb') as file, np.load(file) as part:
            rows = {name: part[name] for name in part.files}
        index = rows.pop('index')
        real = index >= 0  # the last batches are filled up
        np.add.at(seen, index[real], 1)
        for name, values in rows.items():
            if name not in arrays:
                arrays[name] = np.zeros((examples, *values.shape[1:]), values.dtype)
            arrays[name][index[real]] = values[real]
    if not (seen == 1).all():
        raise RuntimeError(
            f'{int((seen == 1).sum())} of {examples} examples were labelled once; there are '
            f'{int(seen.sum())} labels'
        )
    arrays['mask'] = arrays['mask'] > 0
    return PseudoLabels(description, **{'classes': None, **arrays})
