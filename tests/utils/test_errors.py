"""Tests of how messages count things."""

import pytest

from resnet_rs.utils.errors import count_of


@pytest.mark.parametrize(
    ('number', 'noun', 'text'),
    [
        (0, 'image', '0 images'),
        (1, 'image', '1 image'),
        (2048, 'image', '2,048 images'),
        (1, 'class', '1 class'),
        (3, 'class', '3 classes'),
        (4, 'more process', '4 more processes'),
        (2, 'batch', '2 batches'),
        (1.0, 'epoch', '1 epoch'),
        (59.994, 'epoch', '59.99 epochs'),
    ],
)
def test_count_of(number, noun, text):
    assert count_of(number, noun) == text
