"""Rematerialisation: what the backward pass saves of the forward pass, and what it recomputes.

''              saves what differentiation needs; XLA recomputes what it finds cheap
'conv_outputs'  saves, for each block, its input, the outputs of its convolutions and all sums;
                recomputes elementwise operations and the widening convolution (a bottleneck's
                last), whose output costs as much to store as to compute
'block'         saves the input of each block; recomputes everything else
"""

import flax.linen as nn
import jax

from resnet_rs.utils.errors import UserError

CONV_OUTPUT = 'conv_output'  # jax.ad_checkpoint.checkpoint_name of what 'conv_outputs' saves


def _small(primitive, *_, **__) -> bool:
    """Saves sums of batch norm and squeeze-excite, which are tiny but cost a pass to recompute."""
    return primitive.name in ('reduce_sum', 'dot_general')


POLICIES = {
    '': None,
    'conv_outputs': jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.save_only_these_names(CONV_OUTPUT), _small
    ),
    'block': jax.checkpoint_policies.nothing_saveable,
}


def parse(text: str, stages: int) -> tuple[str, ...]:
    """Parses 'block' to ('block',), and 'block,block,,' to a name for each of four stages.

    Raises UserError for any other number of names.
    """
    names = tuple(name.strip() for name in text.split(','))
    if len(names) not in (1, stages):
        raise UserError(
            f'model.remat is {text!r}, which has {len(names)} names; give one, or one for each of '
            f'the {stages} stages'
        )
    return names


def of_stage(names: tuple[str, ...], number: int) -> str:
    """Returns the policy of stage 1, 2, ..."""
    return names[number - 1] if len(names) > 1 else names[0]


def apply(function, name: str, *, in_loop: bool = False):
    """Applies the policy `name` to `function(module, ...)`."""
    if not name:
        return function
    # Outside a loop XLA would otherwise merge the two equal computations and save the first.
    return nn.remat(function, policy=POLICIES[name], prevent_cse=not in_loop)
