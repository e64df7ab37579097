"""Relations between settings, for the table in `resnet_rs.config`.

Each function takes all settings, {name: value}, whose own rules hold already. It returns why
settings conflict and what to do, or ''.
"""

from collections.abc import Mapping
from typing import Any

from resnet_rs.models.families import family_of

FILES_OF_SOURCES = {
    'image_folder': 'SPLIT/CLASS/*.jpg',
    'video_folder': 'SPLIT/CLASS/VIDEO/*.jpg or SPLIT/CLASS/VIDEO.mp4',
    'sequence_examples': 'SPLIT-NUMBER.tfrecord',
}
# Labels that datasets.computed_labels computes.
LABELS = (
    'count_all',
    'closest_object_distance',
    'closest_vehicle_distance',
    'x_position',
    'orientation',
    'azimuth',
    'elevation',
)
# The least part of an image that a random crop covers: min_object_covered of the authors' code.
LEAST_CROP_AREA = 0.1
VIDEO_SOURCES = ('video_folder', 'sequence_examples')
DEFAULT_EVALUATION = 'eval'  # its settings are eval.*, data.eval_split and data.eval_crop


def accumulation_steps(settings: Mapping[str, Any]) -> str:
    return _divides(settings, 'optimizer.accumulation_steps', settings['batch_size'], 'batch_size')


def batch_norm_group_size(settings: Mapping[str, Any]) -> str:
    if settings['model.batch_norm_group_size'] < 1:
        return ''
    micro_batch = settings['batch_size'] // settings['optimizer.accumulation_steps']
    return _divides(
        settings,
        'model.batch_norm_group_size',
        micro_batch,
        'batch_size / optimizer.accumulation_steps',
    )


def objective(settings: Mapping[str, Any]) -> str:
    chosen = settings['objective']
    for name, setting, what, source in (
        ('distillation', 'distillation.teacher', 'teacher', 'work directory of a trained network'),
        ('pseudo_labels', 'pseudo_labels.file', 'pseudo-labels', 'file of resnet_rs.pseudo_label'),
    ):
        value = settings[setting]
        if chosen == name and not value:
            return (
                f'objective is {name!r}, but {setting} is empty; name the {source} with '
                f'--config.{setting}'
            )
        if value and chosen != name:
            return (
                f'{setting} is {value!r}, but objective is {chosen!r}, which has no {what}; use '
                f'--config.objective={name}'
            )
    return ''


def distillation_form(settings: Mapping[str, Any]) -> str:
    return _no_temperature_of_hard_labels(settings, 'distillation')


def pseudo_label_temperature(settings: Mapping[str, Any]) -> str:
    return _no_temperature_of_hard_labels(settings, 'pseudo_labels')


def _no_temperature_of_hard_labels(settings: Mapping[str, Any], group: str) -> str:
    temperature = settings[f'{group}.temperature']
    if settings[f'{group}.form'] != 'hard' or temperature == 1:
        return ''
    return (
        f"{group}.temperature is {temperature}, but {group}.form is 'hard', which has none; use "
        f'--config.{group}.temperature=1'
    )


def repeated_augmentation(settings: Mapping[str, Any]) -> str:
    return _divides(settings, 'data.repeated_augmentation', settings['batch_size'], 'batch_size')


def network(settings: Mapping[str, Any]) -> str:
    """Returns which setting of residual networks has no effect on this one."""
    name = settings['model.name']
    family = family_of(name)
    parts = family.names[name]
    shortcut = parts.get('shortcut', 'projection' if family.clips else '')
    if settings['model.pool_unstrided_shortcut'] and shortcut == 'projection':
        return (
            f'model.pool_unstrided_shortcut is True, but the shortcuts of {name} have no pool; '
            'use --config.model.pool_unstrided_shortcut=False'
        )
    divisor = settings['model.squeeze_excite_divisor']
    if divisor > 1 and 'stem' in parts and not parts.get('squeeze_excite_ratio'):
        return (
            f'model.squeeze_excite_divisor is {divisor}, but {name} has no squeeze-excite; use '
            '--config.model.squeeze_excite_divisor=1'
        )
    return ''


def remat(settings: Mapping[str, Any]) -> str:
    names, network = settings['model.remat'].split(','), settings['model.name']
    stages = len(family_of(network).names[network].get('stage_sizes', ()))
    if len(names) in (1, stages):
        return ''
    return (
        f'model.remat is {settings["model.remat"]!r}, which has {len(names)} names; give one, '
        f'or one for each of the {stages} stages, with --config.model.remat'
    )


