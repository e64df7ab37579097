"""Floating-point operations of the convolutions and matrix products in HLO text."""

import functools
import re

from resnet_rs.plan.hlo_text import Instruction, dimensions


def multiply_add_flops(instruction: Instruction, operands: list[Instruction]) -> int:
    """Returns twice the multiply-adds of a `convolution` or `dot`, 0 for any other instruction.

    As in XLA's cost analysis, positions of a kernel in the padding or between dilated elements do
    not count.
    """
    if instruction.opcode == 'dot':
        contracted = instruction.attribute('lhs_contracting_dims') or ''
        sizes = dimensions(operands[0].shape)
        terms = [sizes[int(axis)] for axis in re.findall(r'\d+', contracted)]
        return 2 * _product(dimensions(instruction.shape)) * _product(terms)
    if instruction.opcode != 'convolution':
        return 0
    inputs, kernel, output = re.fullmatch(
        r'(\w+)_(\w+)->(\w+)', instruction.attribute('dim_labels')
    ).groups()
    sizes = [dimensions(each.shape) for each in (*operands[:2], instruction)]
    spatial = sorted(set(output) - set('bf'))
    window = _window(instruction, len(spatial))
    flops = 2 * sizes[2][output.index('b')] * sizes[2][output.index('f')]
    flops *= sizes[1][kernel.index('i')]
    for number, axis in enumerate(spatial):
        flops *= _pairs(
            sizes[0][inputs.index(axis)],
            sizes[2][output.index(axis)],
            *(value[number] for value in window),
        )
    groups = int(instruction.attribute('batch_group_count') or 1)
    return flops // groups


def _window(instruction, rank):
    """Returns size, stride, lower padding, input dilation and kernel dilation of each axis."""
    window = re.search(r'window=\{([^}]*)\}', instruction.attributes)
    given = dict(each.split('=') for each in window[1].split()) if window else {}
    integers = {
        name: [int(number) for number in given[name].split('x')]
        for name in ('size', 'stride', 'lhs_dilate', 'rhs_dilate')
        if name in given
    }
    ones = [1] * rank
    padding = (
        [int(each.split('_')[0]) for each in given['pad'].split('x')]
        if 'pad' in given
        else ([0] * rank)
    )
    return (
        integers.get('size', ones),
        integers.get('stride', ones),
        padding,
        integers.get('lhs_dilate', ones),
        integers.get('rhs_dilate', ones),
    )


@functools.cache
def _pairs(inputs, outputs, size, stride, padding, input_dilation, kernel_dilation):
    """Counts, on one axis, the pairs of output and kernel position that meet an input element."""
    count = 0
    for output in range(outputs):
        for position in range(size):
            place = output * stride + position * kernel_dilation - padding
            inside = 0 <= place <= (inputs - 1) * input_dilation
            count += inside and place % input_dilation == 0
    return count


def _product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result
