"""What --mode=check says of the memory; the devices are those of a slice that is not attached."""

import types

import jax
import pytest

from configs import digits
from resnet_rs.errors import UserError
from resnet_rs.plan import attached
from resnet_rs.plan.cache import DoesNotFit


def v3_cores(count):
    return [types.SimpleNamespace(device_kind='TPU v3')] * count


def test_cpus_are_not_compiled_for():
    assert attached.check_memory(digits.get_config('debug'), jax.devices(), 1437) == []


def test_a_step_that_does_not_fit_is_an_error(monkeypatch):
    def compile_lowered(lowered):
        assert lowered == ('train', 4, 'TPU v3')
        raise DoesNotFit('Ran out of memory in memory space hbm.', 20 * 2**30, 16 * 2**30)

    def lower_step(config, topology, which, *, examples_per_epoch):
        return which, len(topology.devices), topology.hardware.kind

    monkeypatch.setattr(attached, 'lower_step', lower_step)
    monkeypatch.setattr(attached, 'compile_lowered', compile_lowered)
    with pytest.raises(UserError, match=(
        r'4 images per TPU v3 does not fit, 20\.00 GiB are needed: a device has 15\.48 GiB'
    )):
        attached.check_memory(digits.get_config('debug'), v3_cores(4), 1437)
