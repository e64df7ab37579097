"""Every setting has a rule, and a value that breaks it is one line before anything is written."""

import math

import ml_collections
import pytest

from resnet_rs.augment import policies
from resnet_rs.config import (
    SETTINGS,
    Change,
    default_config,
    experiment_settings,
    flatten,
    may_change_on_resume,
    may_differ_between_hosts,
)
from resnet_rs.config.validation import check_settings
from resnet_rs.datasets import images
from resnet_rs.models import rematerialisation, settings_of
from resnet_rs.models.families import FAMILIES
from resnet_rs.models.initializers import HEADS, KERNELS
from resnet_rs.models.layers import ACTIVATIONS
from resnet_rs.training.optimizer import OPTIMIZERS, SCHEDULES, WEIGHT_DECAY_ON
from resnet_rs.training.sharding import STRATEGIES
from resnet_rs.utils.errors import UserError

OTHER_TYPES = {
    int: ('many', 1.5, None, (1,)),
    float: ('much', None, (0.5,)),
    bool: ('yes', 2, None),
    str: (1, None, True, ('a',)),
    tuple: ('red', 1, None),
}
NOT_FINITE = (math.nan, math.inf, -math.inf)
FREE_TEXT = (
    'init_from',
    'data.data_dir',
    'data.cache_dir',
    'distillation.teacher',
    'pseudo_labels.file',
    'pseudo_labels.data_dir',
)
# Values of the right type that no rule allows, by setting. A new setting needs a line here, or is
# free text.
OUT_OF_RULE = {
    'seed': (-1, 2**31),
    'batch_size': (-1, -4),
    'duration': ('ten epochs', '0 steps', '5', '-1 epochs', 'inf epochs', 'nan steps'),
    'objective': ('distil', ''),
    'trainable': ('', '(', 'head until 5', 'head, then all', 'head until 5 epochs', ', then all'),
    'frozen_statistics': ('moving', ''),
    'model.name': ('resnet_rs_51', ''),
    'model.num_classes': (-1, -2),
    'model.width_multiplier': (0.001, 0, -1.0, 1e9),
    'model.dropout_rate': (1.5, 1.0, -0.1),
    'model.stochastic_depth_rate': (-0.1, 1.0),
    'model.dtype': ('float99', 'int32', 'fp16', ''),
    'model.batch_norm_momentum': (3, 1.1, -0.5),
    'model.batch_norm_epsilon': (0, -1e-5, 1.1),
    'model.batch_norm_group_size': (-2,),
    'model.initializer': ('xavier', 'he_uniform'),
    'model.zero_gamma': (),
    'model.output_stride': (4, 0, 12, 64),
    'model.drop_block_rate': (-0.1, 1.0),
    'model.activation': ('rellu',),
    'model.padding': ('weird',),
    'model.pool_unstrided_shortcut': (),
    'model.squeeze_excite_divisor': (0, -8),
    'model.scan_blocks': (),
    'model.remat': ('blocks', 'block;block', 'block,,wrong,'),
    'data.source': ('webdataset', ''),
    'data.name': ('',),
    'data.train_split': ('',),
    'data.eval_split': ('',),
    'data.label': ('colour',),
    'data.classes': ((-1,), (1, 1), ('a',), (True,)),
    'data.image_size': (0, 7, -32),
    'data.resize': ('bicubik',),
    'data.crop_area': ((0.5, 0.2), (0, 1), (0.1, 2), (0.5,), (math.nan, 1), ('a', 'b')),
    'data.crop_ratio': ((2, 1), (-1, 1), (1, math.inf)),
    'data.train_crop': ('centre', ''),
    'data.allow_batch_beyond_epoch': (),
    'data.flip': (),
    'data.augment': ('randaugmnet', '', 'randaugment+', 'randaugment+jitter'),
    'data.repeated_augmentation': (0, -1),
    'data.randaugment_layers': (0, 17),
    'data.randaugment_magnitude': (-1, 101),
    'data.randaugment_operations': (('Shear',), (1,)),
    'data.mixup_alpha': (-0.1,),
    'data.cutmix_alpha': (-1,),
    'data.eval_crop': (
        'padding',
        'padding -1',
        'fraction 0',
        'fraction 1.5',
        'fraction x',
        'crop 3',
        'fraction 1/0',
        'fraction 1e-999999999',
        '',
    ),
    'data.mean_rgb': ((1, 2), (1, 2, math.nan), ('r', 'g', 'b')),
    'data.std_rgb': ((1, 0, 1), (1, 2), (1, 2, -3)),
    'data.corrupt_images': ('hope',),
    'data.frames': (-1, 5000),
    'data.frame_stride': (0, -1),
    'data.streams': (-2, 0),
    'data.shuffle_window': (0,),
    'data.threads': (-1,),
    'data.prefetch_batches': (-1, 0),
    'data.cache': ('ram',),
    'data.host_memory_gib': (0, -1),
    'optimizer.name': ('adamw', ''),
    'optimizer.learning_rate': (-1,),
    'optimizer.schedule': ('linear',),
    'optimizer.step_at': ((0.5, 0.25), (0, 0.5), (1.0,), ('a',)),
    'optimizer.decay_every': ('0 epochs', 'often', '5'),
    'optimizer.decay_factor': (0, -0.5, 1.1),
    'optimizer.warmup': ('-1 steps', 'soon'),
    'optimizer.momentum': (2, 1, -0.1),
    'optimizer.nesterov': (),
    'optimizer.rmsprop_decay': (1, -0.1),
    'optimizer.rmsprop_epsilon': (0, -1e-3),
    'optimizer.weight_decay': (-1e-4,),
    'optimizer.weight_decay_on': ('all',),
    'optimizer.label_smoothing': (1.5, 1, -0.1),
    'optimizer.label_smoothing_over': ('classes',),
    'optimizer.gradient_clip_norm': (-1,),
    'optimizer.depth_decay': (0, -0.5, 1.1),
    'optimizer.accumulation_steps': (0, -1),
    'distillation.checkpoint': ('first', '', '-1', '1.5'),
    'distillation.form': ('soft',),
    'distillation.temperature': (0, -1.0),
    'distillation.label_weight': (-0.1, 1.1),
    'distillation.image_size': (-1, 7),
    'distillation.second_crop': (),
    'distillation.dtype': ('float99', 'int32'),
    'pseudo_labels.ratio': (0, -1, 1001),
    'pseudo_labels.form': ('kl', ''),
    'pseudo_labels.temperature': (0, -1.0),
    'pseudo_labels.least_confidence': (-0.1, 1.1),
    'pseudo_labels.per_class': (-1,),
    'pseudo_labels.normalise_by': ('batch', ''),
    'sharding.strategy': ('zero2',),
    'sharding.replicate_below': (-1,),
    'sharding.slices': (-1,),
    'ema.decay': (2, 1, -0.1),
    'eval.batch_size': (0, -4),
    'eval.every': ('0 steps', 'often'),
    'eval.image_size': (-1, 7),
    'eval.mean_per_class': (),
    'eval.clips': (0, 2000),
    'eval.crops': (0, 2),
    'checkpoint.every': ('0 epochs', ''),
    'checkpoint.keep_last': (0, -1),
    'checkpoint.keep_best': (-1,),
    'checkpoint.best_by': ('',),
    'log.every': ('0 steps', '100'),
    'hosts.start_timeout_seconds': (0, -1),
    'hosts.lost_after_seconds': (0, -5),
}


