"""The one table of settings: default, allowed values, meaning, and what changing a value means.

The defaults are the recipe of the paper (Bello et al. 2021, section 4; docs/fidelity.md compares
it with the public implementations). A config file starts from `default_config()` and changes what
its experiment changes.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from resnet_rs.config import relations
from resnet_rs.models.rules import RULES as NETWORK
from resnet_rs.utils.rules import (
    Rule,
    center_crop,
    choice,
    colour,
    duration,
    flag,
    interval,
    joined,
    number,
    subset,
    text,
    whole,
)

IMAGENET_MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)
LEAST_IMAGE_SIZE = 16  # half the networks' stride of 32: the smallest size that tests cover

AUGMENTATIONS = (
    'none',
    'randaugment',
    'randaugment_model_garden',
    'autoaugment_v0',
    'color_jitter_lighting',
)
RANDAUGMENT_OPERATIONS = (
    'AutoContrast',
    'Equalize',
    'Invert',
    'Rotate',
    'Posterize',
    'Solarize',
    'Color',
    'Contrast',
    'Brightness',
    'Sharpness',
    'ShearX',
    'ShearY',
    'TranslateX',
    'TranslateY',
    'Cutout',
    'SolarizeAdd',
)


class Change(enum.Enum):
    """What a run with another value of a setting is."""

    EXPERIMENT = 'another experiment; fixed when the run starts'
    SEED = 'another run of the same experiment; fixed when the run starts'
    EVALUATION = 'the same run, measured otherwise; may change on a resume'
    RESUME = 'the same run; may change on a resume'
    HOST = 'the same run; may change on a resume and differ between hosts'


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting.

    change: what a run with another value is.
    relation: a function of all settings, {name: value}, that returns why this one does not agree
      with another, or ''. It is called once every setting obeys its own rule.
    """

    default: Any
    rule: Rule
    meaning: str
    change: Change = Change.EXPERIMENT
    relation: Callable[[Mapping[str, Any]], str] | None = None


