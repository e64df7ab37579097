"""Networks for clips that start from the weights of a network for images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_rs.config import default_config
from resnet_rs.models import create_model, init_variables
from resnet_rs.run.checkpoint import Checkpoints
from resnet_rs.run.workdir import write_workdir
from resnet_rs.training.inflation import is_of_images, plan_inflation
from resnet_rs.utils.errors import UserError

SMALL = dict(width_multiplier=0.125, num_classes=5)


def random_variables(name, **settings):
    model = create_model(name, dtype='float32', **SMALL | settings)
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(random.uniform(-0.2, 0.4, leaf.shape), jnp.float32),
        jax.eval_shape(lambda: init_variables(model, 32)),
    )
    return model, variables | {'batch_stats': jax.tree.map(jnp.abs, variables['batch_stats'])}


def new_variables(model):
    """Arrays on all devices, as those of a new run."""
    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(init_variables(model, 32), sharding)


@pytest.mark.parametrize(
    'of_images, of_clips, padding',
    [
        ('resnet_rs_14', 'inflated_resnet_rs_14', 'symmetric'),
        ('resnet_14', 'resnet_3d_14', 'same'),
    ],
)
def test_a_still_clip_has_the_logits_of_its_image(of_images, of_clips, padding, tmp_path):
    """Kernels of 5 and 3 frames reach beyond the first and the last frame of the clip."""
    images_model, variables = random_variables(of_images, padding=padding)
    config = default_config()
    config.model.update(name=of_images, padding=padding, **SMALL)
    write_workdir(tmp_path, config, {'raw': variables, 'ema': variables})
    clips_model = create_model(of_clips, padding=padding, dtype='float32', **SMALL)
    new = new_variables(clips_model)
    with Checkpoints(tmp_path, read_only=True) as source:
        source.check_fine_tuning(0, new, (4, 3, 2, 1, 0))
        inflated = source.restore_for_fine_tuning(0, new, (4, 3, 2, 1, 0))
        with_new_head = source.restore_for_fine_tuning(0, new, None)
    np.testing.assert_array_equal(
        with_new_head['params']['head']['kernel'], new['params']['head']['kernel']
    )
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 40, 40, 3)), jnp.float32)
    expected = jax.jit(images_model.apply, static_argnums=2)(variables, images, False)
    for frames in (8, 5):
        clips = jnp.broadcast_to(images[:, None], (2, frames, 40, 40, 3))
        logits = jax.jit(clips_model.apply, static_argnums=2)(inflated, clips, False)
        tolerance = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(logits[:, ::-1], expected, rtol=0, atol=tolerance)


def test_gates_stay_new_and_a_pool_replaces_the_last_layer_of_the_stem():
    _, stored = random_variables('resnet_rs_14')
    wanted = init_variables(create_model('resnet_3d_rs_14', **SMALL), 32)
    assert is_of_images(stored, wanted)
    assert not is_of_images(stored, stored) and not is_of_images(wanted, wanted)
    assert plan_inflation(stored, wanted).describe() == (
        'kernels inflated over time; new: stage1/block1/self_gating/gate, '
        'stage2/block1/self_gating/gate, stage3/block1/self_gating/gate, '
        'stage4/block1/self_gating/gate; left out: stem/conv4, stem/norm4'
    )


@pytest.mark.parametrize(
    'of_images, of_clips',
    [
        ('resnet_rs_26', 'inflated_resnet_rs_14'),
        ('resnet_rs_14', 'inflated_resnet_rs_26'),
        ('resnet_14', 'inflated_resnet_rs_14'),
        ('resnet_rs_14', 'resnet_3d_14'),
    ],
)
def test_other_networks_are_refused(of_images, of_clips):
    shapes = [
        jax.eval_shape(lambda name=name: init_variables(create_model(name, **SMALL), 32))
        for name in (of_images, of_clips)
    ]
    with pytest.raises(UserError, match='variables? (has|have) no counterpart, the first '):
        plan_inflation(*shapes)
