"""3-D ResNet-RS and R3D: residual networks for clips, with kernels over time and over space.

Source: TF Model Garden 2.20, official/vision/modeling/backbones/resnet_3d.py, the public code of
the paper's section 7.5. A bottleneck is factorised: its first convolution is over time, its second
over space. docs/video.md says how the public descriptions differ.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax

from resnet_rs.models import initializers, rematerialisation, resnet
from resnet_rs.models.fused_tail import fused_tail
from resnet_rs.models.layers import SelfGate
from resnet_rs.models.residual import Block, Extent, ResidualNetwork
from resnet_rs.models.resnet_3d_variants import ONE_ONE_THREE_THREE
from resnet_rs.utils.errors import UserError

MODEL_GARDENS_HEAD = initializers.uniform(0.05)


@dataclasses.dataclass(frozen=True)
class Architecture(resnet.Architecture):
    """The settings of a network for clips: those of a ResNet, which are of space, and of time."""

    shortcut: str = 'projection'
    padding: str = 'same'
    # Of the first convolution of a block, for each stage: of all its blocks, or of each.
    temporal_kernels: tuple[tuple[int, ...], ...] = ONE_ONE_THREE_THREE
    temporal_strides: tuple[int, ...] = (1, 1, 1, 1)  # of the first block of each stage
    stem_temporal_kernel: int = 5
    stem_temporal_stride: int = 2
    stem_pool_temporal_stride: int = 1
    self_gating: bool = False  # in the last block of each stage

    @property
    def axes(self) -> int:
        return 3

    @property
    def stem_layers(self) -> tuple[tuple[int, Extent, Extent], ...]:
        (features, size, stride), *others = super().stem_layers
        first = (
            features,
            (self.stem_temporal_kernel, size, size),
            (self.stem_temporal_stride, stride, stride),
        )
        others = ((f, (1, size, size), (1, stride, stride)) for f, size, stride in others)
        return (first, *others)

    @property
    def stem_pool(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        of_space, stride = super().stem_pool, self.stem_pool_temporal_stride
        if of_space is None:
            return None
        window, strides = of_space
        return (1 if stride == 1 else 3, *window), (stride, *strides)

    @property
    def head_initializer(self) -> Callable:
        if self.initializer == 'truncated_normal':
            return MODEL_GARDENS_HEAD
        return super().head_initializer

    def temporal_kernel(self, stage: int, block: int) -> int:
        """Returns the kernel over time of block 1, 2, ... of stage 1, 2, ..."""
        kernels = self.temporal_kernels[stage - 1]
        return kernels[block - 1] if len(kernels) > 1 else kernels[0]

    def has_self_gate(self, stage: int, block: int) -> bool:
        """Returns whether block 1, 2, ... of stage 1, 2, ... ends in a self-gate."""
        return self.self_gating and block == self.stage_sizes[stage - 1]


def build(remat: str = '', **settings) -> 'ResNet3D':
    """Returns the network with these fields of Architecture; `remat` is config.model.remat.

    Raises UserError for settings that a network for clips does not have, and for kernels or strides
    over time that are not those of its stages and blocks.
    """
    stages = len(settings['stage_sizes'])
    architecture = Architecture(remat=rematerialisation.parse(remat, stages), **settings)
    if architecture.scan_blocks:
        raise UserError(
            'model.scan_blocks is True, but the blocks of a stage of a network for clips differ in '
            'their kernels and gates; use --config.model.scan_blocks=False'
        )
    if architecture.block != 'bottleneck':
        raise UserError(
            f"the block of a network for clips is 'bottleneck', not {architecture.block!r}"
        )
    kernels, sizes = architecture.temporal_kernels, architecture.stage_sizes
    fit = len(kernels) == len(sizes) == len(architecture.temporal_strides) and all(
        len(of_stage) in (1, size) for of_stage, size in zip(kernels, sizes, strict=True)
    )
    if not fit:
        raise UserError(
            f'temporal_kernels is {kernels} and temporal_strides is '
            f'{architecture.temporal_strides}; the stages have {sizes} blocks: give one stride for '
            'each stage, and one kernel for each stage or for each of its blocks'
        )
    return ResNet3D(architecture)


class BottleneckBlock3D(resnet.GatedBlock):
    """A convolution over time, one over space, and a 1x1x1 one to four times the width."""

    @property
    def strides(self) -> tuple[int, ...]:
        of_time = self.architecture.temporal_strides[self.stage - 1] if self.number == 1 else 1
        return (of_time, self.stride, self.stride)

    def squeeze_excite(self, branch):
        architecture = self.architecture
        if architecture.has_self_gate(self.stage, self.number):
            branch = SelfGate(
                initializers.truncated_normal(0.01),
                dtype=architecture.dtype,
                param_dtype=architecture.param_dtype,
                name='self_gating',
            )(branch)
        return super().squeeze_excite(branch)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, key: jax.Array | None = None) -> jax.Array:
        of_time, *of_space = self.strides
        length = self.architecture.temporal_kernel(self.stage, self.number)
        y = self.convolved(x, self.features, (length, 1, 1), (of_time, 1, 1), 'conv1')
        y = self.activation(self.norm(name='norm1')(y, train))
        dilation = (1, self.first_dilation, self.first_dilation)
        y = self.convolved(y, self.features, (1, 3, 3), (1, *of_space), 'conv2', dilation)
        y = self.activation(self.norm(name='norm2')(y, train))
        y = fused_tail(self, y, 4 * self.features, 1, '3', train, key)
        return self.activation(y + self.shortcut(x, 4 * self.features, train))


class ResNet3D(ResidualNetwork):
    """A network for clips [batch, frames, height, width, 3], called as ResidualNetwork is.

    Its stages are [batch, frames / stride, height / stride, width / stride, channels].
    """

    block_class: type[Block] = BottleneckBlock3D
