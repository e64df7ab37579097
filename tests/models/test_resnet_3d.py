"""3-D ResNets: parameters, statistics and multiply-adds of the published tables, and the layers.

The tables hold Model Garden's networks with the 400 classes of Kinetics; the multiply-adds are
those of 32 frames.
"""

import inspect
import re

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_rs.models import create_model, init_variables, resnet_3d, resnet_3d_variants
from resnet_rs.models.cost import count_cost
from resnet_rs.utils.errors import UserError

FRAMES, CLASSES = 32, 400
PARAMETERS = {
    'resnet_3d_rs_50': 48_129_840,
    'resnet_3d_rs_101': 84_969_520,
    'resnet_3d_rs_152': 114_788_144,
    'resnet_3d_rs_200': 121_376_560,
    'resnet_3d_rs_270': 169_038_064,
    'resnet_3d_rs_300': 174_087_536,
    'resnet_3d_rs_350': 213_094_256,
    'resnet_3d_50': 32_491_728,
    'resnet_3d_50_model_garden': 33_617_872,
}
STATISTICS = {
    'resnet_3d_rs_50': 53_248,
    'resnet_3d_rs_101': 105_472,
    'resnet_3d_rs_152': 151_552,
    'resnet_3d_rs_200': 176_128,
}
GIGA_MULTIPLY_ADDS = {
    ('resnet_3d_rs_50', 224): 88.02,
    ('resnet_3d_rs_50', 256): 114.97,
    ('resnet_3d_rs_101', 224): 175.4,
    ('resnet_3d_rs_101', 256): 229.1,
    ('resnet_3d_rs_152', 224): 256.2,
    ('resnet_3d_rs_152', 256): 334.6,
    ('resnet_3d_rs_200', 224): 312.1,
    ('resnet_3d_rs_200', 256): 407.6,
}
# Of resnet_3d_rs_50: settings and the parameters with them.
OTHER_FORMS = (
    (dict(num_classes=600), 48_539_640),
    (dict(self_gating=False), 42_555_440),
    (dict(squeeze_excite_ratio=0.2), 46_097_972),
)


def parameters_of(name, **settings):
    model = create_model(name, **{'num_classes': CLASSES} | settings)
    shapes = jax.eval_shape(lambda: init_variables(model, 64))['params']
    return flax.traverse_util.flatten_dict(shapes, sep='/')


def count(shapes):
    return sum(np.prod(leaf.shape) for leaf in shapes.values())


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameters_statistics_and_multiply_adds(name):
    model = create_model(name, num_classes=CLASSES)
    cost = count_cost(model, 224, FRAMES)
    assert cost.parameters == PARAMETERS[name]
    assert cost.statistics == STATISTICS.get(name, cost.statistics)
    if name in STATISTICS:
        for size in (224, 256):
            # Strides of 2 and a last map of 7 or 8 pixels: all but the dense layers scale.
            counted = cost if size == 224 else count_cost(model, size, FRAMES)
            giga = counted.multiply_adds / 1e9
            assert giga == pytest.approx(GIGA_MULTIPLY_ADDS[name, size], rel=1e-3)


@pytest.mark.parametrize('settings, parameters', OTHER_FORMS)
def test_parameters_of_other_forms(settings, parameters):
    assert count(parameters_of('resnet_3d_rs_50', **settings)) == parameters


def test_the_backbone_of_the_baseline_has_the_published_number():
    """31.7 million (Qian et al. 2020)."""
    shapes = parameters_of('resnet_3d_50')
    backbone = count({k: v for k, v in shapes.items() if not k.startswith('head/')})
    assert backbone == 31_672_128


def test_gates_are_in_the_last_block_of_each_stage():
    gated = {
        path.rsplit('/', 3)[0] for path in parameters_of('resnet_3d_rs_50') if '/gate/' in path
    }
    assert gated == {'stage1/block3', 'stage2/block4', 'stage3/block6', 'stage4/block3'}


def test_kernels_over_time():
    shapes = parameters_of('resnet_3d_50_model_garden')
    lengths = [
        [shapes[f'stage{stage}/block{b}/conv1/kernel'].shape[0] for b in range(1, size + 1)]
        for stage, size in enumerate((3, 4, 6, 3), start=1)
    ]
    assert lengths == [[3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1]]
    assert shapes['stem/conv1/kernel'].shape == (5, 7, 7, 3, 64)
    shapes = parameters_of('resnet_3d_rs_50')
    assert shapes['stem/conv1/kernel'].shape == (5, 3, 3, 3, 32)
    assert shapes['stem/conv3/kernel'].shape == (1, 3, 3, 32, 64)
    assert shapes['stage2/block1/conv2/kernel'].shape == (1, 3, 3, 128, 128)


