"""Combining lists of settings into grids."""

import pytest

from resnet_rs.sweep.combinators import chain, product, run_name, values
from resnet_rs.utils.errors import UserError


def test_combinators():
    a, b = values('a', (1, 2)), values('b', 'xy')
    assert product(a, b) == [
        {'a': 1, 'b': 'x'},
        {'a': 1, 'b': 'y'},
        {'a': 2, 'b': 'x'},
        {'a': 2, 'b': 'y'},
    ]
    assert chain(a, b) == [{'a': 1}, {'a': 2}, {'b': 'x'}, {'b': 'y'}]
    assert product(chain(a, values('a', (5,))), values('c', (0,)))[2] == {'a': 5, 'c': 0}
    assert run_name({'depth': 14, 'width': 0.25}) == 'depth14-width0.25'
    with pytest.raises(UserError, match="sets 'a' twice"):
        product(a, a)
