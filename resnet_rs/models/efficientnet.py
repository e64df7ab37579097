"""EfficientNet B0 to B8 and L2 (Tan and Le 2019) from one block, the mobile inverted bottleneck.

Follows the authors' released TF1 network (tensorflow/tpu, models/official/efficientnet):
`padding` 'same' and `batch_norm_epsilon` 1e-3 are theirs and timm's tf_efficientnet_*, 'symmetric'
and 1e-5 are timm's efficientnet_*. docs/fidelity.md lists where the implementations differ.
"""

import dataclasses
import fractions
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from resnet_rs.models import initializers, rematerialisation
from resnet_rs.models.convolution import conv_general_dilated
from resnet_rs.models.efficientnet_table import KINDS, BlockKind, scaled_width
from resnet_rs.models.layers import (
    BatchNorm,
    SqueezeExcite,
    accumulation_dtype,
    check_call,
    explicit_padding,
    spatial_mean,
    stochastic_depth,
)
from resnet_rs.models.stacked import STACKED

STEM_STRIDE = 2
SQUEEZE_EXCITE_RATIO = fractions.Fraction(1, 4)  # of the channels before the expansion


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The settings of a network, which all of its modules read."""

    stage_sizes: tuple[int, ...]
    stage_widths: tuple[int, ...]
    stem_width: int
    head_width: int
    width_multiplier: float = 1.0  # of all widths, on top of the network's own coefficient
    num_classes: int | None = 1000  # None: no head; logits are the pooled features
    dropout_rate: float = 0.0
    stochastic_depth_rate: float = 0.0  # "drop connect": the rate of the last block
    batch_norm_momentum: float = 0.0
    batch_norm_epsilon: float = 1e-5
    batch_norm_group_size: int | None = None
    padding: str = 'symmetric'  # or 'same'
    output_stride: int = 32  # 8 or 16: later stages are dilated in place of strided
    scan_blocks: bool = False  # one loop over blocks 2..N of a stage, whose variables are stacked
    remat: tuple[str, ...] = ('',)  # of every stage, or one for each (rematerialisation.py)
    dtype: Any = jnp.bfloat16
    param_dtype: Any = jnp.float32

    def width(self, channels: int) -> int:
        """Returns a width of the network times the multiplier, rounded."""
        return scaled_width(channels, self.width_multiplier)

    @property
    def last_stages(self) -> tuple[int, ...]:
        """The last stage of every resolution, whose outputs are the output 'stages'."""
        stages = len(self.stage_sizes)
        return tuple(
            stage for stage in range(1, stages + 1) if stage == stages or KINDS[stage].stride > 1
        )

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of every array of the output 'stages'."""
        return tuple(self.width(self.stage_widths[stage - 1]) for stage in self.last_stages)

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Pixels of the image to a position in every array of the output 'stages'."""
        return tuple(min(full_stride(stage), self.output_stride) for stage in self.last_stages)

    def stage_geometry(self, stage: int) -> tuple[int, int, int]:
        """Returns stride and dilation of the first block of a stage, and dilation of the others."""
        before, after = full_stride(stage - 1), full_stride(stage)
        stride_before, stride_after = (min(full, self.output_stride) for full in (before, after))
        return stride_after // stride_before, before // stride_before, after // stride_after

    def drop_rates(self, stage: int) -> list[float]:
        """Returns the rate of each block of a stage: block i of n has i / n of the network's."""
        first = sum(self.stage_sizes[: stage - 1])
        blocks = range(first, first + self.stage_sizes[stage - 1])
        return [self.stochastic_depth_rate * block / sum(self.stage_sizes) for block in blocks]


def full_stride(stage: int) -> int:
    """Returns the stride of the output of stage 1, 2, ..., of 0 that of the stem, undilated."""
    return STEM_STRIDE * math.prod(kind.stride for kind in KINDS[:stage])


def build(remat: str = '', **settings) -> 'EfficientNet':
    """Returns the network with these fields of Architecture; `remat` is config.model.remat."""
    stages = len(settings['stage_sizes'])
    return EfficientNet(Architecture(remat=rematerialisation.parse(remat, stages), **settings))


class ArchitectureModule(nn.Module):
    """A module with the constructors that all parts of a network share."""

    architecture: Architecture

    def conv(
        self,
        x: jax.Array,
        features: int,
        kernel_size: int = 1,
        stride: int = 1,
        dilation: int = 1,
        *,
        name: str,
        depthwise: bool = False,
    ) -> jax.Array:
        """Returns the convolution of `x`, in `dtype`; `depthwise` gives every channel a kernel."""
        depthwise_init = initializers.normal(math.sqrt(2) / kernel_size)
        return nn.Conv(
            features,
            (kernel_size, kernel_size),
            strides=stride,
            padding=explicit_padding(dilation * (kernel_size - 1) + 1, self.architecture.padding),
            kernel_dilation=dilation,
            feature_group_count=features if depthwise else 1,
            use_bias=False,
            kernel_init=depthwise_init if depthwise else initializers.fan_out_normal,
            dtype=self.architecture.dtype,
            param_dtype=self.architecture.param_dtype,
            conv_general_dilated=conv_general_dilated,
            name=name,
        )(x)

    def norm(self, *, name: str) -> BatchNorm:
        return BatchNorm(
            self.architecture.batch_norm_momentum,
            self.architecture.batch_norm_group_size,
            epsilon=self.architecture.batch_norm_epsilon,
            param_dtype=self.architecture.param_dtype,
            name=name,
        )

    def activated(self, x: jax.Array, train: bool, *, name: str) -> jax.Array:
        """Returns swish of the normalised `x`, in `dtype`."""
        return nn.swish(self.norm(name=name)(x, train).astype(self.architecture.dtype))


