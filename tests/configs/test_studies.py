"""The paper's studies: every row is a configuration whose network can be made."""

import dataclasses
import functools
import itertools

import jax
import pytest

from configs import (
    additive_study,
    bag_of_tricks,
    distillation,
    resnest,
    resnet_rs,
    scaling_study,
    transfer,
    transfer_study,
    weight_decay_study,
)
from resnet_rs.config import flatten, validation
from resnet_rs.config.durations import to_steps
from resnet_rs.models import count_parameters, init_variables
from resnet_rs.models.resnet import ResNet
from resnet_rs.sweep.definition import load_sweep
from resnet_rs.training.optimizer import create_schedule
from resnet_rs.training.steps import model_of
from resnet_rs.utils.errors import UserError


def parameters(config):
    """Counts parameters by shapes; traces networks that differ in rates only once."""
    validation.check_settings(config)
    model = model_of(config)
    rates = dict(dropout_rate=0.0, stochastic_depth_rate=0.0)
    return count(dataclasses.replace(model.architecture, **rates), config.data.image_size)


@functools.cache
def count(architecture, image_size):
    return count_parameters(
        jax.eval_shape(lambda: init_variables(ResNet(architecture), image_size))['params']
    )


def test_additive_study():
    rows = {row: additive_study.get_config(row) for row in additive_study.ROWS}
    assert len(rows) == 11
    flat = {row: flatten(config.to_dict()) for row, config in rows.items()}
    for (row, before), (_, after) in itertools.pairwise(flat.items()):
        assert {key for key in after if after[key] != before[key]}, row
    # ResNet-200 has 64.67M parameters in every implementation of (3, 24, 36, 3).
    sizes = {row: parameters(config) for row, config in rows.items()}
    assert sizes['resnet_d'] == 93_209_992
    assert sizes['baseline'] == 64_673_832
    # The rest of ResNet-D, without the gates, is a stem of four convolutions for one.
    stem = 9 * (3 * 32 + 32 * 32 + 32 * 64 + 64 * 64) - 49 * 3 * 64 + 2 * (32 + 32 + 64)
    assert sizes['resnet_d'] - sizes['squeeze_excite'] == stem
    # The last row is the paper's model, in every setting.
    assert flat['resnet_d'] == flatten(resnet_rs.get_config('200@256').to_dict())


def test_weight_decay_study():
    configs = {row: weight_decay_study.get_config(row) for row in weight_decay_study.ROWS}
    assert len(configs) == 12
    assert {parameters(config) for config in configs.values()} == {35_691_912, 93_209_992}
    for row, config in configs.items():
        assert config.optimizer.weight_decay == (1e-4 if row.endswith('1e-4') else 4e-5)
        assert (config.data.augment == 'randaugment') == ('RA' in row)
        assert (config.model.dropout_rate > 0) == ('DO' in row)
        assert (config.model.stochastic_depth_rate > 0) == ('SD' in row)
        assert (config.optimizer.label_smoothing > 0) == ('LS' in row)
    best = weight_decay_study.PAPER['200', 'RA-LS-SD-DO']
    assert max(max(pair) for pair in weight_decay_study.PAPER.values()) == best[1] == 85.5


def test_every_cell_of_the_scaling_study():
    grid = scaling_study.GRID
    cells = list(itertools.product(*grid.values()))
    assert len(cells) == 7 * 5 * 5 * 3
    for depth, width, resolution, epochs in cells:
        config = scaling_study.get_config(
            f'depth={depth},width={width},resolution={resolution},epochs={epochs}'
        )
        validation.check_settings(config)
        assert config.model.name == f'resnet_rs_{depth}'
        assert config.duration == f'{epochs} epochs'
        regularised = (
            config.model.dropout_rate,
            config.model.stochastic_depth_rate,
            config.optimizer.label_smoothing,
            config.data.augment,
        )
        if epochs < 350:
            assert regularised == (0.0, 0.0, 0.0, 'none')
        else:
            assert regularised[2:] == (0.1, 'randaugment')
            assert (
                config.model.dropout_rate == {0.25: 0, 0.5: 0.1, 1: 0.25, 1.5: 0.6, 2: 0.75}[width]
            )
    for depth, width in ((26, 0.25), (26, 2.0), (101, 1.0)):  # deeper ones differ in blocks only
        assert parameters(scaling_study.get_config(f'depth={depth},width={width:g}'))
    assert parameters(scaling_study.get_config('')) == 63_618_696


