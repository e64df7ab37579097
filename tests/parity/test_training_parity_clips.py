"""Ten training steps of a network for clips beside Model Garden's own, by tensor.

Slow (minutes); needs requirements-parity.txt. test_training_golden.py is the part that always runs.
"""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest
from helpers import clip_networks
from helpers.ten_steps import (
    FLOAT32_TOLERANCES,
    FLOAT64_TOLERANCE,
    KINDS,
    RESNET_3D_RS,
    l2_norm,
    our_steps,
    scales,
)

if not importlib.util.find_spec('official'):
    pytest.skip(
        'NOT TESTED: training beside Model Garden, for want of tf-models-official '
        '(requirements-parity.txt)',
        allow_module_level=True,
    )

from helpers.garden_steps import garden_steps  # noqa: E402


@pytest.fixture(autouse=True)
def two_stages(monkeypatch):
    clip_networks.shorten(monkeypatch.setitem, clip_networks.TWO_STAGES)


def differences(run, dtype):
    """Yields {kind: difference of the whole, and the greatest of a tensor} of every step."""
    with jax.enable_x64(dtype == 'float64'):
        for ours, theirs in zip(our_steps(run, dtype), garden_steps(run, dtype), strict=True):
            found = {'loss': (abs(ours.loss / theirs.loss - 1),) * 2}
            for kind in KINDS:
                a, b = getattr(ours, kind), getattr(theirs, kind)
                assert a.keys() == b.keys()
                assert {array.dtype for array in a.values()} == {np.dtype(dtype)}
                # Model Garden's kernels of squeeze-excite and gates have more axes of length 1.
                parts = {key: l2_norm(a[key].ravel() - b[key].ravel()) for key in b}
                scale = scales(b)
                found[kind] = (
                    l2_norm(*map(np.array, parts.values())) / l2_norm(*b.values()),
                    max(part / scale[key] for key, part in parts.items()),
                )
            print(
                dtype, {kind: f'{whole:.1e}, {most:.1e}' for kind, (whole, most) in found.items()}
            )
            yield found


def test_float64():
    """Every tensor of every step."""
    for found in differences(RESNET_3D_RS, 'float64'):
        for kind, (_, most) in found.items():
            assert most <= FLOAT64_TOLERANCE, kind


def test_float32():
    """The loss and each kind of tensor as a whole, with a low rate, which slows the drift."""
    run = dataclasses.replace(RESNET_3D_RS, peak_learning_rate=5e-4)
    for step, found in enumerate(differences(run, 'float32')):
        for kind, (whole, _) in found.items():
            assert whole <= FLOAT32_TOLERANCES[kind][step >= 2], (step, kind)