SETTINGS = {
    'seed': Setting(0, whole(0, 2**31 - 1), 'of all random draws', Change.SEED),
    'batch_size': Setting(
        4096, whole(0), 'images per optimiser step over all devices (the global batch); 0: a power '
        'of two from 8 to 256, by the number of training images'),
    'duration': Setting('350 epochs', duration(), 'length of training'),
    'init_from': Setting(
        '', text(), 'work directory whose EMA weights a new run starts from; empty: none'),

    'model.name': Setting('resnet_rs_50', NETWORK['name'], 'network'),
    'model.num_classes': Setting(
        1000, NETWORK['num_classes'], 'classes of the head; 0: as many as the dataset has'),
    'model.width_multiplier': Setting(
        1.0, NETWORK['width_multiplier'],
        'factor of all channel counts; the narrowest layer has 32'),
    'model.dropout_rate': Setting(0.25, NETWORK['dropout_rate'], 'dropout before the head'),
    'model.stochastic_depth_rate': Setting(
        0.0, NETWORK['stochastic_depth_rate'],
        'drop rate of the last stage; earlier stages have less'),
    'model.dtype': Setting(
        'bfloat16', NETWORK['dtype'],
        'of activations; parameters, statistics, logits and loss are float32 (or float64)'),
    'model.batch_norm_momentum': Setting(
        0.0, NETWORK['batch_norm_momentum'],
        "weight of the old running statistics; 0: the last batch's; 1: they stay as they are"),
    'model.batch_norm_epsilon': Setting(
        1e-5, NETWORK['batch_norm_epsilon'],
        "added to the variance; that of ResNets is fixed, EfficientNet's authors have 1e-3"),
    'model.batch_norm_group_size': Setting(
        0, NETWORK['batch_norm_group_size'],
        "examples that share batch statistics; 0: one group per device, as the authors' code, "
        'which does not synchronise cores; -1: the whole global batch',
        relation=relations.batch_norm_group_size),
    'model.activation': Setting('relu', NETWORK['activation'], 'swish: as TF Model Garden'),
    'model.padding': Setting(
        'symmetric', NETWORK['padding'],
        "of strided layers; same: as TF Model Garden and EfficientNet's authors"),
    'model.pool_unstrided_shortcut': Setting(
        False, NETWORK['pool_unstrided_shortcut'],
        'a stride-1 pool in the shortcut of stage 1, as TF Model Garden'),
    'model.squeeze_excite_divisor': Setting(
        1, NETWORK['squeeze_excite_divisor'],
        "of hidden widths; timm's se_resnet_18 and se_resnet_34 use 8"),
    'model.scan_blocks': Setting(
        False, NETWORK['scan_blocks'],
        'one loop over the blocks of a stage: compiles sooner (docs/deep_networks.md)',
        Change.RESUME),
    'model.remat': Setting(
        '', NETWORK['remat'],
        'what the backward pass recomputes to save memory (docs/deep_networks.md)', Change.RESUME,
        relation=relations.remat),

    'data.source': Setting(
        'tfds', choice('tfds', 'image_folder'), 'image_folder: data_dir/SPLIT/CLASS/**/FILE'),
    'data.name': Setting('imagenet2012', text(required=True), 'of the tfds set'),
    'data.data_dir': Setting(
        '', text(), 'where the data is; empty: $TFDS_DATA_DIR, then ~/tensorflow_datasets',
        Change.HOST, relations.data_dir),
    'data.allow_batch_beyond_epoch': Setting(
        False, flag(), 'let a batch have more images than the training split, some of them twice',
        Change.RESUME),
    'data.train_split': Setting('train', text(required=True), 'in the notation of tfds'),
    'data.eval_split': Setting(
        'validation', text(required=True), 'in the notation of tfds', Change.EVALUATION),
    'data.image_size': Setting(
        160, whole(LEAST_IMAGE_SIZE), 'side of a training image in pixels'),
    'data.resize': Setting(
        'bicubic_tf1', choice('bicubic_tf1', 'bicubic', 'bicubic_antialias', 'bilinear',
                              'bilinear_antialias', 'area'), 'interpolation'),
    'data.crop_area': Setting(
        (0.08, 1.0), interval(0, 1), 'of the training crop, as a fraction of the image'),
    'data.crop_ratio': Setting((3 / 4, 4 / 3), interval(0), 'width / height of the training crop'),
    'data.flip': Setting(True, flag(), 'mirror half of the training images'),
    'data.augment': Setting(
        'randaugment', joined(AUGMENTATIONS), 'augmentation; several are applied in turn'),
    'data.repeated_augmentation': Setting(
        1, whole(1), 'views of each example in a batch; an epoch is as many images as the split '
        'holds', relation=relations.repeated_augmentation),
    'data.randaugment_layers': Setting(2, whole(1, 16), 'operations per image'),
    'data.randaugment_magnitude': Setting(10, whole(0, 100), 'strength of every operation'),
    'data.randaugment_operations': Setting(
        (), subset((*RANDAUGMENT_OPERATIONS, 'Identity')),
        'to choose from; empty: all of the augmentation',
        relation=relations.randaugment_operations),
    'data.mixup_alpha': Setting(
        0.0, number(0), 'of Beta(alpha, alpha), drawn on the device; 0: off; with CutMix: each in '
        'half of the batches'),
    'data.cutmix_alpha': Setting(0.0, number(0), 'of Beta(alpha, alpha); 0: off'),
    'data.eval_crop': Setting(
        'padding 32', center_crop(), 'centre crop of evaluation: pixels that are left out, or the '
        'part that is kept', Change.EVALUATION),
    'data.mean_rgb': Setting(IMAGENET_MEAN_RGB, colour(), 'subtracted from pixels of 0 to 255'),
    'data.std_rgb': Setting(IMAGENET_STD_RGB, colour(positive=True), 'divides them then'),
    'data.corrupt_images': Setting(
        'fail', choice('fail', 'skip'),
        'skip: undecodable images are counted, named and no part of the loss '
        '(docs/input_pipeline.md)', Change.RESUME),
    'data.streams': Setting(
        64, whole(1), 'logical streams of a TFRecord set; lowered to a divisor of the batch'),
    'data.shuffle_window': Setting(
        128, whole(1), 'records of a TFRecord stream that are shuffled together'),
    'data.threads': Setting(0, whole(0), 'of the input pipeline; 0: one per core', Change.HOST),
    'data.prefetch_batches': Setting(2, whole(1), 'batches that are read ahead', Change.HOST),
    'data.cache': Setting(
        '', choice('', 'disk', 'memory'), "of encoded files: 'disk' copies both splits into "
        "cache_dir, 'memory' the training split", Change.HOST, relations.cache),
    'data.cache_dir': Setting(
        '', text(), 'a directory on a local disk', Change.HOST, relations.cache_dir),
    'data.host_memory_gib': Setting(
        16.0, number(0, above=True), 'what reading ahead and a cache in memory may take in one '
        'process', Change.HOST),

    'optimizer.learning_rate': Setting(0.1, number(0), 'per 256 images of global batch'),
    'optimizer.schedule': Setting(
        'cosine', choice('cosine', 'step', 'exponential'), 'of the learning rate'),
    'optimizer.decay_every': Setting(
        '2.4 epochs', duration(), 'between the steps of the exponential schedule'),
    'optimizer.decay_factor': Setting(
        0.97, number(0, 1, above=True), 'of each step of the exponential schedule'),
    'optimizer.warmup': Setting(
        '5 epochs', duration(may_be_zero=True), 'during which the rate rises from 0'),
    'optimizer.name': Setting(
        'sgd', choice('sgd', 'rmsprop'), "rmsprop: TensorFlow's, as EfficientNet is trained"),
    'optimizer.momentum': Setting(0.9, number(0, 1, below=True), 'of SGD and of RMSProp'),
    'optimizer.nesterov': Setting(
        False, flag(), "Nesterov's form of momentum, of SGD", relation=relations.nesterov),
    'optimizer.rmsprop_decay': Setting(
        0.9, number(0, 1, below=True), 'of the mean of squared gradients'),
    'optimizer.rmsprop_epsilon': Setting(
        1e-3, number(0, above=True), 'added to that mean, inside the root'),
    'optimizer.weight_decay': Setting(4e-5, number(0), 'times the weight joins the gradient'),
    'optimizer.weight_decay_on': Setting(
        'kernels_and_biases', choice('kernels_and_biases', 'kernels'),
        "kernels_and_biases: all but batch norm, as the authors' code"),
    'optimizer.label_smoothing': Setting(
        0.1, number(0, 1, below=True), 'part of the target that all classes share'),
    'optimizer.gradient_clip_norm': Setting(0.0, number(0), 'global norm; 0: off'),
    'optimizer.accumulation_steps': Setting(
        1, whole(1), 'micro-batches per optimiser step', relation=relations.accumulation_steps),

    'sharding.strategy': Setting(
        'data_parallel', choice('data_parallel', 'zero1', 'fsdp'),
        'zero1: optimiser state and EMA are sharded over the devices of a slice; fsdp: parameters '
        'too (docs/sharding.md)', Change.RESUME),
    'sharding.replicate_below': Setting(
        16384, whole(0), 'elements; smaller arrays are replicated', Change.RESUME),
    'sharding.slices': Setting(
        0, whole(0), 'TPU slices; 0: as the devices say', Change.RESUME),

    'ema.decay': Setting(
        0.9999, number(0, 1, below=True), 'of the average of weights and statistics'),

    'eval.batch_size': Setting(1024, whole(1), 'images over all devices', Change.RESUME),
    'eval.every': Setting('5 epochs', duration(), 'between evaluations', Change.RESUME),
    'eval.image_size': Setting(
        0, Rule(int, f'0 (data.image_size) or a whole number, {LEAST_IMAGE_SIZE} or more',
                lambda size: size == 0 or size >= LEAST_IMAGE_SIZE),
        'side of an evaluation image in pixels', Change.EVALUATION),

    'checkpoint.every': Setting('1 epochs', duration(), 'between checkpoints', Change.RESUME),
    'checkpoint.keep_last': Setting(2, whole(1), 'newest checkpoints to keep', Change.RESUME),
    'checkpoint.keep_best': Setting(
        1, whole(0), 'checkpoints with the best EMA top-1 to keep', Change.RESUME),

    'log.every': Setting('100 steps', duration(), 'between lines of metrics', Change.RESUME),

    'hosts.start_timeout_seconds': Setting(
        300, whole(1), 'within which every process has to start', Change.RESUME),
    'hosts.lost_after_seconds': Setting(
        60, whole(1), 'a process that does not answer for this long ends the others',
        Change.RESUME),
}  # fmt: skip


