"""The table of settings: default, allowed values, meaning, and what changing a value means.

The defaults are the recipe of the paper (Bello et al. 2021, section 4; docs/fidelity.md compares
it with the public implementations). A config file starts from `default_config()`.
"""

from collections.abc import Mapping

import ml_collections

from resnet_rs.config import clips, mixture, relations, second_crop
from resnet_rs.config.augmentations import AUGMENTATIONS, RANDAUGMENT_OPERATIONS
from resnet_rs.config.setting import Change, Setting
from resnet_rs.config.trainable import trainable
from resnet_rs.models.rules import RULES as NETWORK
from resnet_rs.utils.rules import (
    Rule,
    center_crop,
    checkpoint,
    choice,
    colour,
    duration,
    flag,
    fractions_of_run,
    interval,
    joined,
    number,
    optional,
    subset,
    text,
    whole,
    whole_numbers,
)

IMAGENET_MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)
LEAST_IMAGE_SIZE = 16  # half the networks' stride of 32: the smallest size that tests cover

SETTINGS = {
    'seed': Setting(0, whole(0, 2**31 - 1), 'seed of all random draws', Change.SEED),
    'batch_size': Setting(
        4096, whole(0), 'images per optimiser step over all devices (the global batch); 0: a power '
        'of two from 8 to 256 that depends on the number of training images'),
    'duration': Setting('350 epochs', duration(), 'length of training'),
    'init_from': Setting(
        '', text(), "work directory whose EMA weights a new run starts from, or a network of the "
        "Hub, 'hf:OWNER/NAME'; empty: none"),
    'objective': Setting(
        'supervised', choice('supervised', 'distillation', 'pseudo_labels'),
        'labels alone, labels and a teacher, or labels and pseudo-labels (docs/objectives.md)',
        relation=relations.objective),
    'trainable': Setting(
        'all', trainable(), 'parameters that learn, and until when (docs/objectives.md)'),
    'frozen_statistics': Setting(
        'stored', choice('stored', 'batch'),
        'stored: modules that do not learn run as in evaluation; batch: as in training, so that '
        'their statistics change'),

    'model.name': Setting('resnet_rs_50', NETWORK['name'], 'network', relation=relations.network),
    'model.num_classes': Setting(
        1000, NETWORK['num_classes'], "classes of the head; 0: the dataset's number of classes"),
    'model.width_multiplier': Setting(
        1.0, NETWORK['width_multiplier'], 'factor of all channels; the narrowest layer has 32'),
    'model.dropout_rate': Setting(0.25, NETWORK['dropout_rate'], 'dropout before the head'),
    'model.stochastic_depth_rate': Setting(
        0.0, NETWORK['stochastic_depth_rate'],
        'drop rate of the last stage; earlier stages have lower rates'),
    'model.dtype': Setting(
        'bfloat16', NETWORK['dtype'],
        'dtype of activations; parameters, statistics, logits and loss are float32 (or float64); '
        'float64 needs JAX_ENABLE_X64=1 in the environment'),
    'model.batch_norm_momentum': Setting(
        0.0, NETWORK['batch_norm_momentum'],
        'weight of the old running statistics; 0: they are those of the last batch; 1: they never '
        'change'),
    'model.batch_norm_epsilon': Setting(
        1e-5, NETWORK['batch_norm_epsilon'],
        "epsilon of batch norm; ResNets have 1e-5, EfficientNet's authors 1e-3"),
    'model.batch_norm_group_size': Setting(
        0, NETWORK['batch_norm_group_size'],
        "examples that share batch statistics; 0: one group per device, as in the authors' code; "
        '-1: the whole global batch',
        relation=relations.batch_norm_group_size),
    'model.initializer': Setting(
        'truncated_normal', NETWORK['initializer'],
        'initializer of the kernels of convolutions and head. truncated_normal: variance 1 / fan '
        'in; he_normal: 2 / fan out; xavier_uniform: 2 / (fan in + fan out)'),
    'model.zero_gamma': Setting(
        True, NETWORK['zero_gamma'], 'start the scale of the last norm of every block at 0'),
    'model.output_stride': Setting(
        32, NETWORK['output_stride'],
        'stride of the last stage in pixels; with 8 or 16, later stages are dilated, not strided'),
    'model.drop_block_rate': Setting(
        0.0, NETWORK['drop_block_rate'],
        'fraction of values that DropBlock drops in the last two stages of a ResNeSt at the end of '
        'training; it rises linearly from 0'),
    'model.activation': Setting(
        'relu', NETWORK['activation'], 'activation function; TF Model Garden has swish'),
    'model.padding': Setting(
        'symmetric', NETWORK['padding'],
        "padding of strided layers; TF Model Garden and EfficientNet's authors have same"),
    'model.pool_unstrided_shortcut': Setting(
        False, NETWORK['pool_unstrided_shortcut'],
        'add a stride-1 pool to the shortcut of stage 1, as in TF Model Garden'),
    'model.squeeze_excite_divisor': Setting(
        1, NETWORK['squeeze_excite_divisor'],
        "divisor of squeeze-excite's hidden widths; 8 for timm's se_resnet_18 and se_resnet_34"),
    'model.scan_blocks': Setting(
        False, NETWORK['scan_blocks'],
        'loop over the blocks of a stage, which compiles faster (docs/deep_networks.md)',
        Change.RESUME),
    'model.remat': Setting(
        '', NETWORK['remat'],
        'rematerialisation: what the backward pass recomputes to save memory '
        '(docs/deep_networks.md)', Change.RESUME, relation=relations.remat),

    'data.source': Setting(
        'tfds', choice('tfds', *relations.FILES_OF_SOURCES), 'form of the data (docs/video.md)'),
    **clips.OF_DATA,
    'data.name': Setting('imagenet2012', text(required=True), 'name of the tfds set'),
    'data.data_dir': Setting(
        '', text(), 'directory of the data; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets',
        Change.HOST, relations.data_dir),
    'data.allow_batch_beyond_epoch': Setting(
        False, flag(), 'allow a batch larger than the training split, which repeats images',
        Change.RESUME),
    'data.train_split': Setting(
        'train', text(required=True),
        "training split in the notation of tfds; 'train, 100 per class, seed 0' draws images"),
    'data.eval_split': Setting(
        'validation', text(required=True), 'evaluation split in the notation of tfds',
        Change.EVALUATION),
    'data.label': Setting(
        '', choice('', *relations.LABELS),
        "label computed from other features of a tfds set, as VTAB's tasks have; empty: its own",
        relation=relations.computed_label),
    'data.classes': Setting(
        (), whole_numbers(),
        'numbers of the classes to use, which are numbered anew in this order; empty: all'),
    'data.image_size': Setting(
        160, whole(LEAST_IMAGE_SIZE), 'side of a training image in pixels'),
    'data.resize': Setting(
        'bicubic_tf1', choice('bicubic_tf1', 'bicubic', 'bicubic_antialias', 'bilinear',
                              'bilinear_antialias', 'area'), 'interpolation'),
    'data.crop_area': Setting(
        (0.08, 1.0), interval(0, 1), 'area of the training crop, as a fraction of the image; crops '
        "of less than 0.1 are never drawn, as in the authors' code", relation=relations.crop_area),
    'data.crop_ratio': Setting((3 / 4, 4 / 3), interval(0), 'width / height of the training crop'),
    'data.train_crop': Setting(
        'random', choice('random', 'evaluation'),
        'crop of training images; evaluation: the same as in evaluation (data.eval_crop)',
        relation=clips.crops),
    'data.flip': Setting(True, flag(), 'mirror half of the training images'),
    'data.augment': Setting(
        'randaugment', joined(AUGMENTATIONS),
        'augmentation, the same for all frames of a clip; several are applied in turn'),
    'data.repeated_augmentation': Setting(
        1, whole(1), 'views of each example in a batch; an epoch keeps its number of images',
        relation=relations.repeated_augmentation),
    'data.randaugment_layers': Setting(2, whole(1, 16), 'operations per image'),
    'data.randaugment_magnitude': Setting(10, whole(0, 100), 'strength of every operation'),
    'data.randaugment_operations': Setting(
        (), subset((*RANDAUGMENT_OPERATIONS, 'Identity')),
        'operations to draw from; empty: all of the augmentation',
        relation=relations.randaugment_operations),
    'data.mixup_alpha': Setting(
        0.0, number(0), "alpha of mixup's Beta(alpha, alpha); 0: off; with CutMix, each acts on "
        'half of the batches'),
    'data.cutmix_alpha': Setting(0.0, number(0), "alpha of CutMix's Beta(alpha, alpha); 0: off"),
    'data.eval_crop': Setting(
        'padding 32', center_crop(), 'centre crop of evaluation: the pixels left out, or the '
        'fraction kept; squash: no crop, the whole image becomes square', Change.EVALUATION),
    'data.mean_rgb': Setting(
        IMAGENET_MEAN_RGB, colour(), 'mean, subtracted from pixels of 0 to 255'),
    'data.std_rgb': Setting(
        IMAGENET_STD_RGB, colour(positive=True), 'deviation that then divides the pixels'),
    'data.corrupt_images': Setting(
        'fail', choice('fail', 'skip'),
        'skip: leave undecodable images out of the loss, count them and name them '
        '(docs/input_pipeline.md)', Change.RESUME),
    'data.streams': Setting(
        64, whole(1), 'streams of a TFRecord set; lowered to a divisor of the batch'),
    'data.shuffle_window': Setting(
        128, whole(1), 'records of a TFRecord stream that are shuffled together'),
    'data.threads': Setting(
        0, whole(0), 'threads of the input pipeline; 0: one per core', Change.HOST),
    'data.prefetch_batches': Setting(2, whole(1), 'batches that are prefetched', Change.HOST),
    'data.cache': Setting(
        '', choice('', 'disk', 'memory'), "cache of encoded files: 'disk' copies both splits into "
        "cache_dir, 'memory' the training split", Change.HOST, relations.cache),
    'data.cache_dir': Setting(
        '', text(), 'directory on a local disk for the cache', Change.HOST, relations.cache_dir),
    'data.host_memory_gib': Setting(
        16.0, number(0, above=True), 'memory of one process for prefetching and a cache in memory',
        Change.HOST),

    'optimizer.name': Setting(
        'sgd', choice('sgd', 'rmsprop', 'adam'), "optimiser; rmsprop is TensorFlow's, for "
        'EfficientNet; adam has decoupled weight decay (AdamW)'),
    'optimizer.learning_rate': Setting(
        0.1, number(0), 'peak learning rate per 256 images of global batch'),
    'optimizer.schedule': Setting(
        'cosine', choice('cosine', 'cosine_after_warmup', 'step', 'exponential'),
        'schedule of the learning rate; cosine counts from the first step, cosine_after_warmup '
        'from the end of the warm-up'),
    'optimizer.step_at': Setting(
        (30 / 90, 60 / 90, 80 / 90), fractions_of_run(),
        'parts of the run after which the schedule step divides the rate by 10'),
    'optimizer.decay_every': Setting(
        '2.4 epochs', duration(), 'time between two steps of the exponential schedule'),
    'optimizer.decay_factor': Setting(
        0.97, number(0, 1, above=True), 'factor of every step of the exponential schedule'),
    'optimizer.warmup': Setting(
        '5 epochs', duration(may_be_zero=True), 'time in which the learning rate rises from 0; a '
        'tenth of the run where it would be all of it'),
    'optimizer.momentum': Setting(
        0.9, number(0, 1, below=True), 'momentum of SGD and of RMSProp; beta1 of Adam'),
    'optimizer.nesterov': Setting(
        False, flag(), "use Nesterov's form of the momentum of SGD or Adam",
        relation=relations.nesterov),
    'optimizer.rmsprop_decay': Setting(
        0.9, number(0, 1, below=True), 'decay of the mean of squared gradients'),
    'optimizer.rmsprop_epsilon': Setting(
        1e-3, number(0, above=True), 'epsilon, added to that mean inside the root'),
    'optimizer.weight_decay': Setting(
        4e-5, number(0), 'coupled L2: weight_decay * weight is added to the gradient; with adam, '
        'to the update, which the learning rate scales'),
    'optimizer.weight_decay_on': Setting(
        'kernels_and_biases', choice('kernels_and_biases', 'kernels', 'everything'),
        "kernels_and_biases: all but batch norm, as in the authors' code"),
    'optimizer.label_smoothing': Setting(
        0.1, number(0, 1, below=True), 'fraction of the target that several classes share'),
    'optimizer.label_smoothing_over': Setting(
        'all_classes', choice('all_classes', 'other_classes'),
        'classes that share it; other_classes, as in the text of papers: all but the label'),
    'optimizer.gradient_clip_norm': Setting(
        0.0, number(0), 'global norm to which gradients are clipped; 0: off'),
    'optimizer.depth_decay': Setting(
        1.0, number(0, 1, above=True),
        'learning rate of the last stage relative to the head, and of each earlier stage, then the '
        'stem, relative to the next one (docs/objectives.md)'),
    'optimizer.accumulation_steps': Setting(
        1, whole(1), 'micro-batches per optimiser step', relation=relations.accumulation_steps),

    'distillation.teacher': Setting(
        '', text(), "work directory of the teacher, whose EMA weights are used, or a network of "
        "the Hub, 'hf:OWNER/NAME'; empty: none"),
    'distillation.checkpoint': Setting(
        'last', checkpoint(), "the teacher's checkpoint"),
    'distillation.form': Setting(
        'kl', choice('kl', 'cross_entropy', 'hard'),
        "loss between student and teacher; hard: the teacher's prediction is a label",
        relation=relations.distillation_form),
    'distillation.temperature': Setting(
        1.0, number(0, above=True), 'divisor of both logits; its square multiplies the loss'),
    'distillation.label_weight': Setting(
        0.5, number(0, 1), 'weight of the loss of the labels; the rest is that of the teacher'),
    'distillation.image_size': Setting(
        0, Rule(int, f"0 (the teacher's) or a whole number, {LEAST_IMAGE_SIZE} or more",
                lambda size: size == 0 or size >= LEAST_IMAGE_SIZE),
        "side in pixels to which the student's images are resized for the teacher; 0: its own "
        'resolution of evaluation'),
    'distillation.second_crop': Setting(
        False, flag(), "cut the teacher's image, of distillation.image_size pixels, from the same "
        "part of the original as the student's, instead of resizing that",
        relation=second_crop.conflict),
    'distillation.dtype': Setting(
        '', optional(NETWORK['dtype'], "the teacher's"), "dtype of the teacher's activations"),

    **mixture.OF_PSEUDO_LABELS,

    'sharding.strategy': Setting(
        'data_parallel', choice('data_parallel', 'zero1', 'fsdp'),
        'zero1: optimiser state and EMA are sharded over the devices of a slice; fsdp: parameters '
        'too (docs/sharding.md)', Change.RESUME),
    'sharding.replicate_below': Setting(
        16384, whole(0), 'elements below which an array is replicated', Change.RESUME),
    'sharding.slices': Setting(
        0, whole(0), 'number of TPU slices; 0: detected from the devices', Change.RESUME),
    'ema.decay': Setting(
        0.9999, number(0, 1, below=True), 'decay of the average of weights and statistics'),
    'eval.batch_size': Setting(
        1024, whole(1), 'images of an evaluation batch over all devices', Change.RESUME),
    'eval.every': Setting('5 epochs', duration(), 'time between evaluations', Change.RESUME),
    'eval.image_size': Setting(
        0, Rule(int, f'0 (data.image_size) or a whole number, {LEAST_IMAGE_SIZE} or more',
                lambda size: size == 0 or size >= LEAST_IMAGE_SIZE),
        'side of an evaluation image in pixels', Change.EVALUATION),
    'eval.mean_per_class': Setting(
        False, flag(), 'also measure the mean of the accuracies of the classes', Change.EVALUATION),
    **clips.OF_EVALUATION,

    'checkpoint.every': Setting('1 epoch', duration(), 'time between checkpoints', Change.RESUME),
    'checkpoint.keep_last': Setting(
        2, whole(1), 'number of newest checkpoints to keep', Change.RESUME),
    'checkpoint.keep_best': Setting(
        1, whole(0), 'number of checkpoints with the best EMA top-1 to keep', Change.RESUME),
    'checkpoint.best_by': Setting(
        relations.DEFAULT_EVALUATION, text(required=True),
        "evaluation whose EMA top-1 says which checkpoint is best: 'eval' or a name in evals",
        Change.RESUME, relations.best_by),
    'log.every': Setting('100 steps', duration(), 'time between lines of metrics', Change.RESUME),
    'hosts.start_timeout_seconds': Setting(
        300, whole(1), 'seconds to wait for every process to start', Change.RESUME),
    'hosts.lost_after_seconds': Setting(
        60, whole(1), 'seconds without an answer after which a process counts as lost',
        Change.RESUME),
}  # fmt: skip


