"""FLOPs of printed convolutions and products, against loops over every position."""

import itertools

import pytest

from resnet_rs.plan.flops import multiply_add_flops
from resnet_rs.plan.hlo_text import parse


def flops(shapes, attributes, opcode='convolution'):
    result, *operands = shapes
    text = '\n'.join(
        [
            'HloModule m',
            '',
            'ENTRY %main (a: f32[1], b: f32[1]) -> f32[1] {',
            *(
                f'  %{name} = f32[{shape}]{{0}} parameter({number})'
                for number, (name, shape) in enumerate(zip('ab', operands, strict=True))
            ),
            f'  ROOT %c = f32[{result}]{{0}} {opcode}(%a, %b), {attributes}',
            '}',
        ]
    )
    instructions = parse(text).computations['main']
    return multiply_add_flops(instructions['c'], [instructions['a'], instructions['b']])


def test_matrix_products():
    assert (
        flops(
            ['64,16', '64,32', '32,16'], 'lhs_contracting_dims={1}, rhs_contracting_dims={0}', 'dot'
        )
        == 2 * 64 * 32 * 16
    )
    assert flops(['64,16', '64,32', '32,16'], 'dim_labels=bf_io->bf') == 2 * 64 * 32 * 16


@pytest.mark.parametrize(
    'size, kernel, stride, below, above, input_dilation',
    [
        (8, 3, 1, 1, 1, 1),
        (9, 3, 2, 1, 1, 1),
        (8, 1, 2, 0, 0, 1),
        (8, 7, 2, 3, 3, 1),
        (4, 3, 1, 1, 2, 2),  # the gradient of a strided convolution
    ],
)
def test_convolutions_count_only_what_meets_the_input(
    size, kernel, stride, below, above, input_dilation
):
    dilated = (size - 1) * input_dilation + 1
    output = (dilated + below + above - kernel) // stride + 1
    met = sum(
        0 <= o * stride + k - below < dilated and (o * stride + k - below) % input_dilation == 0
        for o, k in itertools.product(range(output), range(kernel))
    )
    window = f'size={kernel}x{kernel} stride={stride}x{stride} pad={below}_{above}x{below}_{above}'
    found = flops(
        [f'2,{output},{output},6', f'2,{size},{size},5', f'{kernel},{kernel},5,6'],
        f'window={{{window} lhs_dilate={input_dilation}x{input_dilation}}}, '
        'dim_labels=b01f_01io->b01f',
    )
    assert found == 2 * 2 * 6 * 5 * met**2


def test_other_instructions_have_none():
    assert flops(['4', '4', '4'], 'metadata={}', 'add') == 0
