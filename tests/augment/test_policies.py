"""The numbers and the order of the operations that the policies apply."""

import re
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from resnet_rs.augment import policies

# The table in the short form of the published lists: operation, probability, level.
AUTOAUGMENT_V0_TEXT = """
Equ.8,1+ShY.8,4 | Col.4,9+Equ.6,3 | Col.4,1+Rot.6,8 | Sol.8,3+Equ.4,7 | Sol.4,2+Sol.6,2 |
Col.2,0+Equ.8,8 | Equ.4,8+SAd.8,3 | ShX.2,9+Rot.6,8 | Col.6,1+Equ1,2 | Inv.4,9+Rot.6,0 |
Equ1,9+ShY.6,3 | Col.4,7+Equ.6,0 | Pos.4,6+AuC.4,7 | Sol.6,8+Col.6,9 | Sol.2,4+Rot.8,9 |
Rot1,7+TrY.8,9 | ShX0,0+Sol.8,4 | ShY.8,0+Col.6,4 | Col1,0+Rot.6,2 | Equ.8,4+Equ0,8 |
Equ1,4+AuC.6,2 | ShY.4,7+SAd.6,7 | Pos.8,2+Sol.6,10 | Sol.6,8+Equ.6,1 | Col.8,6+Rot.4,5
"""
AUTOAUGMENT_IMAGENET_TEXT = """
Pos.4,8+Rot.6,9 | Sol.6,5+AuC.6,5 (x2) | Equ.8,8+Equ.6,3 (x2) | Pos.6,7+Pos.6,6 |
Equ.4,7+Sol.2,4 (x2) | Equ.4,4+Rot.8,8 | Sol.6,3+Equ.6,7 | Pos.8,5+Equ1,2 | Rot.2,3+Sol.6,8 |
Equ.6,8+Pos.4,6 | Rot.8,8+Col.4,0 | Rot.4,9+Equ.6,2 | Equ0,7+Equ.8,8 | Inv.6,4+Equ1,8 (x2) |
Col.6,4+Con1,8 (x2) | Rot.8,8+Col1,0 | Col.8,8+Sol.8,7 | Sha.4,7+Inv.6,8 | ShX.6,5+Equ1,9 |
Col.4,0+Equ.6,3
"""
SHORT_NAMES = {
    'Equ': 'Equalize',
    'Col': 'Color',
    'Rot': 'Rotate',
    'Sol': 'Solarize',
    'SAd': 'SolarizeAdd',
    'ShX': 'ShearX',
    'ShY': 'ShearY',
    'Inv': 'Invert',
    'Pos': 'Posterize',
    'AuC': 'AutoContrast',
    'TrY': 'TranslateY',
    'Con': 'Contrast',
    'Sha': 'Sharpness',
}
SEEDS = 4000


def marker(code):
    """An operation that records itself: the codes applied so far, latest first."""
    return lambda image, draw: tf.concat([[[[code]]], image[..., :2]], axis=-1)


def records(augment, seeds=SEEDS) -> np.ndarray:
    """uint8 [seeds, 3]: what `augment(image, seed)` makes of an empty record, seed by seed."""
    dataset = tf.data.Dataset.range(seeds).map(
        lambda i: augment(tf.zeros([1, 1, 3], tf.uint8), tf.stack([tf.cast(i, tf.int32), 11]))
    )
    return np.concatenate([batch.numpy().reshape(-1, 3) for batch in dataset.batch(1000)])


def chi_square(counts, expected) -> float:
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    return float(((counts - expected) ** 2 / expected).sum())


def test_randaugment_chooses_uniformly():
    operations = [marker(np.uint8(code)) for code in range(1, 17)]
    chosen = records(lambda image, seed: policies.randaugment(image, seed, operations, 1))[:, 0]
    counts = np.bincount(chosen, minlength=17)
    assert counts[0] == 0  # always applied
    assert chi_square(counts[1:], [SEEDS / 16] * 16) < 37.7  # 15 degrees of freedom, 0.1 %


def test_randaugment_layers_are_in_turn_and_independent():
    operations = [marker(np.uint8(code)) for code in range(1, 6)]
    applied = records(lambda image, seed: policies.randaugment(image, seed, operations, 3))
    assert (applied > 0).all()
    for first, second in ((0, 1), (0, 2), (1, 2)):
        pairs = np.bincount((applied[:, first] - 1) * 5 + applied[:, second] - 1, minlength=25)
        assert chi_square(pairs, [SEEDS / 25] * 25) < 51.2  # 24 degrees of freedom, 0.1 %
    twice = records(lambda image, seed: policies.randaugment(image, seed, operations, 2))
    assert (twice[:, :2] > 0).all() and (twice[:, 2] == 0).all()