class Block(ArchitectureModule):
    """A mobile inverted bottleneck: expand, depthwise, squeeze-excite, project without activation.

    A block has a shortcut if its input and output have the same shape. The branch is dropped with
    probability `rate`, drawn with `key`, and without a key never.
    """

    kind: BlockKind
    features: int
    stride: int
    dilation: int

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool,
        key: jax.Array | None = None,
        rate: jax.Array | float = 0.0,
    ) -> jax.Array:
        architecture, kind, channels = self.architecture, self.kind, x.shape[-1]
        y, expanded = x, channels * kind.expansion
        if kind.expansion > 1:
            y = self.conv(y, expanded, name='expand_conv')
            y = self.activated(y, train, name='expand_norm')
        extent = (kind.kernel_size, self.stride, self.dilation)
        y = self.conv(y, expanded, *extent, name='depthwise_conv', depthwise=True)
        y = checkpoint_name(y, rematerialisation.CONV_OUTPUT)
        y = self.activated(y, train, name='depthwise_norm')
        y = SqueezeExcite(
            SQUEEZE_EXCITE_RATIO / kind.expansion,
            activation='swish',
            kernel_init=initializers.fan_out_normal,
            dtype=architecture.dtype,
            param_dtype=architecture.param_dtype,
            name='squeeze_excite',
        )(y)
        y = self.conv(y, self.features, name='project_conv')
        y = checkpoint_name(y, rematerialisation.CONV_OUTPUT)
        branch = self.norm(name='project_norm').affine(y, train)
        if self.stride > 1 or channels != self.features:
            return branch.value().astype(architecture.dtype)
        if key is not None:
            branch = stochastic_depth(branch, rate, key)
        return (branch.value() + x).astype(architecture.dtype)


class Stage(ArchitectureModule):
    """Blocks of one kind; the first one carries the stride and the change of width."""

    number: int  # 1 for the stage after the stem

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        architecture, kind = self.architecture, KINDS[self.number - 1]
        features = architecture.width(architecture.stage_widths[self.number - 1])
        rates = architecture.drop_rates(self.number)
        size = len(rates)
        # A key depends on the position and not on the name, so that a block draws the same numbers
        # in a loop and outside of it.
        keys = [None] * size
        if train and architecture.stochastic_depth_rate:
            keys = jax.random.split(self.make_rng('stochastic_depth'), size)
        remat = rematerialisation.of_stage(architecture.remat, self.number)

        def apply(block, x, key, rate):
            return block(x, train, key, rate)

        stride, first_dilation, dilation = architecture.stage_geometry(self.number)

        def block(name, stride=1, dilation=dilation):
            return Block(architecture, kind, features, stride, dilation, name=name)

        unrolled = rematerialisation.apply(apply, remat)
        x = unrolled(block('block1', stride, first_dilation), x, keys[0], rates[0])
        if not architecture.scan_blocks or size == 1:
            for index in range(1, size):
                x = unrolled(block(f'block{index + 1}'), x, keys[index], rates[index])
            return x
        looped = rematerialisation.apply(apply, remat, in_loop=True)
        loop = nn.scan(
            lambda block, x, draw: (looped(block, x, *draw), None),
            variable_axes={'params': 0, 'batch_stats': 0},
            split_rngs={'params': True},
            length=size - 1,
        )
        draws = (keys[1:] if keys[0] is not None else None, jnp.asarray(rates[1:]))
        x, _ = loop(block(STACKED), x, draws)
        return x


class EfficientNet(ArchitectureModule):
    """An EfficientNet; `resnet_rs.models.create_model` builds the named ones.

    Collections: params and batch_stats. RNG streams when training: dropout, stochastic_depth.
    """

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool, output: str = 'logits'
    ) -> jax.Array | tuple[jax.Array, ...]:
        """Returns the logits of images, or features of them.

        Args:
          images: [batch, height, width, 3], normalised, of any float dtype.
          train: whether to use the statistics of the batch, dropout and stochastic depth.
          output: 'logits' [batch, num_classes]; 'pooled' [batch, channels], the input of the head;
            both float32 (float64 if `dtype` is); or 'stages', a tuple of the last features of
            every resolution [batch, height / (2, 4, 8, 16, 32), width / ..., channels] in `dtype`,
            with the strides and channels of `architecture.stage_strides` and `stage_channels`.

        Raises UserError, when the call is traced, for invalid images and an unknown output.
        """
        architecture = self.architecture
        check_call(images, output)
        x = images.astype(architecture.dtype)
        x = self.conv(
            x, architecture.width(architecture.stem_width), 3, STEM_STRIDE, name='stem_conv'
        )
        x = self.activated(x, train, name='stem_norm')
        features = []
        for number in range(1, len(architecture.stage_sizes) + 1):
            x = Stage(architecture, number, name=f'stage{number}')(x, train)
            if number in architecture.last_stages:
                features.append(x)
        if output == 'stages':
            return tuple(features)

        x = self.conv(x, architecture.width(architecture.head_width), name='head_conv')
        x = spatial_mean(self.activated(x, train, name='head_norm'))
        if output == 'pooled' or architecture.num_classes is None:
            return x
        x = nn.Dropout(architecture.dropout_rate, deterministic=not train)(x)
        return nn.Dense(
            architecture.num_classes,
            kernel_init=initializers.uniform(1 / math.sqrt(architecture.num_classes)),
            bias_init=initializers.zeros,
            dtype=accumulation_dtype(architecture.dtype),
            param_dtype=architecture.param_dtype,
            name='head',
        )(x)
