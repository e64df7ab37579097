"""Slices by name, as libtpu knows them, and the errors about libtpu."""

import dataclasses
import os

import jax
import pytest
from helpers.tpu import needs_libtpu, prepare_environment

from resnet_rs.plan import __main__ as command
from resnet_rs.plan import estimate, topology
from resnet_rs.plan.hlo import Collective
from resnet_rs.training.sharding import create_mesh
from resnet_rs.utils.errors import UserError


def test_chips_and_hosts():
    device = dataclasses.make_dataclass('Device', ['process_index'])
    devices = tuple(device(number // 8) for number in range(32))
    v3 = topology.Topology('v3:4x4', devices, topology.HARDWARE['v3'])
    assert (v3.chips, v3.hosts) == (16, 4)
    command.check_processes(v3, 4)
    with pytest.raises(UserError, match='v3:4x4 has 4 hosts'):
        command.check_processes(v3, 8)
    collective = Collective('all-reduce', 1000, 32, 2, '')
    assert collective.executions * estimate.sent_bytes('all-reduce', 1000, 32) == 2 * 2 * 31 / 32e-3


@pytest.mark.parametrize('name', ['v9:2x2', 'v3', 'v5litepod-8', 'v3:', 'v3:two'])
def test_unknown_topologies(name):
    with pytest.raises(UserError, match=r'there are v2:2x2, v3:2x2, .*tpu7x:2x2x1'):
        topology.check_name(name)


@needs_libtpu
def test_a_slice_that_libtpu_refuses_and_too_many_devices(monkeypatch):
    prepare_environment(monkeypatch)
    with pytest.raises(UserError, match="libtpu refuses topology 'v3:3x3'"):
        topology.open_topology('v3:3x3')
    with pytest.raises(UserError, match='v3:2x2 has 8 devices, fewer than 9'):
        topology.open_topology('v3:2x2', devices=9)


@needs_libtpu
@pytest.mark.parametrize('generation', topology.HARDWARE)
def test_the_table_names_the_devices_that_libtpu_has(generation, monkeypatch):
    prepare_environment(monkeypatch)
    hardware = topology.HARDWARE[generation]
    found = topology.open_topology(hardware.example)
    assert {device.device_kind for device in found.devices} == {hardware.kind}
    coordinates = {tuple(device.coords) for device in found.devices}
    assert len(coordinates) == found.chips == len(found.devices) / hardware.devices_per_chip


@needs_libtpu
@pytest.mark.parametrize('name', ['v3:4x4', 'v4:2x2x4', 'v5e:4x4'])
def test_hosts_read_contiguous_parts_of_a_batch(name, monkeypatch):
    """The physical order of v4 and v5e interleaves the hosts."""
    prepare_environment(monkeypatch)
    mesh = create_mesh(list(topology.open_topology(name).devices))
    hosts = [device.process_index for device in mesh.devices.flat]
    assert hosts == sorted(hosts) and len(set(hosts)) > 1


def test_libtpu_missing_or_of_another_version(monkeypatch):
    def missing(name):
        raise topology.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(topology.importlib.metadata, 'version', missing)
    with pytest.raises(UserError, match='pip install libtpu=='):
        topology.check_libtpu()
    monkeypatch.setattr(topology.importlib.metadata, 'version', lambda name: '0.0.17')
    with pytest.raises(UserError, match=r'libtpu is 0\.0\.17, but jax .* needs'):
        topology.check_libtpu()


@needs_libtpu
def test_the_lock_file_of_another_process(monkeypatch):
    from jax.experimental import topologies

    def locked(**arguments):
        raise jax.errors.JaxRuntimeError(
            'ABORTED: Internal error when accessing libtpu '
            'multi-process lockfile. Run "$ sudo rm ..."'
        )

    monkeypatch.setattr(topologies, 'get_topology_desc', locked)
    with pytest.raises(UserError, match='ALLOW_MULTIPLE_LIBTPU_LOAD=1'):
        topology.open_topology('v3:2x2')
    monkeypatch.setenv('ALLOW_MULTIPLE_LIBTPU_LOAD', '0')
    for name in (
        'JAX_PLATFORMS',
        'TPU_SKIP_MDS_QUERY',
        'TPU_ACCELERATOR_TYPE',
        'TPU_WORKER_HOSTNAMES',
    ):
        monkeypatch.setenv(name, os.environ.get(name, 'cpu'))  # put back at the end
    topology.prepare_environment()
    assert os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] == '1'
