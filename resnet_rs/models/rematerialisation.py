"""What the backward pass keeps of the forward pass, and what it computes again.

''              whatever differentiation asks for; XLA recomputes what it finds cheap
'conv_outputs'  per block its input, the outputs of its convolutions and all sums; again: what is
                elementwise, and the convolution that widens (a bottleneck's last), whose output
                costs as much to store as to compute
'block'         per block its input; again: everything else
"""

import flax.linen as nn
import jax

from resnet_rs.utils.errors import UserError

CONV_OUTPUT = 'conv_output'  # the jax.ad_checkpoint.checkpoint_name of what 'conv_outputs' keeps


def _small(primitive, *_, **__) -> bool:
    """Sums of batch norm and squeeze-excite: next to nothing to keep, a pass to take again."""
    return primitive.name in ('reduce_sum', 'dot_general')


POLICIES = {
    '': None,
    'conv_outputs': jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.save_only_these_names(CONV_OUTPUT), _small
    ),
    'block': jax.checkpoint_policies.nothing_saveable,
}


def parse(text: str, stages: int) -> tuple[str, ...]:
    """'block' as ('block',) and 'block,block,,' as a name for each of four stages.

    Raises UserError for another number of names.
    """
    names = tuple(name.strip() for name in text.split(','))
    if len(names) not in (1, stages):
        raise UserError(
            f'model.remat is {text!r}, which has {len(names)} names; give one, or one for each of '
            f'the {stages} stages'
        )
    return names


def of_stage(names: tuple[str, ...], number: int) -> str:
    """The policy of stage 1, 2, ..."""
    return names[number - 1] if len(names) > 1 else names[0]


def apply(function, name: str, *, in_loop: bool = False):
    """`function(module, ...)` under the policy `name`."""
    if not name:
        return function
    # Outside a loop XLA would otherwise see that both computations are one, and keep the first.
    return nn.remat(function, policy=POLICIES[name], prevent_cse=not in_loop)
