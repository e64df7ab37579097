"""Parameters, statistics and multiply-adds against the published tables.

Parameters and statistics: timm 1.0.31 (and the authors' code for ResNet-RS-50); multiply-adds:
timm at 224 pixels, the paper's Pareto table (halved: it prints two per multiply-add) for RS.
"""

import functools
import inspect
import re

import jax
import pytest

from resnet_rs.models import VARIANTS, count_parameters, create_model, init_variables, variants
from resnet_rs.models.cost import count_cost
from resnet_rs.utils.errors import UserError

PARAMETERS = {
    'resnet_18': (11_689_512, 9_600),
    'resnet_34': (21_797_672, 17_024),
    'resnet_50': (25_557_032, 53_120),
    'resnet_50_v1': (25_557_032, 53_120),
    'resnet_101': (44_549_160, 105_344),
    'resnet_152': (60_192_808, 151_424),
    'resnet_200': (64_673_832, 176_000),
    'resnet_18d': (11_708_744, 9_728),
    'resnet_34d': (21_816_904, 17_152),
    'resnet_26d': (16_014_408, 30_976),
    'resnet_50c': (25_576_264, 53_248),
    'resnet_50d': (25_576_264, 53_248),
    'resnet_101d': (44_568_392, 105_472),
    'resnet_152d': (60_212_040, 151_552),
    'resnet_200d': (64_693_064, 176_128),
    'se_resnet_18': (11_778_592, 9_600),
    'se_resnet_34': (21_958_868, 17_024),
    'se_resnet_50': (28_088_024, 53_120),
    'se_resnet_101': (49_326_872, 105_344),
    'se_resnet_152': (66_821_848, 151_424),
    'se_resnet_152d': (66_841_080, 151_552),
    'resnet_rs_50': (35_691_912, 53_376),
    'resnet_rs_101': (63_618_696, 105_600),
    'resnet_rs_152': (86_621_576, 151_680),
    'resnet_rs_200': (93_209_992, 176_256),
    'resnet_rs_270': (129_861_448, 243_072),
    'resnet_rs_350': (163_956_168, 312_192),
    'resnet_rs_420': (191_891_656, 370_560),
}
GIGA_MULTIPLY_ADDS = {
    ('resnet_18', 224): 1.8141,
    ('resnet_34', 224): 3.6638,
    ('resnet_50_v1', 224): 3.8580,
    ('resnet_101_v1', 224): 7.5702,
    ('resnet_152_v1', 224): 11.2824,
    ('resnet_50', 224): 4.0892,
    ('resnet_101', 224): 7.8014,
    ('resnet_152', 224): 11.5136,
    ('resnet_200', 224): 15.0075,
    ('resnet_50c', 224): 4.3288,
    ('resnet_50d', 224): 4.3288,
    ('resnet_101d', 224): 8.0410,
    ('resnet_152d', 224): 11.7533,
    ('resnet_200d', 224): 15.2471,
    ('se_resnet_50', 224): 4.0917,
    ('se_resnet_101', 224): 7.8061,
    ('se_resnet_152', 224): 11.5202,
    ('resnet_rs_50', 160): 2.2786,
    ('resnet_rs_101', 160): 4.1815,
    ('resnet_rs_101', 192): 6.0122,
    ('resnet_rs_152', 192): 8.7468,
    ('resnet_rs_152', 224): 11.8952,
    ('resnet_rs_152', 256): 15.5279,
    ('resnet_rs_200', 256): 20.0934,
    ('resnet_rs_270', 256): 26.9502,
    ('resnet_rs_350', 256): 34.3766,
    ('resnet_rs_350', 320): 53.6836,
    ('resnet_rs_420', 320): 63.9423,
}


def shapes_of(model):
    return jax.eval_shape(lambda: init_variables(model, 64))['params']


@functools.cache
def cost(name, size):
    return count_cost(create_model(name), size)


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameters_to_the_unit(name):
    size = next((size for known, size in GIGA_MULTIPLY_ADDS if known == name), 64)
    counted = cost(name, size)
    assert (counted.parameters, counted.statistics) == PARAMETERS[name]


@pytest.mark.parametrize('name, size', GIGA_MULTIPLY_ADDS)
def test_multiply_adds(name, size):
    giga = cost(name, size).multiply_adds / 1e9
    assert giga == pytest.approx(GIGA_MULTIPLY_ADDS[name, size], rel=1e-3)


def test_rounded_squeeze_width_is_timms():
    shapes = shapes_of(create_model('se_resnet_18', squeeze_excite_divisor=8))
    assert count_parameters(shapes) == 11_779_624


@pytest.mark.parametrize('multiplier', (0.25, 0.5, 1.5, 2.0))
def test_width_multiplier_scales_stem_and_stages(multiplier):
    model = create_model('resnet_rs_26', width_multiplier=multiplier, num_classes=10)
    params = shapes_of(model)
    assert params['stem']['conv1']['kernel'].shape == (3, 3, 3, 32 * multiplier)
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        block = params[f'stage{stage}']['block1']
        assert block['conv2']['kernel'].shape == (3, 3, width * multiplier, width * multiplier)
        assert block['squeeze_excite']['reduce']['kernel'].shape[1] == width * multiplier
    assert params['head']['kernel'].shape == (2048 * multiplier, 10)


def test_layouts_of_the_scaling_study():
    sizes = {name: VARIANTS[name]['stage_sizes'] for name in VARIANTS}
    assert sizes['resnet_rs_26'] == (2, 2, 2, 2)
    assert sizes['resnet_rs_300'] == (4, 36, 54, 4)
    assert sizes['resnet_rs_400'] == (6, 48, 72, 6)


def test_names_stand_in_the_source_where_a_search_finds_them():
    words = set(re.findall(r'\w+', inspect.getsource(variants)))
    assert words >= set(VARIANTS)


def test_unknown_names_and_settings_are_explained():
    with pytest.raises(UserError, match="did you mean 'resnet_rs_50'"):
        create_model('resnetrs_50')
    with pytest.raises(UserError, match="no setting 'widht'"):
        create_model('resnet_rs_50', widht=2)


def test_float64_is_refused_where_jax_would_compute_in_float32():
    with pytest.raises(UserError, match="dtype is 'float64', which .* variable JAX_ENABLE_X64=1,"):
        create_model('resnet_18', dtype='float64')
    with jax.enable_x64():
        assert create_model('resnet_18', dtype='float64').architecture.dtype == 'float64'
