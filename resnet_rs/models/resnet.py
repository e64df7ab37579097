"""ResNet v1, v1.5 (B), C, D, SE and ResNet-RS, from one stem, two blocks and two shortcuts.

The code follows the authors' TF1 network (tensorflow/tpu, models/official/resnet/resnet_model.py).
docs/fidelity.md lists the differences between the public implementations.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from resnet_rs.models import initializers, rematerialisation
from resnet_rs.models.convolution import conv_general_dilated
from resnet_rs.models.fused_tail import fused_tail
from resnet_rs.models.layers import (
    ACTIVATIONS,
    BatchNorm,
    SqueezeExcite,
    StochasticDepth,
    accumulation_dtype,
    explicit_padding,
    spatial_mean,
)
from resnet_rs.models.stacked import STACKED
from resnet_rs.utils.errors import UserError

STAGE_WIDTHS = (64, 128, 256, 512)
OUTPUTS = ('logits', 'pooled', 'stages')


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The settings of a network, which all of its modules read."""

    stage_sizes: tuple[int, ...]
    block: str = 'bottleneck'  # or 'basic'
    stem: str = 'deep_strided'  # or 'deep' (three 3x3), 'conv7'; those two end in a max pool
    shortcut: str = 'average_pool'  # or 'projection': how a strided shortcut downsamples
    stride_in: str = 'conv2'  # or 'conv1': the convolution of a bottleneck that is strided
    squeeze_excite_ratio: float = 0.0
    squeeze_excite_divisor: int = 1
    width_multiplier: float = 1.0
    num_classes: int | None = 1000  # None: no head; logits are the pooled features
    dropout_rate: float = 0.0
    stochastic_depth_rate: float = 0.0
    batch_norm_momentum: float = 0.0
    batch_norm_group_size: int | None = None
    activation: str = 'relu'  # or 'swish' (Model Garden)
    padding: str = 'symmetric'  # or 'same' (Model Garden)
    pool_unstrided_shortcut: bool = False  # True (Model Garden): a stride-1 pool in stage 1
    scan_blocks: bool = False  # one loop over blocks 2..N of a stage, whose variables are stacked
    remat: tuple[str, ...] = ('',)  # of every stage, or one for each (rematerialisation.py)
    dtype: Any = jnp.bfloat16
    param_dtype: Any = jnp.float32

    def width(self, features: int) -> int:
        return int(features * self.width_multiplier)

    def stage_drop_rate(self, stage: int) -> float:
        """Returns the drop rate of stage 1..4: 0.4, 0.6, 0.8 and 1.0 of the network's rate."""
        return self.stochastic_depth_rate * (stage + 1) / (len(self.stage_sizes) + 1)


def build(remat: str = '', **settings) -> 'ResNet':
    """Returns the network with these fields of Architecture; `remat` is config.model.remat."""
    stages = len(settings['stage_sizes'])
    return ResNet(Architecture(remat=rematerialisation.parse(remat, stages), **settings))


class ArchitectureModule(nn.Module):
    """A module with the constructors that all parts of a network share."""

    architecture: Architecture

    def conv(self, features: int, kernel_size: int, stride: int = 1, *, name: str) -> nn.Conv:
        return nn.Conv(
            features,
            (kernel_size, kernel_size),
            strides=stride,
            padding=explicit_padding(kernel_size, self.architecture.padding),
            use_bias=False,
            kernel_init=initializers.fan_in_truncated_normal,
            dtype=self.architecture.dtype,
            param_dtype=self.architecture.param_dtype,
            conv_general_dilated=conv_general_dilated,
            name=name,
        )

    def norm(self, *, name: str, zero_scale: bool = False) -> BatchNorm:
        return BatchNorm(
            self.architecture.batch_norm_momentum,
            self.architecture.batch_norm_group_size,
            scale_init=initializers.zeros if zero_scale else initializers.ones,
            param_dtype=self.architecture.param_dtype,
            name=name,
        )

    def activation(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.architecture.activation](x.astype(self.architecture.dtype))


