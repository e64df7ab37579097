"""Policies: which operations are applied, how strongly and how often.

Sources: RandAugment and AutoAugment v0 as in the authors' `models/official/efficientnet/
autoaugment.py` (tensorflow/tpu), and TF Model Garden's `official/vision/ops/augment.py`. A policy
is a chain of layers; a layer applies one operation chosen from a list.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet_rs.augment import geometric, pointwise
from resnet_rs.config import RANDAUGMENT_OPERATIONS


class Draw(NamedTuple):
    """Random numbers of a layer: `negate` int32 [], 0 or 1; `center` float32 [2] in [0, 1)."""

    negate: tf.Tensor
    center: tf.Tensor


class Settings(NamedTuple):
    """The settings in which the public implementations differ.

    `translate_constant` and `cutout_constant` are pixels at level 10; `fill_mode` is 'constant' or
    'reflect'; `contrast` takes (image, factor).
    """

    translate_constant: float
    cutout_constant: float
    fill_mode: str = 'constant'
    contrast: Callable[[tf.Tensor, float], tf.Tensor] = pointwise.contrast


Operation = Callable[[tf.Tensor, Draw], tf.Tensor]

OPERATION_NAMES = (*RANDAUGMENT_OPERATIONS, 'Identity')

# (operation, probability, level), two per sub-policy.
AUTOAUGMENT_V0 = (
    (('Equalize', 0.8, 1), ('ShearY', 0.8, 4)),
    (('Color', 0.4, 9), ('Equalize', 0.6, 3)),
    (('Color', 0.4, 1), ('Rotate', 0.6, 8)),
    (('Solarize', 0.8, 3), ('Equalize', 0.4, 7)),
    (('Solarize', 0.4, 2), ('Solarize', 0.6, 2)),
    (('Color', 0.2, 0), ('Equalize', 0.8, 8)),
    (('Equalize', 0.4, 8), ('SolarizeAdd', 0.8, 3)),
    (('ShearX', 0.2, 9), ('Rotate', 0.6, 8)),
    (('Color', 0.6, 1), ('Equalize', 1.0, 2)),
    (('Invert', 0.4, 9), ('Rotate', 0.6, 0)),
    (('Equalize', 1.0, 9), ('ShearY', 0.6, 3)),
    (('Color', 0.4, 7), ('Equalize', 0.6, 0)),
    (('Posterize', 0.4, 6), ('AutoContrast', 0.4, 7)),
    (('Solarize', 0.6, 8), ('Color', 0.6, 9)),
    (('Solarize', 0.2, 4), ('Rotate', 0.8, 9)),
    (('Rotate', 1.0, 7), ('TranslateY', 0.8, 9)),
    (('ShearX', 0.0, 0), ('Solarize', 0.8, 4)),
    (('ShearY', 0.8, 0), ('Color', 0.6, 4)),
    (('Color', 1.0, 0), ('Rotate', 0.6, 2)),
    (('Equalize', 0.8, 4), ('Equalize', 0.0, 8)),
    (('Equalize', 1.0, 4), ('AutoContrast', 0.6, 2)),
    (('ShearY', 0.4, 7), ('SolarizeAdd', 0.6, 7)),
    (('Posterize', 0.8, 2), ('Solarize', 0.6, 10)),
    (('Solarize', 0.6, 8), ('Equalize', 0.6, 1)),
    (('Color', 0.8, 6), ('Rotate', 0.4, 5)),
)


def make_operation(name: str, level: float, settings: Settings) -> Operation:
    """Returns an operation at a level (0 to 10; higher levels extrapolate).

    Args:
        name: one of `OPERATION_NAMES`.
        level: a Python number; it becomes part of the graph.
        settings: constants of the policy.

    Returns:
        A function of an image (uint8 [height, width, 3], of static size) and a `Draw`.
    """
    strength = level / 10.0
    enhance = strength * 1.8 + 0.1
    fill_mode = settings.fill_mode
    pixels = strength * float(settings.translate_constant)
    return {
        'Identity': lambda image, draw: image,
        'AutoContrast': lambda image, draw: pointwise.autocontrast(image),
        'Equalize': lambda image, draw: pointwise.equalize(image),
        'Invert': lambda image, draw: pointwise.invert(image),
        'Posterize': lambda image, draw: pointwise.posterize(image, int(strength * 4)),
        'Solarize': lambda image, draw: pointwise.solarize(image, int(strength * 256)),
        'SolarizeAdd': lambda image, draw: pointwise.solarize_add(image, int(strength * 110)),
        'Color': lambda image, draw: pointwise.color(image, enhance),
        'Contrast': lambda image, draw: settings.contrast(image, enhance),
        'Brightness': lambda image, draw: pointwise.brightness(image, enhance),
        'Sharpness': lambda image, draw: pointwise.sharpness(image, enhance),
        'Rotate': lambda image, draw: geometric.rotate(
            image, strength * 30.0, draw.negate, fill_mode
        ),
        'ShearX': lambda image, draw: geometric.shear_x(
            image, strength * 0.3, draw.negate, fill_mode
        ),
        'ShearY': lambda image, draw: geometric.shear_y(
            image, strength * 0.3, draw.negate, fill_mode
        ),
        'TranslateX': lambda image, draw: geometric.translate_x(
            image, pixels, draw.negate, fill_mode
        ),
        'TranslateY': lambda image, draw: geometric.translate_y(
            image, pixels, draw.negate, fill_mode
        ),
        'Cutout': lambda image, draw: geometric.cutout(
            image, int(strength * settings.cutout_constant), draw.center
        ),
    }[name]


def randaugment(
    image: tf.Tensor, seed: tf.Tensor, operations: Sequence[Operation], layers: int
) -> tf.Tensor:
    """Applies `layers` operations in turn, each drawn uniformly from `operations`.

    Args:
        image: uint8 [height, width, 3].
        seed: int32 [2].
        operations: the operations to draw from.
        layers: the number of operations that each image gets.

    Returns:
        uint8 [height, width, 3].
    """
    for numbers in tf.unstack(_uniform(seed, layers)):
        chosen, *rest = tf.unstack(numbers)
        image = _apply(image, operations, _whole(chosen, len(operations)), _draw(rest))
    return image


def autoaugment(image: tf.Tensor, seed: tf.Tensor, policy: Sequence, settings: Settings):
    """Applies one sub-policy drawn uniformly, each of its operations with its own probability.

    Args:
        image: uint8 [height, width, 3].
        seed: int32 [2].
        policy: sub-policies of equal length, each of (operation, probability, level).
        settings: constants of the policy.

    Returns:
        uint8 [height, width, 3].
    """
    first, *others = tf.unstack(_uniform(seed, 1 + len(policy[0])))
    row = _whole(first[0], len(policy))
    for layer, numbers in zip(zip(*policy, strict=True), others, strict=True):
        applied, *rest = tf.unstack(numbers)
        names = list(dict.fromkeys((name, level) for name, _, level in layer))
        operations = [make_operation('Identity', 0, settings)]
        operations += [make_operation(name, level, settings) for name, level in names]
        choices = np.array([1 + names.index((name, level)) for name, _, level in layer], np.int32)
        probabilities = np.array([probability for _, probability, _ in layer], np.float32)
        chosen = tf.where(applied < tf.constant(probabilities)[row], tf.constant(choices)[row], 0)
        image = _apply(image, operations, chosen, _draw(rest))
    return image


def _uniform(seed: tf.Tensor, layers: int) -> tf.Tensor:
    """Draws all random numbers of an image in one operation: float32 [layers, 4] in [0, 1)."""
    return tf.random.stateless_uniform([layers, 4], seed, alg='philox')


def _whole(number: tf.Tensor, count: int) -> tf.Tensor:
    """Maps a uniform number of [0, 1) to an integer of 0 .. count - 1."""
    return tf.cast(number * count, tf.int32)


def _draw(numbers: Sequence[tf.Tensor]) -> Draw:
    sign, row, column = numbers
    return Draw(negate=_whole(sign, 2), center=tf.stack([row, column]))


def _apply(
    image: tf.Tensor, operations: Sequence[Operation], chosen: tf.Tensor, draw: Draw
) -> tf.Tensor:
    if tf.executing_eagerly():
        return operations[int(chosen)](image, draw)
    signature = [
        tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in (image, draw.negate, draw.center)
    ]

    def branch(operation):
        def apply(image, negate, center):
            return tf.ensure_shape(operation(image, Draw(negate, center)), image.shape)

        return tf.function(apply, autograph=False).get_concrete_function(*signature)

    # tf.switch_case is inlined into the surrounding graph, whose executor then visits the
    # operations of every branch, the dead ones too. This operation hides them from it.
    (result,) = tf.raw_ops.StatelessCase(
        branch_index=chosen,
        input=[image, *draw],
        Tout=[image.dtype],
        branches=[branch(operation) for operation in operations],
    )
    return tf.ensure_shape(result, image.shape)