def frames(settings: Mapping[str, Any]) -> str:
    network, count = settings['model.name'], settings['data.frames']
    takes_clips = family_of(network).clips
    if takes_clips and count < 2:
        return (
            f'model.name is {network!r}, a network for clips, but data.frames is {count}; give the '
            'frames of a clip, for instance --config.data.frames=32'
        )
    if count > 1 and not takes_clips:
        return (
            f'data.frames is {count}, but model.name is {network!r}, a network for images; use a '
            'network for clips, such as --config.model.name=resnet_3d_rs_50, or single frames: '
            '--config.data.frames=1'
        )
    if count and settings['objective'] != 'supervised':
        return (
            f'data.frames is {count}, but objective is {settings["objective"]!r}, which takes '
            'images; use --config.objective=supervised'
        )
    source = settings['data.source']
    if not count and source in VIDEO_SOURCES:
        return f'data.source is {source!r}, but data.frames is 0; give the frames of a clip'
    return ''


def nesterov(settings: Mapping[str, Any]) -> str:
    if not settings['optimizer.nesterov'] or settings['optimizer.name'] != 'rmsprop':
        return ''
    return (
        'optimizer.nesterov is True, but optimizer.name is rmsprop, whose momentum has no such '
        'form; use --config.optimizer.nesterov=False'
    )


def randaugment_operations(settings: Mapping[str, Any]) -> str:
    chosen = settings['data.randaugment_operations']
    augmentations = settings['data.augment'].split('+')
    fixed = [name for name in augmentations if name.startswith('autoaugment')]
    if not chosen or not fixed:
        return ''
    return (
        f'data.randaugment_operations is {chosen}, but {fixed[0]} has a fixed table of '
        "operations; use --config.data.randaugment_operations='()' or "
        '--config.data.augment=randaugment'
    )


def crop_area(settings: Mapping[str, Any]) -> str:
    area = settings['data.crop_area']
    if area[1] > LEAST_CROP_AREA or settings['data.train_crop'] != 'random':
        return ''
    return (
        f'data.crop_area is {area}, but no random crop is smaller than {LEAST_CROP_AREA} of an '
        'image; use a larger upper bound, such as --config.data.crop_area=(0.08,1.0)'
    )


def data_dir(settings: Mapping[str, Any]) -> str:
    source = settings['data.source']
    if source == 'tfds' or settings['data.data_dir']:
        return ''
    return (
        f'data.source is {source!r}, but data.data_dir is empty; name the folder that holds '
        f'{FILES_OF_SOURCES[source]} with --config.data.data_dir'
    )


def computed_label(settings: Mapping[str, Any]) -> str:
    if not settings['data.label'] or settings['data.source'] == 'tfds':
        return ''
    return (
        f'data.label is {settings["data.label"]!r}, which is computed from features of a tfds set, '
        f'but data.source is {settings["data.source"]!r}; use --config.data.label='
    )


def cache(settings: Mapping[str, Any]) -> str:
    if settings['data.cache'] and settings['data.source'] == 'video_folder':
        return (
            f'data.cache is {settings["data.cache"]!r}, which does not copy the folders of videos; '
            'use --config.data.cache='
        )
    if settings['data.cache'] != 'memory' or settings['data.source'] != 'image_folder':
        return ''
    return (
        "data.cache is 'memory', which is for sets of records, not for image folders; use "
        '--config.data.cache=disk, or prepare the images as a tfds set'
    )


def cache_dir(settings: Mapping[str, Any]) -> str:
    if settings['data.cache'] != 'disk' or settings['data.cache_dir']:
        return ''
    return (
        "data.cache is 'disk', but data.cache_dir is empty; name a directory on a local disk "
        'with --config.data.cache_dir'
    )


def best_by(settings: Mapping[str, Any]) -> str:
    chosen = settings['checkpoint.best_by']
    names = [DEFAULT_EVALUATION]
    names += sorted({name.split('.')[1] for name in settings if name.startswith('evals.')})
    if chosen in names:
        return ''
    return (
        f'checkpoint.best_by is {chosen!r}; it takes the name of an evaluation: '
        f'{", ".join(names)}, or another one that is defined as config.evals.NAME'
    )


def _divides(settings: Mapping[str, Any], name: str, total: int, of_what: str) -> str:
    if total % settings[name] == 0:
        return ''
    return (
        f'{name} is {settings[name]}, which does not divide {of_what}={total}; make '
        f'--config.{name} a divisor of it'
    )
