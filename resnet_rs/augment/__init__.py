"""Augmentation of single images on the host, in TensorFlow operations.

`create_augment` builds RandAugment as the authors of ResNet-RS ran it, the weaker form of TF Model
Garden, AutoAugment v0, and the colour jitter of Bag of Tricks.
"""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from resnet_rs.augment import pointwise, policies
from resnet_rs.augment.color_jitter import color_jitter_lighting
from resnet_rs.config import AUGMENTATIONS
from resnet_rs.utils.errors import UserError

_SETTINGS = {
    'randaugment': policies.Settings(translate_constant=100, cutout_constant=40),
    'randaugment_model_garden': policies.Settings(
        translate_constant=10,
        cutout_constant=40,
        fill_mode='reflect',
        contrast=pointwise.contrast_by_mean,
    ),
    'autoaugment_v0': policies.Settings(translate_constant=250, cutout_constant=100),
}
_OPERATIONS = {
    'randaugment': policies.RANDAUGMENT_OPERATIONS,
    'randaugment_model_garden': policies.OPERATION_NAMES,
}


def create_augment(
    name: str,
    *,
    layers: int = 2,
    magnitude: float = 10,
    operations: Sequence[str] | None = None,
    translate_constant: float | None = None,
    cutout_constant: float | None = None,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns the augmentation `name` as a function of one image and its seed.

    Args:
        name: one of `AUGMENTATIONS`. 'randaugment' is the authors' form (16 operations, always
            applied, magnitudes above 10 extrapolate); 'randaugment_model_garden' has identity as a
            17th choice, translates by a tenth and fills by reflection; 'autoaugment_v0' is the
            25 sub-policies used with EfficientNet; 'color_jitter_lighting' is Bag of Tricks'.
            Several names joined by '+' are applied in turn, with the same settings.
        layers: operations per image; RandAugment only.
        magnitude: strength of every operation, 10 being the nominal maximum; RandAugment only.
        operations: the names to draw from, all by default; RandAugment only.
        translate_constant: translation in pixels at magnitude 10. Default: the policy's own (100,
            Model Garden 10, AutoAugment 250).
        cutout_constant: half the side of the cut-out square in pixels at magnitude 10. Default:
            the policy's own (40, AutoAugment 100).

    Returns:
        A function of (image, seed). The image is uint8 [height, width, 3], RGB, with a static
        size; the seed is int32 [2] and used for nothing else. The function returns an image of the
        same shape and dtype that depends on image and seed alone.

    Raises:
        UserError: an unknown name or operation, or a setting out of range.
    """
    if '+' in name:
        settings = dict(
            layers=layers,
            magnitude=magnitude,
            operations=operations,
            translate_constant=translate_constant,
            cutout_constant=cutout_constant,
        )
        return _in_turn([create_augment(part, **settings) for part in name.split('+')])
    if name not in AUGMENTATIONS:
        raise UserError(f'unknown augmentation {name!r}; choose from {", ".join(AUGMENTATIONS)}')
    if name in ('none', 'color_jitter_lighting'):
        return _checked(color_jitter_lighting if name != 'none' else lambda image, seed: image)

    settings = _SETTINGS[name]
    if translate_constant is not None:
        settings = settings._replace(
            translate_constant=_number('translate_constant', translate_constant)
        )
    if cutout_constant is not None:
        settings = settings._replace(cutout_constant=_number('cutout_constant', cutout_constant))
    if name == 'autoaugment_v0':
        if operations is not None:
            raise UserError(
                'autoaugment_v0 has a fixed table of operations; leave operations unset or choose '
                'randaugment'
            )
        return _checked(
            lambda image, seed: policies.autoaugment(image, seed, policies.AUTOAUGMENT_V0, settings)
        )

    magnitude = _number('randaugment magnitude', magnitude, most=100)
    if not isinstance(layers, int) or isinstance(layers, bool) or not 1 <= layers <= 16:
        raise UserError(f'randaugment layers must be a whole number from 1 to 16, not {layers!r}')
    chosen = [
        policies.make_operation(operation, magnitude, settings)
        for operation in _operation_names(name, operations)
    ]
    return _checked(lambda image, seed: policies.randaugment(image, seed, chosen, layers))


def _in_turn(parts: list[Callable]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    def augment(image, seed):
        seeds = tf.unstack(tf.random.split(seed, len(parts), alg='philox'))
        for part, part_seed in zip(parts, seeds, strict=True):
            image = part(image, part_seed)
        return image

    return augment


def _number(what: str, value: float, most: float = math.inf) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not (math.isfinite(value) and 0 <= value <= most)
    ):
        limit = '0 or more' if most == math.inf else f'from 0 to {most}'
        raise UserError(f'{what} must be a number, {limit}, not {value!r}')
    return float(value)


def _operation_names(name: str, operations: Sequence[str] | None) -> tuple[str, ...]:
    if operations is None:
        return _OPERATIONS[name]
    if isinstance(operations, str):
        operations = (operations,)
    unknown = [operation for operation in operations if operation not in policies.OPERATION_NAMES]
    if unknown or not operations:
        raise UserError(
            f'unknown operations {unknown} in {tuple(operations)}; choose at least one of '
            f'{", ".join(policies.OPERATION_NAMES)}'
        )
    return tuple(operations)


def _checked(
    augment: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    @tf.autograph.experimental.do_not_convert
    def checked(image, seed):
        image = tf.convert_to_tensor(image)
        if (
            image.dtype != tf.uint8
            or not image.shape.is_fully_defined()
            or (image.shape.rank != 3 or image.shape[2] != 3)
        ):
            raise ValueError(
                'augmentation needs a uint8 image [height, width, 3] of known size, got '
                f'{image.dtype.name} {image.shape}'
            )
        return augment(image, seed)

    return checked
