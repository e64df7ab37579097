"""Plain numpy forms of the augmentation operations, written from the formulas.

Sources: resnet_rs's fidelity notes on the authors' `autoaugment.py`, PIL's rule for Equalize, and
the definition of `tf.contrib.image.transform`. Loops and float32 arithmetic step by step; nothing
is shared with the code under test.
"""

import math

import numpy as np

f32 = np.float32
MAGNITUDES = (0, 5, 10, 15, 20)


def edge_images() -> dict[str, np.ndarray]:
    """uint8 images by name: random, smooth and degenerate, square and not."""
    rng = np.random.default_rng(7)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    images = {
        'random': rng.integers(0, 256, (40, 56, 3)),
        'dark': rng.integers(0, 60, (33, 29, 3)),
        'narrow': rng.integers(100, 140, (32, 48, 3)),
        'black': np.zeros((20, 24, 3)),
        'white': np.full((20, 24, 3), 255),
        'flat': np.broadcast_to([10, 127, 201], (24, 20, 3)),
        'ramp': np.stack([ramp, ramp.T, 255 - ramp], -1),
        'two_values': np.where(rng.random((30, 30, 3)) < 0.01, 250, 3),
        'tiny': rng.integers(0, 256, (2, 5, 3)),
    }
    return {name: image.astype(np.uint8) for name, image in images.items()}


def truncate(values: np.ndarray) -> np.ndarray:
    return np.clip(values, f32(0), f32(255)).astype(np.uint8)


def blend(start: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    start, end = start.astype(f32), image.astype(f32)
    if factor == 1:
        return image
    return truncate(start + f32(factor) * (end - start))


def enhance_factor(magnitude: float) -> float:
    return 1.8 * (magnitude / 10) + 0.1


def autocontrast(image, magnitude):
    result = image.copy()
    for channel in range(3):
        values = image[..., channel]
        low, high = f32(values.min()), f32(values.max())
        if high > low:
            scale = f32(255) / (high - low)
            result[..., channel] = truncate(values.astype(f32) * scale + -low * scale)
    return result


def equalize(image, magnitude):
    result = image.copy()
    for channel in range(3):
        counts = [int((image[..., channel] == value).sum()) for value in range(256)]
        last = [count for count in counts if count][-1]
        step = (sum(counts) - last) // 255
        if step == 0:
            continue
        table, total = [], step // 2
        for count in counts:
            table.append(min(total // step, 255))
            total += count
        result[..., channel] = np.array(table, np.uint8)[image[..., channel]]
    return result


def invert(image, magnitude):
    return (255 - image.astype(int)).astype(np.uint8)


def posterize(image, magnitude):
    # A shift of a uint8 stops at 7 in TensorFlow: at least one bit stays.
    bits = max(int(magnitude / 10 * 4), 1)
    step = 2 ** max(8 - bits, 0)
    return (image // step * step).astype(np.uint8)


def solarize(image, magnitude):
    threshold = int(magnitude / 10 * 256) % 256
    values = image.astype(int)
    return np.where(values < threshold, values, 255 - values).astype(np.uint8)


def solarize_add(image, magnitude):
    values = image.astype(int)
    added = np.minimum(values + int(magnitude / 10 * 110), 255)
    return np.where(values < 128, added, values).astype(np.uint8)


def color(image, magnitude):
    red, green, blue = np.moveaxis(image.astype(f32) * f32(1 / 255), -1, 0)
    luma = (red * f32(0.2989) + green * f32(0.587)) + blue * f32(0.114)
    grey = (luma * f32(255.5)).astype(np.uint8)
    return blend(np.stack([grey] * 3, -1), image, enhance_factor(magnitude))


def contrast(image, magnitude):
    grey = min(image.shape[0] * image.shape[1] / 256, 255)
    start = np.full(image.shape, grey).astype(np.uint8)
    return blend(start, image, enhance_factor(magnitude))


def brightness(image, magnitude):
    return blend(np.zeros_like(image), image, enhance_factor(magnitude))


def sharpness(image, magnitude):
    height, width, _ = image.shape
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], f32) / f32(13)
    smooth = image.copy()
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            total = np.zeros(3, f32)
            for down in range(3):
                for right in range(3):
                    total += image[y + down - 1, x + right - 1].astype(f32) * kernel[down, right]
            smooth[y, x] = truncate(total)
    return blend(smooth, image, enhance_factor(magnitude))


POINTWISE = {
    'AutoContrast': autocontrast,
    'Equalize': equalize,
    'Invert': invert,
    'Posterize': posterize,
    'Solarize': solarize,
    'SolarizeAdd': solarize_add,
    'Color': color,
    'Contrast': contrast,
    'Brightness': brightness,
    'Sharpness': sharpness,
}


def transform_of(name, magnitude, sign, height, width, translate=100.0):
    """(a0, a1, a2, b0, b1, b2) in float32: output (x, y) comes from (a0 x + a1 y + a2, ...)."""
    strength = sign * magnitude / 10
    one, zero = f32(1), f32(0)
    if name == 'ShearX':
        return one, f32(0.3 * strength), zero, zero, one, zero
    if name == 'ShearY':
        return one, zero, zero, f32(0.3 * strength), one, zero
    if name == 'TranslateX':
        return one, zero, f32(translate * strength), zero, one, zero
    if name == 'TranslateY':
        return one, zero, zero, zero, one, f32(translate * strength)
    angle = f32(30 * strength) * f32(math.pi / 180)
    cos, sin = f32(math.cos(angle)), f32(math.sin(angle))
    right, bottom = f32(width - 1), f32(height - 1)
    x_offset = (right - (cos * right - sin * bottom)) / f32(2)
    y_offset = (bottom - (sin * right + cos * bottom)) / f32(2)
    return cos, -sin, x_offset, sin, cos, y_offset


def half_away_from_zero(value) -> int:
    return int(math.floor(abs(float(value)) + 0.5)) * (1 if value > 0 else -1)


def reflect(value, length):
    """One reflection of [a b c d] to [d c b a | a b c d | d c b a], before rounding."""
    value = f32(value)
    if value < 0:
        value = -value - f32(1)
    elif value >= length:
        value = f32(2 * length) - value - f32(1)
    return min(max(value, f32(0)), f32(length - 1))


def sample(image, transform, fill_mode='constant'):
    height, width, _ = image.shape
    a0, a1, a2, b0, b1, b2 = transform
    result = np.full_like(image, 128)
    for y in range(height):
        for x in range(width):
            source_x = (a0 * f32(x) + a1 * f32(y)) + a2
            source_y = (b0 * f32(x) + b1 * f32(y)) + b2
            if fill_mode == 'reflect':
                source_x, source_y = reflect(source_x, width), reflect(source_y, height)
            column, row = half_away_from_zero(source_x), half_away_from_zero(source_y)
            if 0 <= column < width and 0 <= row < height:
                result[y, x] = image[row, column]
    return result


GEOMETRIC = ('Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY')


def geometric(name, image, magnitude, sign, translate=100.0, fill_mode='constant'):
    height, width, _ = image.shape
    transform = transform_of(name, magnitude, sign, height, width, translate)
    return sample(image, transform, fill_mode)


def cutout(image, row, column, half_side):
    result = image.copy()
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if -half_side <= y - row < half_side and -half_side <= x - column < half_side:
                result[y, x] = 128
    return result
