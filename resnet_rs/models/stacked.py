"""Lossless conversion between the two layouts of the variables of a stage.

Unrolled: {'block1': ..., 'block2': ..., ..., 'blockN': ...}, the layout of all checkpoints.
Stacked, in networks with `scan_blocks`: {'block1': ..., 'blocks': {...}}, where every leaf of
'blocks' stacks the leaves of block 2 to N along a new first axis.

Both functions take any tree that contains such stages (parameters, batch statistics, averages,
optimiser state) and leave the rest unchanged. Leaves are arrays or jax.ShapeDtypeStruct.
"""

from functools import partial

import jax
import jax.numpy as jnp

STACKED = 'blocks'
FIRST_STACKED = 2


def unstack_blocks(tree):
    """Returns `tree` with every stacked stage unrolled."""
    return jax.tree.map(
        lambda part: _unrolled(part) if _is_stacked(part) else part, tree, is_leaf=_is_stacked
    )


def stack_blocks_like(tree, like):
    """Stacks the stages of the unrolled `tree` that `like` stacks, with the shardings of `like`."""
    return jax.tree.map(
        lambda wanted, part: _stacked(part, wanted) if _is_stacked(wanted) else part,
        like,
        tree,
        is_leaf=_is_stacked,
    )


def _is_stacked(part) -> bool:
    return isinstance(part, dict) and STACKED in part


def _unrolled(stage: dict) -> dict:
    stage = dict(stage)
    blocks = stage.pop(STACKED)
    for index in range(jax.tree.leaves(blocks)[0].shape[0]):
        stage[f'block{FIRST_STACKED + index}'] = jax.tree.map(partial(_take, index), blocks)
    return stage


def _stacked(stage: dict, like: dict) -> dict:
    blocks = [stage[f'block{number}'] for number in range(FIRST_STACKED, len(stage) + 1)]

    def stack(wanted, *leaves):
        stacked = jnp.stack(leaves)
        sharding = getattr(wanted, 'sharding', None)
        return stacked if sharding is None else jax.device_put(stacked, sharding)

    return {
        'block1': stage['block1'],
        STACKED: jax.tree.map(stack, like[STACKED], *blocks),
    }


def _take(index: int, leaf):
    """Returns one block's slice of a stacked leaf; a shape keeps its sharding of the other axes."""
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf[index]
    sharding = leaf.sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        spec = jax.sharding.PartitionSpec(*sharding.spec[1:])
        sharding = jax.sharding.NamedSharding(sharding.mesh, spec)
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=sharding)