def default_config() -> ml_collections.ConfigDict:
    """Returns the default of every setting, as config.batch_size, config.model.name and so on."""
    config = ml_collections.ConfigDict()
    for name, setting in SETTINGS.items():
        group, _, key = name.rpartition('.')
        if group and group not in config:
            config[group] = ml_collections.ConfigDict()
        (config[group] if group else config)[key] = setting.default
    return config


def flatten(settings: Mapping, prefix: str = '') -> dict:
    """Returns {'a': {'b': 1}} as {'a.b': 1}."""
    flat = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = value
    return flat


def may_change_on_resume(name: str) -> bool:
    """Returns whether a resumed run may have another value: it learns the same from the same data.

    Settings that are no longer in the table may not.
    """
    return name in SETTINGS and SETTINGS[name].change not in (Change.EXPERIMENT, Change.SEED)


def may_differ_between_hosts(name: str) -> bool:
    """Returns whether the hosts of one run may have different values."""
    return SETTINGS[name].change is Change.HOST


def experiment_settings(config: ml_collections.ConfigDict) -> dict:
    """Returns the settings, {name: value}, that runs of one experiment share, whatever the seed."""
    return {
        name: value
        for name, value in flatten(config.to_dict()).items()
        if name in SETTINGS and SETTINGS[name].change in (Change.EXPERIMENT, Change.EVALUATION)
    }
