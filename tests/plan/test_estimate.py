"""The bytes that collectives send, computed by hand."""

from resnet_rs.plan import estimate


def test_what_a_ring_sends():
    assert estimate.sent_bytes('all-reduce', 800, 8) == 2 * 7 / 8 * 800
    assert estimate.sent_bytes('all-gather', 800, 8) == 7 / 8 * 800
    assert estimate.sent_bytes('reduce-scatter', 100, 8) == 7 * 100  # of 800 bytes that go in
    assert estimate.sent_bytes('all-reduce', 800, 1) == 0
