"""The table of EfficientNets, as plain data: reading it imports neither JAX nor Flax.

Tan and Le 2019; the coefficients and the rounding are those of the authors' code (tensorflow/tpu,
models/official/efficientnet/efficientnet_builder.py and efficientnet_model.py). The paper's formula
of compound scaling (alpha 1.2, beta 1.1, gamma 1.15) gives other networks than were released.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class BlockKind:
    """The settings that the blocks of a stage share; only the first one has the stride."""

    kernel_size: int
    stride: int
    expansion: int


KINDS = (
    BlockKind(3, 1, 1),
    BlockKind(3, 2, 6),
    BlockKind(5, 2, 6),
    BlockKind(3, 2, 6),
    BlockKind(5, 1, 6),
    BlockKind(5, 2, 6),
    BlockKind(3, 1, 6),
)
BASELINE_WIDTHS = (16, 24, 40, 80, 112, 192, 320)
BASELINE_SIZES = (1, 2, 2, 3, 3, 4, 1)
BASELINE_STEM, BASELINE_HEAD = 32, 1280

# name: coefficients of width and depth
COEFFICIENTS = {
    'b0': (1.0, 1.0),
    'b1': (1.0, 1.1),
    'b2': (1.1, 1.2),
    'b3': (1.2, 1.4),
    'b4': (1.4, 1.8),
    'b5': (1.6, 2.2),
    'b6': (1.8, 2.6),
    'b7': (2.0, 3.1),
    'b8': (2.2, 3.6),
    'l2': (4.3, 5.3),
}

# Settings of config.model by which timm's tf_efficientnet_*, the authors' form, and its
# efficientnet_* differ.
FORMS = {
    'tf': {'padding': 'same', 'batch_norm_epsilon': 1e-3},
    'timm': {'padding': 'symmetric', 'batch_norm_epsilon': 1e-5},
}


def scaled_width(channels: int, coefficient: float) -> int:
    """Returns `channels` times `coefficient`, rounded to a multiple of 8 and at least 8.

    The nearest multiple, unless that takes off more than a tenth; then the next higher one.
    """
    wanted = channels * coefficient
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def scaled_size(blocks: int, coefficient: float) -> int:
    """Returns the number of blocks of a stage times `coefficient`, rounded up."""
    return math.ceil(blocks * coefficient)


EFFICIENTNETS = {
    f'efficientnet_{name}': dict(
        stage_sizes=tuple(scaled_size(size, depth) for size in BASELINE_SIZES),
        stage_widths=tuple(scaled_width(channels, width) for channels in BASELINE_WIDTHS),
        stem_width=scaled_width(BASELINE_STEM, width),
        head_width=scaled_width(BASELINE_HEAD, width),
    )
    for name, (width, depth) in COEFFICIENTS.items()
}
