"""The network that benchmarks/cpu_step.py compares with ours has XLA's convolutions alone."""

import cpu_step
import jax
import jax.numpy as jnp

from resnet_rs.models import create_model, init_variables


def traced() -> str:
    model = create_model('resnet_rs_14', num_classes=10, width_multiplier=0.25, dtype=jnp.float32)
    variables = jax.eval_shape(lambda: init_variables(model, 32))
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    return str(jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, images))


def test_the_other_network_has_convolutions_of_xla_alone():
    with cpu_step.xla_convolutions():
        other = traced()
    assert 'platform_index' in traced() and 'platform_index' not in other
    stem, blocks = 4, 4 * (3 + 1)  # a block has three convolutions and one of its shortcut
    assert other.count('conv_general_dilated') == stem + blocks