def wrong_values(name):
    values = [*OTHER_TYPES[SETTINGS[name].rule.kind], *OUT_OF_RULE.get(name, ())]
    if SETTINGS[name].rule.kind is float:
        values += NOT_FINITE
    return values


def with_value(name, value):
    config = default_config()
    with config.ignore_type():
        config.update_from_flattened_dict({name: value})
    return config


def test_every_setting_has_values_that_its_rule_refuses():
    free = {
        name for name, setting in SETTINGS.items() if setting.rule.takes.startswith('a text, with')
    }
    assert free == set(FREE_TEXT)
    assert SETTINGS.keys() == OUT_OF_RULE.keys() | free
    assert flatten(default_config().to_dict()).keys() == SETTINGS.keys()


@pytest.mark.parametrize('name', SETTINGS)
def test_wrong_values_in_a_config_file_are_refused(name):
    for value in wrong_values(name):
        config = with_value(name, value)
        held = flatten(config.to_dict())[name]  # ml_collections makes 3 of a float setting 3.0
        with pytest.raises(UserError) as error:
            check_settings(config)
        assert str(error.value).startswith(f'{name} is {held!r}; it takes '), value
    check_settings(default_config())


@pytest.mark.parametrize('name', SETTINGS)
def test_wrong_values_on_the_command_line_are_one_line_and_leave_no_file(name, run_main):
    kind = SETTINGS[name].rule.kind
    for value in wrong_values(name):
        if kind is str and not isinstance(value, str):
            continue  # any text of the command line is a text
        line = run_main(f'--config.{name}={value}')
        assert line.startswith(f'error: {name} is '), line
        assert str(value) in line and '; it takes ' in line, line