@pytest.mark.parametrize(
    'name, settings, frames',
    [
        ('resnet_3d_rs_14', {}, (16, 16, 16, 16)),
        ('resnet_3d_rs_14', dict(stem_pool_temporal_stride=2), (8, 8, 8, 8)),
        ('resnet_3d_rs_14', dict(temporal_strides=(1, 2, 1, 2)), (16, 8, 8, 4)),
        ('inflated_resnet_rs_14', dict(temporal_strides=(1, 1, 2, 1)), (16, 16, 8, 8)),
    ],
)
def test_shapes_of_stages(name, settings, frames):
    model = create_model(name, width_multiplier=0.25, **settings)
    clips = jnp.zeros((2, FRAMES, 64, 96, 3))
    stages = jax.eval_shape(
        lambda: model.apply(init_variables(model, 64), clips, False, output='stages')
    )
    sizes = ((16, 24), (8, 12), (4, 6), (2, 3))
    channels = model.architecture.stage_channels
    expected = [(2, f, *s, c) for f, s, c in zip(frames, sizes, channels, strict=True)]
    assert [stage.shape for stage in stages] == expected


def test_stochastic_depth_grows_with_the_stage():
    model = create_model('resnet_3d_rs_50', stochastic_depth_rate=0.1)
    rates = [model.architecture.stage_drop_rate(stage) for stage in (1, 2, 3, 4)]
    np.testing.assert_allclose(rates, (0.04, 0.06, 0.08, 0.10))


def test_the_head_starts_as_model_gardens():
    model = create_model('resnet_3d_rs_14', width_multiplier=0.25, num_classes=100)
    head = init_variables(model, 32)['params']['head']['kernel']
    assert 0.0495 < np.abs(head).max() <= 0.05
    assert np.std(head) == pytest.approx(0.1 / np.sqrt(12), rel=0.02)


def test_a_still_clip_is_an_image_for_a_network_without_kernels_over_time():
    """The parts of a block, and their gradients, are those of the 2-D network."""
    settings = dict(width_multiplier=0.125, num_classes=5, dtype='float32')
    of_images = create_model('resnet_rs_14', **settings)
    of_clips = create_model(
        'inflated_resnet_rs_14',
        temporal_kernels=((1,),) * 4,
        stem_temporal_kernel=1,
        stem_temporal_stride=1,
        **settings,
    )
    variables = init_variables(of_images, 32)
    shapes = jax.eval_shape(lambda: init_variables(of_clips, 32))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: random.uniform(-0.4, 0.6, leaf.shape), variables)
    variables = jax.tree.map(jnp.float32, variables)
    stats = jax.tree.map(jnp.abs, variables['batch_stats'])
    images = jnp.asarray(random.normal(size=(4, 32, 32, 3)), jnp.float32)
    clips = jnp.broadcast_to(images[:, None], (4, 3, 32, 32, 3))

    def loss(params, model, like, x):
        params = jax.tree.map(lambda leaf, wanted: leaf.reshape(wanted.shape), params, like)
        logits, _ = model.apply(
            {'params': params, 'batch_stats': stats}, x, True, mutable='batch_stats'
        )
        return (jax.nn.log_softmax(logits) ** 2).mean(), logits

    found = [
        jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)(
            variables['params'], model, like['params'], x
        )
        for model, like, x in ((of_images, variables, images), (of_clips, shapes, clips))
    ]
    for ours, expected in zip(*map(jax.tree.leaves, reversed(found)), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-3 * np.abs(expected).max() + 1e-7)


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(scan_blocks=True), 'model.scan_blocks is True'),
        (dict(temporal_kernels=((1,), (3,))), 'temporal_kernels is'),
        (dict(temporal_kernels=((1,), (1,), (3,), (3, 1, 3))), 'temporal_kernels is'),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(UserError, match=message):
        create_model('resnet_3d_rs_14', **settings)


def test_images_are_refused():
    model = create_model('resnet_3d_rs_14', width_multiplier=0.25)
    with pytest.raises(UserError, match=r'\[batch, frames, height, width, 3\]'):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((2, 32, 32, 3)), False))


def test_names_stand_in_the_source_where_a_search_finds_them():
    words = set(re.findall(r'\w+', inspect.getsource(resnet_3d_variants)))
    assert words >= set(resnet_3d_variants.CLIP_NETWORKS)
    assert resnet_3d.Architecture(stage_sizes=(1, 1, 1, 1)).axes == 3
