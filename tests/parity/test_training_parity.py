"""Ten training steps of several networks beside PyTorch and timm, by tensor.

Slow (minutes); needs requirements-parity.txt. test_training_golden.py is the part that always runs.
"""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest
from helpers.ten_steps import (
    EFFICIENTNET_B0,
    FLOAT32_TOLERANCES,
    FLOAT64_TOLERANCE,
    KINDS,
    RESNEST_14,
    RESNET_RS_50,
    l2_norm,
    our_steps,
    scales,
)

if missing := [name for name in ('torch', 'timm') if not importlib.util.find_spec(name)]:
    pytest.skip(
        f'NOT TESTED: training beside PyTorch, for want of {" and ".join(missing)} '
        '(requirements-parity.txt)',
        allow_module_level=True,
    )

from helpers.torch_steps import torch_steps  # noqa: E402


@pytest.fixture(autouse=True)
def optimised_programs():
    """The other tests compile without; a float64 convolution then takes 30 times as long."""
    unoptimised = jax.config.read('jax_disable_most_optimizations')
    jax.config.update('jax_disable_most_optimizations', False)
    yield
    jax.config.update('jax_disable_most_optimizations', unoptimised)


def relative_difference(ours, theirs) -> float:
    assert ours.keys() == theirs.keys()
    differences = (ours[key] - theirs[key] for key in theirs)
    return l2_norm(*differences) / l2_norm(*theirs.values())


def step_by_step(run, dtype):
    with jax.enable_x64(dtype == 'float64'):
        for step, (ours, theirs) in enumerate(
            zip(our_steps(run, dtype), torch_steps(run, dtype), strict=True)
        ):
            for kind in KINDS:
                for key, array in getattr(ours, kind).items():
                    assert array.dtype == np.dtype(dtype), (kind, key)
            yield step, ours, theirs


@pytest.mark.parametrize(
    'run', (RESNET_RS_50, RESNEST_14, EFFICIENTNET_B0), ids=lambda run: run.name
)
def test_float64(run):
    """Every tensor of every step."""
    worst = dict.fromkeys(('loss', *KINDS), 0.0)
    for step, ours, theirs in step_by_step(run, 'float64'):
        assert ours.learning_rate == pytest.approx(theirs.learning_rate, rel=1e-12)
        assert ours.loss == pytest.approx(theirs.loss, rel=FLOAT64_TOLERANCE)
        worst['loss'] = max(worst['loss'], abs(ours.loss / theirs.loss - 1))
        for kind in KINDS:
            a, b = getattr(ours, kind), getattr(theirs, kind)
            assert a.keys() == b.keys()
            for key, scale in scales(b).items():
                difference = l2_norm(a[key] - b[key]) / scale
                assert difference <= FLOAT64_TOLERANCE, (step, kind, key)
                worst[kind] = max(worst[kind], difference)
    print(f'{run.name}, float64:', {kind: f'{value:.1e}' for kind, value in worst.items()})


def test_float32():
    """The loss and each kind of tensor as a whole, with a low rate, which slows the drift."""
    run = dataclasses.replace(RESNET_RS_50, peak_learning_rate=5e-4)
    for step, ours, theirs in step_by_step(run, 'float32'):
        differences = {'loss': abs(ours.loss / theirs.loss - 1)} | {
            kind: relative_difference(getattr(ours, kind), getattr(theirs, kind)) for kind in KINDS
        }
        print(f'float32, step {step}:', {k: f'{value:.1e}' for k, value in differences.items()})
        for kind, difference in differences.items():
            assert difference <= FLOAT32_TOLERANCES[kind][step >= 2], (step, kind)