def test_names_are_those_of_the_code():
    def names(setting):
        return set(SETTINGS[setting].rule.names)

    assert names('data.resize') == set(images.RESIZE)
    assert names('model.activation') == set(ACTIVATIONS)
    assert names('model.initializer') == set(KERNELS) == set(HEADS)
    assert names('model.remat') == set(rematerialisation.POLICIES)
    assert names('optimizer.name') == set(OPTIMIZERS)
    assert names('optimizer.schedule') == set(SCHEDULES)
    assert names('optimizer.weight_decay_on') == set(WEIGHT_DECAY_ON)
    assert names('sharding.strategy') == set(STRATEGIES)
    assert names('data.randaugment_operations') == set(policies.OPERATION_NAMES)


def test_settings_of_the_network_are_fields_of_it():
    settings = {name.removeprefix('model.') for name in SETTINGS if name.startswith('model.')}
    of_families = set()
    for family in FAMILIES.values():
        of_families |= set(settings_of(next(iter(family.names))))
    assert settings - {'name'} <= of_families


def test_what_a_change_means():
    for name, change in (
        ('seed', Change.SEED),
        ('batch_size', Change.EXPERIMENT),
        ('eval.image_size', Change.EVALUATION),
        ('sharding.strategy', Change.RESUME),
        ('data.cache_dir', Change.HOST),
    ):
        assert SETTINGS[name].change is change
    assert [
        may_change_on_resume(name)
        for name in (
            'seed',
            'batch_size',
            'eval.image_size',
            'sharding.strategy',
            'data.data_dir',
            'gone',
        )
    ] == [False, False, True, True, True, False]
    assert may_differ_between_hosts('data.threads')
    assert not may_differ_between_hosts('sharding.strategy')
    shared = experiment_settings(default_config())
    assert {'batch_size', 'eval.image_size', 'init_from'} <= shared.keys()
    assert not {'seed', 'sharding.strategy', 'data.data_dir', 'log.every'} & shared.keys()


def test_a_config_that_lacks_a_setting_is_refused():
    config = ml_collections.ConfigDict({'seed': 1})
    with pytest.raises(UserError, match='lacks batch_size; start from'):
        check_settings(config)


@pytest.mark.parametrize('value', ['a' * 256, '/data/' + 'a' * 256 + '/x', 'ä' * 128, 'a\0b'])
def test_a_name_that_no_file_can_have_is_refused(value):
    config = default_config()
    config.data.data_dir = value
    with pytest.raises(UserError, match='data.data_dir is .* at most 255 bytes between slashes'):
        check_settings(config)
    config.data.data_dir = '/'.join(['a' * 255] * 3)
    check_settings(config)