class Stem(ArchitectureModule):
    """The first layers, from images to features at a quarter of the resolution."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        narrow, wide = self.architecture.width(32), self.architecture.width(64)
        layers = {
            'conv7': [(wide, 7, 2)],
            'deep': [(narrow, 3, 2), (narrow, 3, 1), (wide, 3, 1)],
            'deep_strided': [(narrow, 3, 2), (narrow, 3, 1), (wide, 3, 1), (wide, 3, 2)],
        }[self.architecture.stem]
        for index, (features, kernel_size, stride) in enumerate(layers, start=1):
            x = self.conv(features, kernel_size, stride, name=f'conv{index}')(x)
            x = self.activation(self.norm(name=f'norm{index}')(x, train))
        if self.architecture.stem == 'deep_strided':
            return x
        padding = explicit_padding(3, self.architecture.padding)
        return nn.max_pool(x, (3, 3), (2, 2), padding=padding)


class Block(ArchitectureModule):
    """A residual block: activation(shortcut + branch).

    A branch ends in the tail: a convolution, a norm whose scale starts at zero, squeeze-excite,
    and stochastic depth, which draws with `key` and drops nothing without it. `features` is the
    width of the stage.
    """

    features: int
    stride: int
    drop_rate: float

    def convolved(self, x: jax.Array, features: int, kernel_size: int, stride: int, name: str):
        x = self.conv(features, kernel_size, stride, name=name)(x)
        return checkpoint_name(x, rematerialisation.CONV_OUTPUT)

    def squeeze_excite(self, branch):
        if not self.architecture.squeeze_excite_ratio:
            return branch
        return SqueezeExcite(
            self.architecture.squeeze_excite_ratio,
            self.architecture.squeeze_excite_divisor,
            dtype=self.architecture.dtype,
            param_dtype=self.architecture.param_dtype,
            name='squeeze_excite',
        )(branch)

    def stochastic_depth(self, branch, train: bool, key: jax.Array | None):
        if key is None:
            return branch
        drop = StochasticDepth(self.drop_rate, parent=None)
        return drop.apply({}, branch, train, rngs={'stochastic_depth': key})

    def shortcut(self, x: jax.Array, features: int, train: bool) -> jax.Array:
        if self.stride == 1 and x.shape[-1] == features:
            return x
        stride = self.stride
        if self.architecture.shortcut == 'average_pool':
            if stride > 1 or self.architecture.pool_unstrided_shortcut:
                strides = (stride, stride)
                x = nn.avg_pool(x, (2, 2), strides, padding='SAME', count_include_pad=False)
            stride = 1
        x = self.conv(features, 1, stride, name='shortcut_conv')(x)
        return self.norm(name='shortcut_norm')(x, train)


class BasicBlock(Block):
    """Two 3x3 convolutions (He et al. 2015, figure 5 left)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, key: jax.Array | None = None) -> jax.Array:
        y = self.convolved(x, self.features, 3, self.stride, 'conv1')
        y = self.activation(self.norm(name='norm1')(y, train))
        y = fused_tail(self, y, self.features, 3, '2', train, key)
        return self.activation(y + self.shortcut(x, self.features, train))


class BottleneckBlock(Block):
    """A 1x1, a 3x3 and a 1x1 convolution to four times the width (the same figure, right)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, key: jax.Array | None = None) -> jax.Array:
        first, second = self.stride, 1
        if self.architecture.stride_in == 'conv2':
            first, second = 1, self.stride
        y = self.convolved(x, self.features, 1, first, 'conv1')
        y = self.activation(self.norm(name='norm1')(y, train))
        y = self.convolved(y, self.features, 3, second, 'conv2')
        y = self.activation(self.norm(name='norm2')(y, train))
        y = fused_tail(self, y, 4 * self.features, 1, '3', train, key)
        return self.activation(y + self.shortcut(x, 4 * self.features, train))


BLOCKS = {'basic': BasicBlock, 'bottleneck': BottleneckBlock}


class Stage(ArchitectureModule):
    """`size` blocks of one width; the first one carries the stride and the projection."""

    number: int  # 1 for the stage after the stem
    size: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        architecture = self.architecture
        features = architecture.width(STAGE_WIDTHS[self.number - 1])
        drop_rate = architecture.stage_drop_rate(self.number)
        # A key depends on the position and not on the name, so that a block draws the same numbers
        # in a loop and outside of it.
        keys = [None] * self.size
        if train and drop_rate:
            keys = jax.random.split(self.make_rng('stochastic_depth'), self.size)
        remat = rematerialisation.of_stage(architecture.remat, self.number)

        def apply(block, x, key):
            return block(x, train, key)

        def block(stride, name):
            return BLOCKS[architecture.block](architecture, features, stride, drop_rate, name=name)

        first = rematerialisation.apply(apply, remat)
        x = first(block(2 if self.number > 1 else 1, 'block1'), x, keys[0])
        if not architecture.scan_blocks or self.size == 1:
            for index in range(1, self.size):
                x = first(block(1, f'block{index + 1}'), x, keys[index])
            return x
        looped = rematerialisation.apply(apply, remat, in_loop=True)
        loop = nn.scan(
            lambda block, x, key: (looped(block, x, key), None),
            variable_axes={'params': 0, 'batch_stats': 0},
            split_rngs={'params': True},
            length=self.size - 1,
        )
        x, _ = loop(block(1, STACKED), x, keys[1:] if keys[0] is not None else None)
        return x


class ResNet(ArchitectureModule):
    """A residual network; `resnet_rs.models.create_model` builds the named ones.

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
            both float32 (float64 if `dtype` is); or 'stages', a tuple of every stage's output
            [batch, height / (4, 8, 16, 32), width / ..., channels] in `dtype`.

        Raises UserError, when the call is traced, for invalid images and an unknown output.
        """
        architecture = self.architecture
        if output not in OUTPUTS:
            raise UserError(f'output is {output!r}; it takes {", ".join(OUTPUTS)}')
        if not jnp.issubdtype(images.dtype, jnp.floating) or images.shape[3:] != (3,):
            raise UserError(
                f'the images are {images.dtype}{list(images.shape)}; the network takes normalised '
                'images of a float dtype, [batch, height, width, 3]: (pixels - mean) / deviation'
            )
        x = Stem(architecture, name='stem')(images.astype(architecture.dtype), train)
        features = []
        for number, size in enumerate(architecture.stage_sizes, start=1):
            x = Stage(architecture, number, size, name=f'stage{number}')(x, train)
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
            kernel_init=initializers.normal(0.01),
            bias_init=initializers.zeros,
            dtype=head_dtype,
            param_dtype=architecture.param_dtype,
            name='head',
        )(x)
