"""The forms of a convolution on a CPU against XLA's, and the program for a TPU."""

import functools
import itertools

import jax
import numpy as np
import pytest

from resnet_rs.models import convolution, create_model
from resnet_rs.models.cost import count_cost

DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')
CLIP_DIMENSIONS = ('NDHWC', 'DHWIO', 'NDHWC')
# batch, size, channels, features, kernel, stride, padding, groups
CASES = {
    '1x1': (2, 9, 4, 6, 1, 1, 'VALID', 1),
    '1x1 with a stride': (2, 9, 4, 6, 1, 2, 'VALID', 1),
    '3x3': (2, 9, 4, 6, 3, 1, ((1, 1), (1, 1)), 1),
    '3x3 without padding': (2, 9, 4, 6, 3, 1, 'VALID', 1),
    '3x3 with a stride, odd size': (2, 9, 4, 6, 3, 2, ((1, 1), (1, 1)), 1),
    '3x3 with a stride, TensorFlow': (2, 8, 4, 6, 3, 2, 'SAME', 1),
    '7x7 with a stride': (2, 16, 3, 5, 7, 2, ((3, 3), (3, 3)), 1),
    'images smaller than the kernel': (2, 2, 4, 6, 3, 1, ((1, 1), (1, 1)), 1),
    'one pixel with a stride': (2, 1, 4, 6, 3, 2, ((1, 1), (1, 1)), 1),
    'groups': (2, 9, 8, 12, 3, 1, ((1, 1), (1, 1)), 4),
    'groups with a stride': (2, 9, 8, 12, 3, 2, ((1, 1), (1, 1)), 2),
    'groups of 1x1': (2, 5, 8, 4, 1, 1, 'VALID', 2),
    'depthwise': (2, 9, 6, 6, 3, 1, 'SAME', 6),
    'depthwise with a stride, 5x5': (2, 8, 6, 6, 5, 2, 'SAME', 6),
    'depthwise with two features a channel': (2, 9, 3, 6, 3, 1, 'SAME', 3),
}
# size, kernel and strides over time, height and width
CLIP_CASES = {
    'clips, over time': ((5, 4, 4), (3, 1, 1), (1, 1, 1), 'SAME'),
    'clips, over time with a stride': ((6, 3, 4), (5, 1, 1), (2, 1, 1), 'SAME'),
    'clips, over space': ((3, 6, 5), (1, 3, 3), (1, 2, 2), 'SAME'),
    'clips, over both': ((7, 8, 8), (5, 3, 3), (2, 2, 2), ((2, 2), (1, 1), (1, 1))),
}


def drawn(case):
    """Images, a kernel, the gradient of the output and the arguments of the convolution."""
    random = np.random.default_rng(0)
    if case in CLIP_CASES:
        size, kernel_size, *arguments = CLIP_CASES[case]
        x = random.normal(size=(2, *size, 4)).astype(np.float32)
        kernel = random.normal(size=(*kernel_size, 4, 6)).astype(np.float32)
        options = dict(dimension_numbers=CLIP_DIMENSIONS)
        y = jax.lax.conv_general_dilated(x, kernel, *arguments, **options)
        return x, kernel, random.normal(size=y.shape).astype(np.float32), arguments, options
    batch, size, channels, features, kernel_size, stride, padding, groups = CASES[case]
    x = random.normal(size=(batch, size, size, channels)).astype(np.float32)
    shape = (kernel_size, kernel_size, channels // groups, features)
    kernel = random.normal(size=shape).astype(np.float32)
    options = dict(dimension_numbers=DIMENSIONS, feature_group_count=groups)
    arguments = ((stride, stride), padding)
    y = jax.lax.conv_general_dilated(x, kernel, *arguments, **options)
    return x, kernel, random.normal(size=y.shape).astype(np.float32), arguments, options


def _call(convolve, arguments, options, x, kernel):
    return convolve(x, kernel, *arguments, **options)


def with_gradients(convolve, gradient, arguments, options):
    def run(x, kernel):
        function = functools.partial(_call, convolve, arguments, options)
        y, to_inputs = jax.vjp(function, x, kernel)
        return y, *to_inputs(gradient)

    return jax.jit(run)


@pytest.mark.parametrize(
    'case, patch_bytes',
    [*itertools.product(CASES, (0, 2**20)), *((case, 2**20) for case in CLIP_CASES)],
)
def test_value_and_gradients_are_those_of_xla_in_float64(case, patch_bytes, monkeypatch):
    monkeypatch.setattr(convolution, 'MOST_PATCH_BYTES', patch_bytes)
    x, kernel, gradient, *rest = drawn(case)
    ours = with_gradients(convolution.conv_general_dilated, gradient, *rest)(x, kernel)
    with jax.enable_x64():
        exact = (np.asarray(array, np.float64) for array in (x, kernel))
        expected = with_gradients(
            jax.lax.conv_general_dilated, np.asarray(gradient, np.float64), *rest
        )(*exact)
    for a, b in zip(ours, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * np.abs(b).max())


def convolutions_and_products(program, platform):
    """The lines of the program lowered for a platform that convolve or multiply matrices."""
    text = program.trace().lower(lowering_platforms=(platform,)).as_text()
    lines = (line.partition(' = ')[2].partition('(')[0::2] for line in text.splitlines())
    wanted = ('stablehlo.convolution', 'stablehlo.dot_general')
    return sorted((name, rest.partition(')')[2]) for name, rest in lines if name in wanted)


@pytest.mark.parametrize('case', ('1x1', '3x3', 'groups', 'depthwise', 'clips, over both'))
def test_a_program_for_a_tpu_has_the_convolutions_of_xla_alone(case):
    x, kernel, gradient, *rest = drawn(case)

    def program(convolve):
        run = with_gradients(convolve, gradient, *rest)
        return jax.jit(lambda: run(x, kernel))

    ours, plain = (
        program(convolve)
        for convolve in (convolution.conv_general_dilated, jax.lax.conv_general_dilated)
    )
    assert convolutions_and_products(ours, 'tpu') == convolutions_and_products(plain, 'tpu')
    assert convolutions_and_products(ours, 'cpu') != convolutions_and_products(plain, 'cpu')


def test_multiply_adds_are_counted_once():
    """Counts in float32, in which a program holds the forms of all platforms."""
    network = dict(width_multiplier=0.25, num_classes=10)
    counts = {
        dtype: count_cost(create_model('resnet_rs_50', dtype=dtype, **network), 64).multiply_adds
        for dtype in ('bfloat16', 'float32')
    }
    assert counts['float32'] == counts['bfloat16']