def _instead_of(name: str, meaning: str, rule: Rule | None = None) -> Setting:
    """Returns a setting of one evaluation, which stands for the setting `name` of the run."""
    of_run = SETTINGS[name]
    rule = optional(rule or of_run.rule, name)
    change = Change.HOST if of_run.change is Change.HOST else Change.RESUME
    return Setting(rule.kind(), rule, meaning, change, replaces=name)


# The settings of every evaluation NAME in config.evals, as evals.NAME.split.
EVALUATION_SETTINGS = {
    'source': _instead_of('data.source', 'form of its data'),
    'name': _instead_of('data.name', 'tfds set'),
    'data_dir': _instead_of('data.data_dir', 'directory of its data'),
    'split': _instead_of('data.eval_split', 'its split'),
    'crop': _instead_of('data.eval_crop', 'centre crop'),
    'image_size': _instead_of(
        'eval.image_size', 'side of an image in pixels', SETTINGS['data.image_size'].rule
    ),
    'batch_size': _instead_of('eval.batch_size', 'images over all devices'),
    'every': _instead_of('eval.every', 'time between two of these evaluations'),
    'clips': _instead_of('eval.clips', 'clips of a video, whose probabilities are averaged'),
    'crops': _instead_of('eval.crops', 'crops of a clip, whose probabilities are averaged'),
}


