"""Tests of what each kind of rematerialisation keeps, and of its names."""

import jax
import jax.numpy as jnp
import pytest

from resnet_rs.models import create_model, init_variables
from resnet_rs.models.rematerialisation import of_stage
from resnet_rs.utils.errors import UserError


def kept(remat):
    """Shapes of the images that a stage of 1 + 5 blocks keeps for the five."""
    model = create_model(
        'resnet_rs_50',
        stage_sizes=(6,),
        dtype='float32',
        width_multiplier=0.25,
        remat=remat,
        scan_blocks=True,
    )
    variables = jax.eval_shape(lambda: init_variables(model, 32))
    statistics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), variables['batch_stats'])

    def backward(params, images):
        def logits(params):
            return model.apply(
                {'params': params, 'batch_stats': statistics},
                images,
                True,
                mutable=['batch_stats'],
            )[0]

        return jax.vjp(logits, params)[1]

    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    residuals = jax.tree.leaves(jax.eval_shape(backward, variables['params'], images))
    return sorted(leaf.shape for leaf in residuals if leaf.shape[:4] == (5, 2, 16, 16))


def test_what_is_kept():
    """Checks five looped blocks, widths 16, 16, 64: the input, or the first two convolutions too.

    Their outputs are [2, 16, 16, 16]; the widening one's [2, 16, 16, 64] is computed again.
    """
    narrow, wide = (5, 2, 16, 16, 16), (5, 2, 16, 16, 64)
    assert kept('block') == [wide]
    assert kept('conv_outputs') == sorted([narrow, narrow, wide])
    assert len(kept('')) > 3


def test_a_name_for_each_stage():
    remat = create_model('resnet_rs_50', remat='block, block,conv_outputs,').architecture.remat
    assert [of_stage(remat, number) for number in (1, 2, 3, 4)] == [
        'block',
        'block',
        'conv_outputs',
        '',
    ]
    remat = create_model('resnet_rs_50', remat='block').architecture.remat
    assert {of_stage(remat, number) for number in (1, 2, 3, 4)} == {'block'}


@pytest.mark.parametrize('remat', ('blocks', 'block,block', 'block;block'))
def test_wrong_names_are_explained(remat):
    with pytest.raises(UserError, match='remat is'):
        create_model('resnet_rs_50', remat=remat)
