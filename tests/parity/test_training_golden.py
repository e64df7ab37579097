"""Ten training steps in float64 against numbers recorded from timm, and of clips Model Garden."""

import json
import pathlib

import jax
import numpy as np
import pytest
from helpers import clip_networks
from helpers.ten_steps import GOLDEN_RUNS, KINDS, fingerprint, l2_norm, our_steps, scales

TOLERANCE = 1e-9


@pytest.mark.parametrize('file_name', tuple(GOLDEN_RUNS))
def test_ten_steps_are_those_recorded(file_name, monkeypatch):
    """Loss, rate and norms of every step; of the last one every tensor."""
    clip_networks.shorten(monkeypatch.setitem, clip_networks.TWO_STAGES)
    golden = json.loads(pathlib.Path(__file__).with_name(file_name).read_text())
    with jax.enable_x64(True):
        results = list(our_steps(GOLDEN_RUNS[file_name], 'float64'))
    for result, expected in zip(results, golden['steps'], strict=True):
        ours = {'loss': result.loss, 'learning_rate': result.learning_rate} | {
            kind: l2_norm(*getattr(result, kind).values()) for kind in KINDS
        }
        assert ours == pytest.approx(expected, rel=TOLERANCE)
    for kind in KINDS:
        tensors = getattr(results[-1], kind)
        assert {array.dtype for array in tensors.values()} == {np.dtype('float64')}
        scale = scales(tensors)
        for key, ours, expected in zip(
            sorted(tensors), fingerprint(tensors), golden['last'][kind], strict=True
        ):
            assert abs(ours - expected) <= TOLERANCE * scale[key], (kind, key)
