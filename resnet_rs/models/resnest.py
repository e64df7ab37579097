"""ResNeSt: residual networks with split attention (Zhang et al. 2020, arXiv 2004.08955).

Follows the authors' released networks (github.com/zhanghang1989/ResNeSt), whose channels are
radix-major: channel r * width + c is channel c of split r. docs/fidelity.md lists where the public
implementations differ.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from resnet_rs.models import initializers, rematerialisation
from resnet_rs.models.convolution import conv_general_dilated
from resnet_rs.models.drop_block import drop_block
from resnet_rs.models.fused_tail import fused_tail
from resnet_rs.models.layers import accumulation_dtype, explicit_padding, over_space, spatial_mean
from resnet_rs.models.residual import (
    STAGE_WIDTHS,
    ArchitectureModule,
    Block,
    ResidualArchitecture,
    ResidualNetwork,
)
from resnet_rs.utils.errors import UserError

FEWEST_ATTENTION_CHANNELS = 32
DROP_BLOCK_STAGES = 2  # the last ones
LANES = 128  # of a TPU's vector units


@dataclasses.dataclass(frozen=True)
class Architecture(ResidualArchitecture):
    """The settings of a ResNeSt, which all of its modules read."""

    radix: int = 2  # splits of a group, which attention weighs against each other
    cardinality: int = 1  # groups
    bottleneck_width: int = 64  # of one group, in the stage of width 64
    pool_first: bool = False  # a strided block pools before its 3x3 convolution, not after it
    stem_width: int = 32
    drop_block_rate: float = 0.0  # in the last two stages, at the end of training

    @property
    def stem_layers(self) -> tuple[tuple[int, int, int], ...]:
        width = self.width(self.stem_width)
        return ((width, 3, 2), (width, 3, 1), (2 * width, 3, 1))

    @property
    def follows_schedule(self) -> bool:
        return self.drop_block_rate > 0

    def drops_blocks(self, stage: int) -> bool:
        """Returns whether stage 1, 2, ... has DropBlock."""
        return self.drop_block_rate > 0 and stage > len(self.stage_sizes) - DROP_BLOCK_STAGES

    def stage_draws(self, stage: int) -> bool:
        return super().stage_draws(stage) or self.drops_blocks(stage)

    def inner_width(self, features: int) -> int:
        """Returns the channels of one split of a block in a stage of width `features`."""
        return int(features * self.bottleneck_width / 64) * self.cardinality

    def attention_width(self, features: int) -> int:
        """Returns the channels between the two dense layers that compute the attention."""
        return max(self.inner_width(features) * self.radix // 4, FEWEST_ATTENTION_CHANNELS)


def build(remat: str = '', **settings) -> 'ResNeSt':
    """Returns the network of `settings`, fields of Architecture; `remat` is that of the config.

    Raises UserError for widths that do not divide into its groups and splits.
    """
    stages = len(settings['stage_sizes'])
    architecture = Architecture(remat=rematerialisation.parse(remat, stages), **settings)
    groups = architecture.radix * architecture.cardinality
    for features in map(architecture.width, STAGE_WIDTHS[:stages]):
        inner, attention = (
            architecture.inner_width(features),
            architecture.attention_width(features),
        )
        if inner % groups or attention % architecture.cardinality or not inner:
            raise UserError(
                f'a stage of width {features} has {inner} channels in a split and {attention} for '
                f'attention, which do not divide into {architecture.radix} splits of '
                f'{architecture.cardinality} groups; choose another radix, cardinality, '
                'bottleneck_width or width_multiplier'
            )
    return ResNeSt(architecture)


def grouped_convolution(
    x: jax.Array, kernel: jax.Array, radix: int, cardinality: int, padding, dilation: int
) -> jax.Array:
    """Returns the convolution of `x` in radix * cardinality groups.

    Args:
      x: [batch, height, width, channels].
      kernel: [side, side, channels / groups, features], of the dtype of `x`.
      padding, dilation: as of jax.lax.conv_general_dilated.
    """

    def convolve(x, kernel, groups):
        return conv_general_dilated(
            x,
            kernel,
            (1, 1),
            padding,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            feature_group_count=groups,
        )

    # Plain convolutions are faster on a TPU where their channels fill its lanes
    # (docs/tpu_performance.md).
    if cardinality > 1 or x.shape[-1] // radix < LANES:
        return convolve(x, kernel, radix * cardinality)
    parts = zip(jnp.split(x, radix, -1), jnp.split(kernel, radix, -1), strict=True)
    return jnp.concatenate([convolve(images, part, 1) for images, part in parts], -1)


def radix_softmax(attention: jax.Array, radix: int, cardinality: int) -> jax.Array:
    """Returns the attention of every split, [batch, radix, width], from group-major logits.

    The logits are [batch, cardinality * radix * width / cardinality], in this order. Of several
    splits the attention sums to one over the splits; a single one has a sigmoid.
    """
    batch = attention.shape[0]
    if radix == 1:
        return jax.nn.sigmoid(attention)[:, None]
    attention = attention.reshape(batch, cardinality, radix, -1).swapaxes(1, 2)
    return jax.nn.softmax(attention, axis=1).reshape(batch, radix, -1)


class GroupedConv(ArchitectureModule):
    """A 3x3 convolution in radix * cardinality groups, without bias; its variable is nn.Conv's."""

    features: int
    dilation: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        architecture = self.architecture
        groups = architecture.radix * architecture.cardinality
        shape = (3, 3, x.shape[-1] // groups, self.features)
        kernel_init = initializers.KERNELS[architecture.initializer]
        kernel = self.param('kernel', kernel_init, shape, architecture.param_dtype)
        return grouped_convolution(
            x.astype(architecture.dtype),
            kernel.astype(architecture.dtype),
            architecture.radix,
            architecture.cardinality,
            explicit_padding(2 * self.dilation + 1, architecture.padding),
            self.dilation,
        )


class GroupedDense(ArchitectureModule):
    """A dense layer with bias on each of `cardinality` groups of channels."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [batch, features] of `x` [batch, channels], both group by group."""
        architecture = self.architecture
        groups = architecture.cardinality
        shape = (x.shape[-1] // groups, self.features)
        kernel_init = initializers.KERNELS[architecture.initializer]
        kernel = self.param('kernel', kernel_init, shape, architecture.param_dtype)
        bias = self.param('bias', initializers.zeros, shape[1:], architecture.param_dtype)
        x, kernel, bias = (value.astype(architecture.dtype) for value in (x, kernel, bias))
        x = x.reshape(x.shape[0], groups, -1)
        y = jnp.einsum('ngi,igo->ngo', x, kernel.reshape(shape[0], groups, -1))
        return y.reshape(x.shape[0], -1) + bias


class SplitAttention(ArchitectureModule):
    """The 3x3 convolution of a block into several splits, and their sum weighed by attention."""

    features: int  # of one split
    attention_features: int
    dilation: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop) -> jax.Array:
        """Returns [batch, height, width, features]; `drop(x, number)` is DropBlock."""
        radix, cardinality = self.architecture.radix, self.architecture.cardinality
        width = radix * self.features
        x = GroupedConv(self.architecture, width, self.dilation, name='conv')(x)
        x = checkpoint_name(x, rematerialisation.CONV_OUTPUT)
        x = self.activation(drop(self.norm(name='conv_norm')(x, train), 1))

        sums = spatial_mean(x).reshape(-1, radix, self.features).sum(1)
        hidden = GroupedDense(self.architecture, self.attention_features, name='reduce')(sums)
        hidden = self.activation(self.norm(name='reduce_norm')(hidden, train))
        logits = GroupedDense(self.architecture, width, name='expand')(hidden)
        attention = radix_softmax(
            logits.astype(accumulation_dtype(logits.dtype)), radix, cardinality
        )
        # Not attention[:, r]: for a symbolic batch that is a gather, which TFLite cannot convert.
        shares = (jnp.squeeze(share, 1) for share in jnp.split(attention, radix, axis=1))
        splits = jnp.split(x, radix, axis=-1)
        weighed = sum(
            split * over_space(share, x) for split, share in zip(splits, shares, strict=True)
        )
        return weighed.astype(x.dtype)


class SplitAttentionBlock(Block):
    """A 1x1 convolution, split attention, and a 1x1 convolution to four times the width.

    A strided block pools over 3x3, padding counted, after split attention or before it.
    """

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, key: jax.Array | None = None, progress=None
    ) -> jax.Array:
        architecture = self.architecture
        drops = key is not None and architecture.drops_blocks(self.stage)

        def drop(y, number):
            if not drops:
                return y
            rate = architecture.drop_block_rate * progress
            return drop_block(y, rate, jax.random.fold_in(key, number))

        def pooled(y, first):
            if self.stride == 1 or first != architecture.pool_first:
                return y
            strides = (self.stride, self.stride)
            return nn.avg_pool(y, (3, 3), strides, explicit_padding(3, architecture.padding))

        inner = architecture.inner_width(self.features)
        y = self.convolved(x, inner, 1, 1, 'conv1')
        y = self.activation(drop(self.norm(name='norm1')(y, train), 0))
        y = SplitAttention(
            architecture,
            inner,
            architecture.attention_width(self.features),
            self.first_dilation,
            name='split_attention',
        )(pooled(y, True), train, drop)
        y = fused_tail(self, pooled(y, False), 4 * self.features, 1, '3', train, key)
        return self.activation(drop(y, 2) + self.shortcut(x, 4 * self.features, train))


class ResNeSt(ResidualNetwork):
    """A ResNeSt, called as ResidualNetwork is."""

    block_class = SplitAttentionBlock
