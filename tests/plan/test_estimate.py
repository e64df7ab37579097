"""The bytes that collectives send, and the FLOPs of clips, computed by hand."""

import types

import pytest
from helpers import clip_networks

from resnet_rs.models.cost import count_cost
from resnet_rs.plan import estimate
from resnet_rs.training.networks import model_of


def test_what_a_ring_sends():
    assert estimate.sent_bytes('all-reduce', 800, 8) == 2 * 7 / 8 * 800
    assert estimate.sent_bytes('all-gather', 800, 8) == 7 / 8 * 800
    assert estimate.sent_bytes('reduce-scatter', 100, 8) == 7 * 100  # of 800 bytes that go in
    assert estimate.sent_bytes('all-reduce', 800, 1) == 0


@pytest.mark.parametrize('which, passes, noun', [('train', 3, 'clip'), ('eval', 2, 'video')])
def test_flops_of_clips_and_of_their_views(which, passes, noun, monkeypatch):
    """A video of two clips and three crops costs six views; `eval` has two sets of weights."""
    clip_networks.shorten(monkeypatch.setitem)
    config = clip_networks.small_config(batch_size=16)
    config.eval.update(clips=2, crops=3)
    hardware = types.SimpleNamespace(clock_hz=1e9, peak_flops=1e12, link_bytes_per_second=1e9)
    topology = types.SimpleNamespace(hardware=hardware, devices=range(4))
    program = types.SimpleNamespace(collectives=())
    step = types.SimpleNamespace(which=which, cycles=10**6, program=program)
    found = estimate.step_time(config, topology, step)
    of_a_clip = count_cost(model_of(config, batch_norm_group_size=None), 16, 4).multiply_adds
    views = {'train': 1, 'eval': 6}[which]
    assert found.model_flops == 2 * passes * views * of_a_clip * 16 / 4
    assert found.noun == noun
    assert found.utilisation == pytest.approx(found.model_flops / 1e-3 / 1e12)