def setting_of(name: str) -> Setting | None:
    """Returns the setting `name`, also one of an evaluation (evals.NAME.split); None for others."""
    group, _, key = name.rpartition('.')
    if group.startswith('evals.') and group.count('.') == 1:
        return EVALUATION_SETTINGS.get(key)
    return SETTINGS.get(name)


def default_config() -> ml_collections.ConfigDict:
    """Returns the default of every setting, as config.batch_size, config.model.name and so on.

    config.evals is there and empty: no evaluation but the default one.
    """
    config = ml_collections.ConfigDict({'evals': {}})
    for name, setting in SETTINGS.items():
        group, _, key = name.rpartition('.')
        if group and group not in config:
            config[group] = ml_collections.ConfigDict()
        (config[group] if group else config)[key] = setting.default
    return config


def eval_image_size(config: ml_collections.ConfigDict) -> int:
    """Returns the resolution of evaluation in pixels: that of training unless another is set."""
    return config.eval.image_size or config.data.image_size


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
    """Returns whether a resumed run may have another value of the setting `name`.

    A setting that is no longer in the table may not change.
    """
    setting = setting_of(name)
    return setting is not None and setting.change not in (Change.EXPERIMENT, Change.SEED)


def is_of_evaluation(name: str) -> bool:
    """Returns whether a run with another value of `name` is the same one, evaluated differently."""
    setting = setting_of(name)
    return setting is not None and setting.change is Change.EVALUATION


def may_differ_between_hosts(name: str) -> bool:
    """Returns whether the hosts of one run may have different values."""
    return setting_of(name).change is Change.HOST


def experiment_settings(config: ml_collections.ConfigDict) -> dict:
    """Returns the settings, {name: value}, that runs of one experiment share; the seed is none."""
    return {
        name: value
        for name, value in flatten(config.to_dict()).items()
        if name in SETTINGS and SETTINGS[name].change in (Change.EXPERIMENT, Change.EVALUATION)
    }
