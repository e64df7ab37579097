"""The paper's studies: every row is a configuration whose network can be made."""

import dataclasses
import functools
import itertools

import jax
import pytest

from configs import additive_study, resnet_rs, scaling_study, weight_decay_study
from resnet_rs.config import flatten, validation
from resnet_rs.models import count_parameters, init_variables
from resnet_rs.models.resnet import ResNet
from resnet_rs.sweep.definition import load_sweep
from resnet_rs.training.steps import model_of
from resnet_rs.utils.errors import UserError


def parameters(config):
    """From shapes alone; networks that differ in rates only are traced once."""
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


@pytest.mark.parametrize(
    'study, row, message',
    (
        (additive_study, 'cosin', "no row 'cosin'.*cosine"),
        (weight_decay_study, '50,none', "no row '50,none'"),
        (scaling_study, 'depht=101', "no axis 'depht'"),
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
