"""The parts that all residual networks share: settings, stem, stages, shortcuts and head.

A family (resnet.py, resnest.py) adds its own settings and its block.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from resnet_rs.models import initializers, rematerialisation
from resnet_rs.models.convolution import conv_general_dilated
from resnet_rs.models.layers import (
    ACTIVATIONS,
    BatchNorm,
    StochasticDepth,
    accumulation_dtype,
    average_pool,
    check_call,
    explicit_padding,
    spatial_mean,
)
from resnet_rs.models.stacked import STACKED

STAGE_WIDTHS = (64, 128, 256, 512)
STEM_STRIDE = 4
Extent = int | tuple[int, ...]  # of a kernel or a stride: along every spatial axis, or along each


@dataclasses.dataclass(frozen=True)
class ResidualArchitecture:
    """The settings of every residual network; a family adds its own. All its modules read them."""

    stage_sizes: tuple[int, ...]
    width_multiplier: float = 1.0
    output_stride: int = 32  # 8 or 16: later stages are dilated instead of strided
    num_classes: int | None = 1000  # None: no head; logits are the pooled features
    dropout_rate: float = 0.0
    stochastic_depth_rate: float = 0.0
    batch_norm_momentum: float = 0.0
    batch_norm_group_size: int | None = None
    initializer: str = 'truncated_normal'  # of kernels (initializers.KERNELS)
    zero_gamma: bool = True  # the last norm of a block starts at scale zero
    activation: str = 'relu'  # or 'swish' (Model Garden)
    padding: str = 'symmetric'  # or 'same' (Model Garden)
    pool_unstrided_shortcut: bool = False  # True (Model Garden): a stride-1 pool in stage 1
    scan_blocks: bool = False  # one loop over blocks 2..N of a stage, whose variables are stacked
    remat: tuple[str, ...] = ('',)  # of every stage, or one for each (rematerialisation.py)
    dtype: Any = jnp.bfloat16
    param_dtype: Any = jnp.float32

    @property
    def axes(self) -> int:
        """Spatial axes of the input: 2 of images; 3 of clips, whose first one is time."""
        return 2

    @property
    def stem_layers(self) -> tuple[tuple[int, Extent, Extent], ...]:
        """Features, size of the kernel and stride of each convolution of the stem."""
        raise NotImplementedError

    @property
    def stem_pool(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Returns window and strides of the max pool that ends the stem; None for no pool."""
        return (3, 3), (2, 2)

    @property
    def head_initializer(self) -> Callable:
        """Returns the initializer of the kernel of the head."""
        return initializers.HEADS[self.initializer]

    @property
    def pools_shortcut(self) -> bool:
        """Returns whether a strided shortcut is an average pool and a 1x1 convolution (D)."""
        return True

    @property
    def expansion(self) -> int:
        """Channels that leave a block, over the width of its stage."""
        return 4

    @property
    def follows_schedule(self) -> bool:
        """Returns whether blocks take the share of the training that is done, as `progress`."""
        return False

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of the output of every stage."""
        widths = STAGE_WIDTHS[: len(self.stage_sizes)]
        return tuple(self.expansion * self.width(width) for width in widths)

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Stride of the output of every stage, in pixels of the image."""
        return tuple(
            min(STEM_STRIDE * 2**index, self.output_stride)
            for index in range(len(self.stage_sizes))
        )

    def stage_dilation(self, stage: int) -> int:
        """Returns the dilation of stage 1, 2, ..., which replaces omitted strides."""
        return STEM_STRIDE * 2 ** (stage - 1) // self.stage_strides[stage - 1]

    def width(self, features: int) -> int:
        return int(features * self.width_multiplier)

    def stage_drop_rate(self, stage: int) -> float:
        """Returns the drop rate of stage 1..4: 0.4, 0.6, 0.8 and 1.0 of the network's rate."""
        return self.stochastic_depth_rate * (stage + 1) / (len(self.stage_sizes) + 1)

    def stage_draws(self, stage: int) -> bool:
        """Returns whether blocks of stage 1, 2, ... draw random numbers when they train."""
        return self.stage_drop_rate(stage) > 0