def test_draws_are_uniform_and_independent_of_the_choice():
    def observe(image, draw):
        values = [tf.cast(draw.negate, tf.float32), draw.center[0] * 8, draw.center[1] * 8]
        return tf.cast(tf.reshape(tf.stack(values), [1, 1, 3]), tf.uint8)

    def first(image, draw):
        return observe(image, draw) + tf.constant([100, 0, 0], tf.uint8)

    seen = records(lambda image, seed: policies.randaugment(image, seed, [observe, first], 1))
    choice, negate = np.divmod(seen[:, 0], 100)
    assert chi_square(np.bincount(choice * 2 + negate, minlength=4), [SEEDS / 4] * 4) < 16.3
    cells = np.bincount(seen[:, 1] * 8 + seen[:, 2], minlength=64)
    assert cells.shape == (64,)
    assert chi_square(cells, [SEEDS / 64] * 64) < 103.5  # 63 degrees of freedom, 0.1 %
    both = np.bincount(negate * 8 + seen[:, 1], minlength=16)
    assert chi_square(both, [SEEDS / 16] * 16) < 37.7


def test_autoaugment_table():
    expected = []
    for entry in AUTOAUGMENT_V0_TEXT.split('|'):
        found = re.findall(r'([A-Za-z]{3})([0-9.]+),(\d+)', entry)
        expected.append(tuple((SHORT_NAMES[n], float(p), int(level)) for n, p, level in found))
    assert len(expected) == 25
    assert tuple(expected) == policies.AUTOAUGMENT_V0


def test_autoaugment_table_of_resnest():
    rows = []
    for entry in AUTOAUGMENT_IMAGENET_TEXT.split('|'):
        found = re.findall(r'([A-Za-z]{3})([0-9.]+),(\d+)', entry)
        row = tuple((SHORT_NAMES[n], float(p), int(level)) for n, p, level in found)
        rows += [row] * (2 if '(x2)' in entry else 1)
    assert len(rows) == 25 and Counter(rows) == Counter(policies.AUTOAUGMENT_IMAGENET)


@pytest.mark.parametrize('level, bits, threshold', ((3, 3, 180), (5, 2, 128), (8, 1, 52)))
def test_levels_of_resnests_autoaugment_rise(level, bits, threshold):
    """Posterize keeps 4 - int(4 m / 10) bits, Solarize inverts from 256 - int(256 m / 10) on."""
    settings = policies.Settings(translate_constant=250, cutout_constant=100, rising=True)
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    posterized = policies.make_operation('Posterize', level, settings)(image, None)
    np.testing.assert_array_equal(posterized, image >> (8 - bits) << (8 - bits))
    solarized = policies.make_operation('Solarize', level, settings)(image, None)
    np.testing.assert_array_equal(solarized, np.where(image >= threshold, 255 - image, image))


def test_autoaugment_probabilities(monkeypatch):
    pairs = sorted({(name, level) for row in policies.AUTOAUGMENT_V0 for name, _, level in row})
    codes = {pair: np.uint8(1 + index) for index, pair in enumerate(pairs)}

    def make_marker(name, level, settings):
        return (lambda image, draw: image) if name == 'Identity' else marker(codes[name, level])

    monkeypatch.setattr(policies, 'make_operation', make_marker)
    settings = policies.Settings(translate_constant=250, cutout_constant=100)
    applied = records(
        lambda image, seed: policies.autoaugment(image, seed, policies.AUTOAUGMENT_V0, settings)
    )

    expected = Counter()
    for (first, p, first_level), (second, q, second_level) in policies.AUTOAUGMENT_V0:
        a, b = int(codes[first, first_level]), int(codes[second, second_level])
        expected[b, a, 0] += p * q / 25
        expected[a, 0, 0] += p * (1 - q) / 25
        expected[b, 0, 0] += (1 - p) * q / 25
        expected[0, 0, 0] += (1 - p) * (1 - q) / 25
    assert sum(expected.values()) == pytest.approx(1)
    counts = Counter(tuple(int(code) for code in row) for row in applied)
    possible = {outcome for outcome, probability in expected.items() if probability > 0}
    assert set(counts) <= possible
    for outcome in possible:
        mean = SEEDS * expected[outcome]
        deviation = np.sqrt(mean * (1 - expected[outcome]))
        assert abs(counts[outcome] - mean) < 4.5 * deviation + 1, outcome