def test_bag_of_tricks():
    configs = {row: bag_of_tricks.get_config(row) for row in bag_of_tricks.ROWS}
    assert len(configs) == 18
    flat = {row: flatten(config.to_dict()) for row, config in configs.items()}
    for config in configs.values():
        validation.check_settings(config)
    for steps in (
        ['linear_scaling@1024', 'warmup@1024', 'zero_gamma@1024', 'no_bias_decay@1024']
        + ['low_precision@1024', 'B', 'C', 'D', 'cosine', 'label_smoothing', 'mixup'],
        [f'{step}@256' for step in bag_of_tricks.LARGE_BATCH],
    ):
        for before, after in itertools.pairwise(steps):
            changed = {name for name in flat[after] if flat[after][name] != flat[before][name]}
            assert len(changed) == (2 if after == 'mixup' else 1), (after, changed)
    for same in (('low_precision@1024', 'A'), ('D', 'efficient')):
        assert flat[same[0]] == flat[same[1]]
    sizes = dict(batch_size=1024, examples_per_epoch=1_281_167)
    schedule = create_schedule(configs['D'], to_steps('120 epochs', **sizes), 1_281_167)
    for epoch, rate in (
        (0, 0),
        (2.5, 0.2),
        (5, 0.4),
        (29, 0.4),
        (31, 0.04),
        (61, 4e-3),
        (91, 4e-4),
    ):
        assert float(schedule(round(epoch * 1_281_167 / 1024))) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(
    'row, without', [('bag_of_tricks', 'label_smoothing'), ('bag_of_tricks_mixup', 'mixup')]
)
def test_distillation_adds_the_teacher_alone_to_bag_of_tricks(row, without):
    student, alone = distillation.get_config(row), bag_of_tricks.get_config(without)
    student, alone = flatten(student.to_dict()), flatten(alone.to_dict())
    assert {name for name in student if student[name] != alone[name]} == {
        'objective',
        'distillation.form',
        'distillation.temperature',
    }


def test_rows_of_resnest():
    published = {'50': (27_483_240, 3.2), '101': (48_275_016, 1.6), '200': (70_201_544, 0.8)}
    for row, (size, rate) in published.items():
        config = resnest.get_config(row)
        validation.check_settings(config)
        shapes = jax.eval_shape(lambda c=config: init_variables(model_of(c, scan_blocks=True), 64))
        assert count_parameters(shapes['params']) == size
        assert config.optimizer.learning_rate * config.batch_size / 256 == pytest.approx(rate)
    validation.check_settings(resnest.get_config('269'))
    assert resnest.get_config('269').eval.image_size == 416