class ArchitectureModule(nn.Module):
    """A module with the constructors that all parts of a network share."""

    architecture: ResidualArchitecture

    def conv(
        self,
        features: int,
        kernel_size: Extent,
        stride: Extent = 1,
        dilation: Extent = 1,
        *,
        name: str,
    ) -> nn.Conv:
        kernel_size, stride, dilation = (
            (extent,) * self.architecture.axes if isinstance(extent, int) else extent
            for extent in (kernel_size, stride, dilation)
        )
        extents = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
        return nn.Conv(
            features,
            kernel_size,
            strides=stride,
            padding=explicit_padding(extents, self.architecture.padding),
            kernel_dilation=dilation,
            use_bias=False,
            kernel_init=initializers.KERNELS[self.architecture.initializer],
            dtype=self.architecture.dtype,
            param_dtype=self.architecture.param_dtype,
            conv_general_dilated=conv_general_dilated,
            name=name,
        )

    def norm(self, *, name: str, ends_block: bool = False) -> BatchNorm:
        starts_at_zero = ends_block and self.architecture.zero_gamma
        return BatchNorm(
            self.architecture.batch_norm_momentum,
            self.architecture.batch_norm_group_size,
            scale_init=initializers.zeros if starts_at_zero else initializers.ones,
            param_dtype=self.architecture.param_dtype,
            name=name,
        )

    def activation(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.architecture.activation](x.astype(self.architecture.dtype))


