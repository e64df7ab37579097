"""The cache of compilations."""

import pytest

from resnet_rs.plan.cache import Compilation, DoesNotFit, PlanCache


def test_the_cache_keeps_what_did_not_fit(tmp_path):
    cache = PlanCache(tmp_path)
    cache.store('a', DoesNotFit('long message', 3, 2))
    with pytest.raises(DoesNotFit) as found:
        cache.load('a')
    assert (found.value.message, found.value.needed, found.value.available) == (
        'long message',
        3,
        2,
    )
    kept = Compilation(1, 2, 3, 4, 5, 6, 7.0, 8.0, 9.0, 'text')
    cache.store('b', kept)
    assert cache.load('b') == kept and cache.load('c') is None
    assert PlanCache(None).load('b') is None
