"""benchmarks/deep_networks.py refuses a generation of which it cannot tell milliseconds."""

import sys
import types

import deep_networks
import pytest

from resnet_rs.plan.topology import HARDWARE


@pytest.mark.parametrize('name', ['v6e', 'tpu7x'])
def test_an_unknown_clock_is_one_line_before_anything_is_compiled(name, monkeypatch):
    opened = types.SimpleNamespace(hardware=HARDWARE[name])
    monkeypatch.setattr(deep_networks, 'prepare_environment', lambda: None)
    monkeypatch.setattr(deep_networks, 'open_topology', lambda name, devices: opened)
    monkeypatch.setattr(deep_networks, 'measure', lambda *_: pytest.fail('it compiles'))
    monkeypatch.setattr(sys, 'argv', ['deep_networks.py', f'--topology={name}:2x2'])
    with pytest.raises(SystemExit, match=f'--topology={name}:2x2: its clock is not known'):
        deep_networks.main()
