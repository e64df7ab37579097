"""ResNet v1, v1.5 (B), C, D, SE and ResNet-RS: their settings and their two blocks.

The code follows the authors' TF1 network (tensorflow/tpu, models/official/resnet/resnet_model.py).
docs/fidelity.md lists the differences between the public implementations.
"""

import dataclasses

import flax.linen as nn
import jax

from resnet_rs.models import rematerialisation
from resnet_rs.models.fused_tail import fused_tail
from resnet_rs.models.layers import SqueezeExcite
from resnet_rs.models.residual import Block, ResidualArchitecture, ResidualNetwork


@dataclasses.dataclass(frozen=True)
class Architecture(ResidualArchitecture):
    """The settings of a network, which all of its modules read."""

    block: str = 'bottleneck'  # or 'basic'
    stem: str = 'deep_strided'  # or 'deep' (three 3x3), 'conv7'; those two end in a max pool
    shortcut: str = 'average_pool'  # or 'projection': how a strided shortcut downsamples
    stride_in: str = 'conv2'  # or 'conv1': the convolution of a bottleneck that is strided
    squeeze_excite_ratio: float = 0.0
    squeeze_excite_divisor: int = 1

    @property
    def stem_layers(self) -> tuple[tuple[int, int, int], ...]:
        narrow, wide = self.width(32), self.width(64)
        deep = ((narrow, 3, 2), (narrow, 3, 1), (wide, 3, 1))
        return {
            'conv7': ((wide, 7, 2),),
            'deep': deep,
            'deep_strided': (*deep, (wide, 3, 2)),
        }[self.stem]

    @property
    def stem_pool(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        return None if self.stem == 'deep_strided' else super().stem_pool

    @property
    def pools_shortcut(self) -> bool:
        return self.shortcut == 'average_pool'

    @property
    def expansion(self) -> int:
        return 4 if self.block == 'bottleneck' else 1


def build(remat: str = '', **settings) -> 'ResNet':
    """Returns the network with these fields of Architecture; `remat` is config.model.remat."""
    stages = len(settings['stage_sizes'])
    return ResNet(Architecture(remat=rematerialisation.parse(remat, stages), **settings))


class GatedBlock(Block):
    """A block whose tail has squeeze-excite where the architecture does."""

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


class BasicBlock(GatedBlock):
    """Two 3x3 convolutions (He et al. 2015, figure 5 left)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, key: jax.Array | None = None) -> jax.Array:
        y = self.convolved(x, self.features, 3, self.stride, 'conv1', self.first_dilation)
        y = self.activation(self.norm(name='norm1')(y, train))
        y = fused_tail(self, y, self.features, 3, '2', train, key)
        return self.activation(y + self.shortcut(x, self.features, train))


class BottleneckBlock(GatedBlock):
    """A 1x1, a 3x3 and a 1x1 convolution to four times the width (the same figure, right)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, key: jax.Array | None = None) -> jax.Array:
        first, second = self.stride, 1
        if self.architecture.stride_in == 'conv2':
            first, second = 1, self.stride
        y = self.convolved(x, self.features, 1, first, 'conv1')
        y = self.activation(self.norm(name='norm1')(y, train))
        y = self.convolved(y, self.features, 3, second, 'conv2', self.first_dilation)
        y = self.activation(self.norm(name='norm2')(y, train))
        y = fused_tail(self, y, 4 * self.features, 1, '3', train, key)
        return self.activation(y + self.shortcut(x, 4 * self.features, train))


BLOCKS = {'basic': BasicBlock, 'bottleneck': BottleneckBlock}


class ResNet(ResidualNetwork):
    """A ResNet, called as ResidualNetwork is."""

    @property
    def block_class(self) -> type[Block]:
        return BLOCKS[self.architecture.block]