class Stem(ArchitectureModule):
    """The first layers, from images to features at a quarter of the resolution."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.architecture.stem_layers
        for index, (features, kernel_size, stride) in enumerate(layers, start=1):
            x = self.conv(features, kernel_size, stride, name=f'conv{index}')(x)
            x = self.activation(self.norm(name=f'norm{index}')(x, train))
        if not self.architecture.stem_pool:
            return x
        window, strides = self.architecture.stem_pool
        padding = explicit_padding(window, self.architecture.padding)
        return nn.max_pool(x, window, strides, padding=padding)


class Block(ArchitectureModule):
    """A residual block: activation(shortcut + branch). A family says what the branch is.

    A branch ends in the tail (fused_tail.py): a convolution, a norm whose scale starts at zero,
    squeeze-excite, and stochastic depth, which draws with `key` and drops nothing without it.
    `features` is the width of the stage, `stage` its number and `number` that of the block in it.
    `first_dilation` is the dilation of the convolution that carries the stride: in the first block
    of a stage that of the stage before, elsewhere `dilation`.
    """

    features: int
    stride: int
    drop_rate: float
    dilation: int = 1
    first_dilation: int = 1
    stage: int = 1
    number: int = 1

    @property
    def strides(self) -> tuple[int, ...]:
        """Returns the stride of the block along every spatial axis."""
        return (self.stride,) * self.architecture.axes

    def convolved(
        self,
        x: jax.Array,
        features: int,
        kernel_size: Extent,
        stride: Extent,
        name: str,
        dilation: Extent = 1,
    ):
        x = self.conv(features, kernel_size, stride, dilation, name=name)(x)
        return checkpoint_name(x, rematerialisation.CONV_OUTPUT)

    def squeeze_excite(self, branch):
        return branch

    def stochastic_depth(self, branch, train: bool, key: jax.Array | None):
        if key is None:
            return branch
        drop = StochasticDepth(self.drop_rate, parent=None)
        return drop.apply({}, branch, train, rngs={'stochastic_depth': key})

    def shortcut(self, x: jax.Array, features: int, train: bool) -> jax.Array:
        if self.stride == 1 and x.shape[-1] == features:
            return x
        strides, architecture = self.strides, self.architecture
        if architecture.pools_shortcut:
            of_time = strides[:-2]
            if self.stride > 1 or architecture.pool_unstrided_shortcut:
                x = average_pool(x, self.stride)
            elif self.dilation > 1:  # timm's form: a pool without its stride, padding counted
                window = (*(1,) * len(of_time), 2, 2)
                x = nn.avg_pool(x, window, (1,) * len(window), padding='SAME')
            strides = (*of_time, 1, 1)
        x = self.conv(features, 1, strides, name='shortcut_conv')(x)
        return self.norm(name='shortcut_norm')(x, train)


class Stage(ArchitectureModule):
    """`size` blocks of one width; the first one carries the stride and the projection."""

    number: int  # 1 for the stage after the stem
    size: int
    block_class: type[Block]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, progress=None) -> jax.Array:
        architecture = self.architecture
        features = architecture.width(STAGE_WIDTHS[self.number - 1])
        drop_rate = architecture.stage_drop_rate(self.number)
        dilation = architecture.stage_dilation(self.number)
        # A key depends on the position and not on the name, so that a block draws the same numbers
        # in a loop and outside of it.
        keys = [None] * self.size
        if train and architecture.stage_draws(self.number):
            keys = jax.random.split(self.make_rng('stochastic_depth'), self.size)
        remat = rematerialisation.of_stage(architecture.remat, self.number)
        of_schedule = {'progress': progress} if architecture.follows_schedule else {}

        def apply(block, x, key):
            return block(x, train, key, **of_schedule)

        def block(stride, first_dilation, number, name=None):
            settings = (features, stride, drop_rate, dilation, first_dilation, self.number, number)
            return self.block_class(architecture, *settings, name=name or f'block{number}')

        strides, dilation_before = (1, *architecture.stage_strides), 1
        stride = 1
        if self.number > 1:
            stride = strides[self.number] // strides[self.number - 1]
            dilation_before = architecture.stage_dilation(self.number - 1)
        first = rematerialisation.apply(apply, remat)
        x = first(block(stride, dilation_before, 1), x, keys[0])
        if not architecture.scan_blocks or self.size == 1:
            for index in range(1, self.size):
                x = first(block(1, dilation, index + 1), x, keys[index])
            return x
        looped = rematerialisation.apply(apply, remat, in_loop=True)
        loop = nn.scan(
            lambda block, x, key: (looped(block, x, key), None),
            variable_axes={'params': 0, 'batch_stats': 0},
            split_rngs={'params': True},
            length=self.size - 1,
        )
        x, _ = loop(block(1, dilation, 2, STACKED), x, keys[1:] if keys[0] is not None else None)
        return x


class ResidualNetwork(ArchitectureModule):
    """A residual network; `resnet_rs.models.create_model` builds the named ones.

    Collections: params and batch_stats; a network whose architecture follows a schedule reads
    schedule/progress too, the share of the training that is done. RNG streams when training:
    dropout, stochastic_depth.
    """

    @property
    def block_class(self) -> type[Block]:
        raise NotImplementedError

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool, output: str = 'logits'
    ) -> jax.Array | tuple[jax.Array, ...]:
        """Returns the logits of images, or features of them.

        Args:
          images: [batch, height, width, 3], normalised, of any float dtype; clips [batch, frames,
            height, width, 3] where the architecture has three axes.
          train: whether to use the statistics of the batch, dropout and stochastic depth.
          output: 'logits' [batch, num_classes]; 'pooled' [batch, channels], the input of the head;
            both float32 (float64 if `dtype` is); or 'stages', a tuple of every stage's output
            [batch, height / stride, width / stride, channels] in `dtype`, with the strides and
            channels of `architecture.stage_strides` and `stage_channels`.

        Raises UserError, when the call is traced, for invalid images and an unknown output.
        """
        architecture = self.architecture
        check_call(images, output, architecture.axes)
        progress = None
        if train and architecture.follows_schedule:
            progress = self.get_variable('schedule', 'progress', jnp.ones(()))
        x = Stem(architecture, name='stem')(images.astype(architecture.dtype), train)
        features = []
        for number, size in enumerate(architecture.stage_sizes, start=1):
            stage = Stage(architecture, number, size, self.block_class, name=f'stage{number}')
            x = stage(x, train, progress)
            features.append(x)
        if output == 'stages':
            return tuple(features)

        head_dtype = accumulation_dtype(architecture.dtype)
        x = spatial_mean(x)
        if output == 'pooled' or architecture.num_classes is None:
            return x
        x = nn.Dropout(architecture.dropout_rate, deterministic=not train)(x)
        return nn.Dense(
            architecture.num_classes,
            kernel_init=architecture.head_initializer,
            bias_init=initializers.zeros,
            dtype=head_dtype,
            param_dtype=architecture.param_dtype,
            name='head',
        )(x)
