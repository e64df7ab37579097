"""timm's repositories on the Hub: the network, its preprocessing, the names of its classes.

Source: timm 1.0.31, models/_hub.py, for the layout of config.json. This module imports neither
JAX nor TensorFlow.
"""

import dataclasses
import difflib
import os

import ml_collections

from resnet_rs.config import default_config, flatten, setting_of
from resnet_rs.config.stored import read_config, stored_config_of
from resnet_rs.convert.image_sizes import IMAGE_SIZES
from resnet_rs.datasets.imagenet_classes import imagenet_names
from resnet_rs.hub.download import CONFIG, Repository, fetch, is_hub_name, parse_name
from resnet_rs.hub.timm_networks import TIMM_NETWORKS, TimmNetwork
from resnet_rs.utils.errors import UserError, count_of
from resnet_rs.utils.files import read_json
from resnet_rs.utils.rules import SQUASH

KERNELS = {'bicubic': 'bicubic_antialias', 'bilinear': 'bilinear_antialias'}  # of Pillow
# Arguments of timm's constructors that do not change what a trained network computes.
HARMLESS_ARGUMENTS = ('num_classes', 'drop_rate', 'drop_path_rate', 'drop_block_rate')
# Those that do, with the one value that this project has; timm writes them into every file.
FIXED_ARGUMENTS = {'in_chans': 3, 'global_pool': 'avg'}


@dataclasses.dataclass(frozen=True)
class Description:
    """The content of the config.json of a repository.

    repository: the repository at the commit that was read.
    network: this project's network for timm's architecture.
    config: a run's configuration that builds and evaluates it.
    class_names: in the order of the logits; empty if they are unknown.
    notes: where it differs from the defaults of this project.
    """

    repository: Repository
    network: TimmNetwork
    config: ml_collections.ConfigDict
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def source_config(source: str | os.PathLike) -> ml_collections.ConfigDict:
    """Returns the configuration of the network in a work directory or in 'hf:OWNER/NAME', locked.

    Raises UserError for a directory without a run, for a damaged config.json, and for a repository
    that cannot be downloaded or whose network this project does not have.
    """
    return describe(source).config if is_hub_name(source) else stored_config_of(source)


def find_source_config(source: str | os.PathLike) -> ml_collections.ConfigDict | None:
    """Returns `source_config`, or None for a directory without a run."""
    return describe(source).config if is_hub_name(source) else read_config(source)


def describe(source: str | os.PathLike) -> Description:
    """Returns the content of config.json of the repository 'hf:OWNER/NAME'."""
    repository = parse_name(source)
    file = fetch(repository, CONFIG)
    repository = dataclasses.replace(repository, revision=file.commit)
    stored = read_json(file.path, 'use another repository')
    try:
        return _description(stored, repository)
    except UserError as error:
        raise UserError(f'{CONFIG} of {repository}: {error}') from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f'{CONFIG} of {repository} is not as timm writes it ({type(error).__name__}: '
            f'{error}); use a repository of timm'
        ) from error


def _description(stored: dict, repository: Repository) -> Description:
    architecture = stored['architecture']
    described = stored.get('pretrained_cfg', stored)  # older files have one level
    network = _network(architecture)
    for name, value in sorted(stored.get('model_args', {}).items()):
        if name not in HARMLESS_ARGUMENTS and value != FIXED_ARGUMENTS.get(name):
            raise UserError(
                f'timm builds {architecture} with {name}={value!r}, which this project lacks'
            )
    if described.get('label_offset'):
        raise UserError('its classes begin after an offset, which this project does not have')
    classes = stored.get('num_classes', described['num_classes'])
    if not classes:
        raise UserError('it has no classifier; use a repository of a classifier')
    config = default_config()
    config.model.update({'name': network.name, 'num_classes': classes, **network.settings})
    config.data.update(_data(described))
    if test_size := described.get('test_input_size'):
        config.eval.image_size = _side(test_size)
    for name, value in flatten(config.to_dict()).items():
        setting_of(name).rule.check(name, value)
    names = _class_names(stored, described, classes)
    return Description(repository, network, config.lock(), names, _notes(config))


def _network(architecture: str) -> TimmNetwork:
    if architecture in TIMM_NETWORKS:
        return TIMM_NETWORKS[architecture]
    near = difflib.get_close_matches(str(architecture), TIMM_NETWORKS, n=1)
    raise UserError(
        f'the architecture {architecture!r} is none of the {len(TIMM_NETWORKS)} of timm that this '
        f'project has{f" (similar: {near[0]})" if near else ""}; docs/library.md lists them'
    )


def _data(described: dict) -> dict:
    """Returns the settings of config.data, with the crop of the size of evaluation."""
    if (kernel := described['interpolation']) not in KERNELS:
        raise UserError(
            f'its interpolation is {kernel!r}; this project has {" and ".join(KERNELS)} of Pillow'
        )
    crop = described['crop_pct']
    if described.get('test_input_size') and described.get('test_crop_pct'):
        crop = described['test_crop_pct']
    mode = described.get('crop_mode', 'center')
    if mode != 'center' and not (mode == SQUASH and crop == 1):
        raise UserError(
            f"its crop_mode is {mode!r}; this project has 'center', and {SQUASH!r} with a crop_pct "
            'of 1'
        )
    return {
        'image_size': _side(described['input_size']),
        'eval_crop': SQUASH if mode == SQUASH else f'fraction {crop:g}',
        'resize': KERNELS[kernel],
        'mean_rgb': tuple(255.0 * value for value in described['mean']),
        'std_rgb': tuple(255.0 * value for value in described['std']),
    }


def _side(size: list[int]) -> int:
    channels, height, width = size
    if channels != 3 or height != width:
        raise UserError(f'its input is {size}; this project takes square images of 3 channels')
    return height


def _class_names(stored: dict, described: dict, classes: int) -> tuple[str, ...]:
    names = stored.get('label_names') or described.get('label_names') or described.get('labels')
    if not names:
        known = tuple(imagenet_names())
        return known if classes == len(known) else ()
    if isinstance(names, dict):
        names = [names[str(number)] for number in range(classes)]
    if len(names) != classes or not all(isinstance(name, str) for name in names):
        raise UserError(
            f'its label_names are {count_of(len(names), "name")} for {count_of(classes, "class")}'
        )
    return tuple(' '.join(name.split()) for name in names)


def _notes(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Returns remarks on a size and a normalisation that are not this project's own."""
    notes = []
    ours, size = IMAGE_SIZES.get(config.model.name), config.data.image_size
    if ours not in (None, size):
        notes.append(f'trained with {size} pixels, where this project expects {ours}')
    for name in ('mean_rgb', 'std_rgb'):
        if config.data[name] != setting_of(f'data.{name}').default:
            notes.append(f"data.{name} is {config.data[name]}, not ImageNet's")
    return tuple(notes)