def test_splits_and_schedules_of_transfer(monkeypatch):
    """VTAB-1k: 800 and 200 images, then both."""
    monkeypatch.setattr(transfer, '_examples', lambda task: task.examples or 4_000)
    for name, task in transfer.TASKS.items():
        for protocol in ('vtab',) if task.label else transfer.PROTOCOLS:
            for variant in (f'{protocol}/{name}', f'{protocol}/{name}/final'):
                validation.check_settings(transfer.get_config(variant))
        assert transfer.get_config(f'vtab/{name}').data.train_split == 'train[:800]'
        assert transfer.get_config(f'vtab/{name}/final').data.eval_split == task.test
    assert len(transfer.TASKS) == 19 and sum(bool(t.label) for t in transfer.TASKS.values()) == 7
    scored = [
        transfer.get_config(f'{p}/caltech101').eval.mean_per_class for p in ('simclr', 'vtab')
    ]
    assert scored == [True, False]
    splits = {
        variant: (config.data.train_split, config.data.eval_split)
        for variant in (
            'vtab/cifar100',
            'vtab/cifar100/final',
            'vtab/dtd',
            'simclr/eurosat',
            'vtab/clevr_count/final',
            'vtab/smallnorb_azimuth',
            'vtab/dsprites_orientation/final',
        )
        for config in [transfer.get_config(variant)]
    }
    assert splits == {
        'vtab/cifar100': ('train[:800]', 'train[45000:45200]'),
        'vtab/cifar100/final': ('train[:800]+train[45000:45200]', 'test'),
        'vtab/dtd': ('train[:800]', 'validation[:200]'),
        'simclr/eurosat': ('train[:60%]', 'train[60%:80%]'),
        'vtab/clevr_count/final': ('train[:800]+train[3600:3800]', 'validation'),
        'vtab/smallnorb_azimuth': ('train[:800]', 'test[:200]'),
        'vtab/dsprites_orientation/final': ('train[:800]+train[3200:3400]', 'train[90%:]'),
    }
    config = transfer.get_config('vtab/cifar100')
    assert config.optimizer.weight_decay == 0  # their loss has no such term
    schedule = create_schedule(config, 1000, 800)
    for step, rate in ((0, 0), (40, 0.005), (100, 0.01), (301, 1e-3), (601, 1e-4), (901, 1e-5)):
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(
    'variant, trained_on',
    [
        ('cifar100', 45_000),
        ('cifar100/final', 50_000),
        ('svhn_cropped', 65_931),
        ('svhn_cropped/final', 73_257),
        ('dmlab', 65_550),
        ('dmlab/final', 65_550 + 22_628),
        ('sun397', 76_128),
        ('patch_camelyon', 262_144),
        ('diabetic_retinopathy/final', 35_126 + 10_906),
        ('eurosat/final', 21_600),  # of 27,000: the last 20 % are for testing
        ('resisc45', 18_900),
        ('dtd', 1_880),
    ],
)
def test_momentum_of_batch_norm_follows_the_images_that_train(variant, trained_on):
    """SimCLR, appendix B.8: max(1 - 10 / s, 0.9) with s steps of 256 images per epoch."""
    found = transfer.get_config(f'simclr/{variant}').model.batch_norm_momentum
    assert found == pytest.approx(max(1 - 10 / (trained_on / 256), 0.9))


def test_rows_of_the_transfer_study():
    for row in transfer_study.ROWS:
        config = transfer_study.get_config(row)
        validation.check_settings(config)
        assert (config.ema.decay, config.model.stochastic_depth_rate) == (0, 0)
    improved = transfer_study.get_config('improved_152')
    assert (improved.model.name, improved.duration) == ('resnet_152', '400 epochs')
    assert (
        improved.optimizer.weight_decay
        < transfer_study.get_config('standard_152').optimizer.weight_decay
    )


@pytest.mark.parametrize(
    'study, row, message',
    (
        (bag_of_tricks, 'E', "no row 'E'; it has linear_scaling@256"),
        (resnest, '152', "no row '152'; it has 50, 101, 200, 269"),
        (additive_study, 'cosin', "no row 'cosin'.*cosine"),
        (weight_decay_study, '50,none', "no row '50,none'"),
        (scaling_study, 'depht=101', "no axis 'depht'"),
        (transfer, 'vtab/clevr', "no variant 'vtab/clevr'"),
        (transfer, 'simclr/clevr_count', "no variant 'simclr/clevr_count'"),
        (transfer_study, 'improved_200', 'no row .*; it has standard_50'),
        (scaling_study, 'depth=102', "depth is '102'; the study has 26, 50"),
    ),
)
def test_rows_that_are_not_there(study, row, message):
    with pytest.raises(UserError, match=message):
        study.get_config(row)


@pytest.mark.parametrize(
    'name, runs, networks',
    (
        ('additive_study', 22, 3),
        ('weight_decay_study', 24, 2),
        ('scaling_study', 72, 4),
    ),
)
def test_sweeps_of_the_studies(name, runs, networks):
    pairs = load_sweep(f'configs/sweeps/{name}.py')
    assert len(pairs) == runs
    assert len({config.model.name for _, config in pairs}) == networks
    settings = [repr(sorted(flatten(config.to_dict()).items())) for _, config in pairs]
    assert len(set(settings)) == runs
