"""The search for what fits, with a stand-in for the compiler; estimates by hand; bad input."""

import contextlib
import dataclasses
import os

import jax
import pytest
from helpers.tpu import needs_libtpu, small_config

from resnet_rs.plan import __main__ as command
from resnet_rs.plan import estimate, fit, planning, report, topology
from resnet_rs.plan.cache import Compilation, DoesNotFit, PlanCache
from resnet_rs.plan.hlo import Collective
from resnet_rs.plan.program import does_not_fit
from resnet_rs.utils.errors import UserError


@pytest.mark.parametrize('capacity', [1, 2, 3, 7, 8, 63, 64, 127])
@pytest.mark.parametrize('hint', [True, False])
def test_the_largest_divisor_that_fits(capacity, hint):
    config, tried = small_config(batch_size=4 * 128), []

    def attempt(changed, what):
        tried.append(changed.batch_size // 4)
        if tried[-1] > capacity:
            raise DoesNotFit('full', None, None)

    error = (
        DoesNotFit('full', 128 * 100, capacity * 100) if hint else (DoesNotFit('full', None, None))
    )
    expected = max(size for size in (1, 2, 4, 8, 16, 32, 64) if size <= capacity)
    assert fit.largest_batch(config, 4, error, attempt) == expected
    assert len(tried) == len(set(tried)) <= (2 if hint else 3) + 1
    assert 128 not in tried  # known not to fit


def test_no_batch_fits():
    def attempt(changed, what):
        raise DoesNotFit('full', None, None)

    error = DoesNotFit('full', None, None)
    assert fit.largest_batch(small_config(batch_size=64), 1, error, attempt) is None


def test_options_are_those_that_the_configuration_has():
    config, tried = small_config(batch_size=32), []

    def attempt(changed, what):
        tried.append(changed.optimizer.accumulation_steps)
        if changed.optimizer.accumulation_steps < 4:
            raise DoesNotFit('full', None, None)

    found = fit.options_that_fit(config, 1, attempt)
    assert config == small_config(batch_size=32)  # is not changed
    two, four, eight = (f'gradient accumulation, {number} micro-batches' for number in (2, 4, 8))
    assert found[two] is None and found[four] == {'optimizer.accumulation_steps': 4}
    assert eight not in found  # not needed once four are enough
    assert fit.with_settings(config, {'model.no_such_setting': 1}) is None


def test_messages_of_the_compiler():
    gib = 2**30
    error = does_not_fit(
        'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space '
        'hbm. Used 21.50G of 15.48G hbm. Exceeded hbm capacity by 6.02G.\n\nTotal hbm usage ...'
    )
    assert (error.needed, error.available) == (int(21.5 * gib), int(15.48 * gib))
    error = does_not_fit(
        'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO '
        'temporaries (1.00T) exceeds available HBM (7.48G).'
    )
    assert (error.needed, error.available) == (1024 * gib, int(7.48 * gib))
    assert does_not_fit('RESOURCE_EXHAUSTED: something else').needed is None


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


def test_what_a_ring_sends():
    assert estimate.sent_bytes('all-reduce', 800, 8) == 2 * 7 / 8 * 800
    assert estimate.sent_bytes('all-gather', 800, 8) == 7 / 8 * 800
    assert estimate.sent_bytes('reduce-scatter', 100, 8) == 7 * 100  # of 800 bytes that go in
    assert estimate.sent_bytes('all-reduce', 800, 1) == 0


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
    topology_environment(monkeypatch)
    with pytest.raises(UserError, match="libtpu refuses topology 'v3:3x3'"):
        topology.open_topology('v3:3x3')
    with pytest.raises(UserError, match='v3:2x2 has 8 devices, fewer than 9'):
        topology.open_topology('v3:2x2', devices=9)


@needs_libtpu
@pytest.mark.parametrize('generation', topology.HARDWARE)
def test_the_table_names_the_devices_that_libtpu_has(generation, monkeypatch):
    topology_environment(monkeypatch)
    hardware = topology.HARDWARE[generation]
    found = topology.open_topology(hardware.example)
    assert {device.device_kind for device in found.devices} == {hardware.kind}
    coordinates = {tuple(device.coords) for device in found.devices}
    assert len(coordinates) == found.chips == len(found.devices) / hardware.devices_per_chip


def test_libtpu_missing_or_of_another_version(monkeypatch):
    def missing(name):
        raise topology.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(topology.importlib.metadata, 'version', missing)
    with pytest.raises(UserError, match='pip install libtpu=='):
        topology.check_libtpu()
    monkeypatch.setattr(topology.importlib.metadata, 'version', lambda name: '0.0.17')
    with pytest.raises(UserError, match=r'libtpu is 0\.0\.17, but jax .* needs'):
        topology.check_libtpu()


def test_sizes_need_no_dataset():
    config = small_config(**{'data.name': 'imagenet2012', 'data.data_dir': '/nowhere'})
    assert command.split_sizes(config, None, None) == (1281167, 50000)
    config.data.name = 'caltech101'
    assert command.split_sizes(config, 10, 20) == (10, 20)
    with pytest.raises(UserError, match='give --eval_examples'):
        command.split_sizes(config, 10, None)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--topology=v9:2x2'], "topology 'v9:2x2' is not known"),
        ([], '--topology is missing'),
        (['--topology=v3:2x2', '--config.batch=3'], "no setting 'batch'"),
        (['--topology=v3:2x2', '--steps=trian'], 'there are train, eval and inference'),
        (['--topology=v3:2x2', 'more'], "'more' is not a flag"),
        (['--topology=v3:2x2', '--topologies=v3:2x2'], 'Unknown command line flag'),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit:
        command.main(['--config=configs/digits.py', *arguments])
    lines = capsys.readouterr().err.strip().splitlines()
    assert exit.value.code == 2 and len(lines) == 1 and message in lines[0]


def topology_environment(monkeypatch):
    for name, value in (
        ('TPU_SKIP_MDS_QUERY', '1'),
        ('ALLOW_MULTIPLE_LIBTPU_LOAD', '1'),
        ('TPU_ACCELERATOR_TYPE', 'v3-8'),
        ('TPU_WORKER_HOSTNAMES', 'localhost'),
    ):
        monkeypatch.setenv(name, value)


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


def test_a_plan_of_what_does_not_fit(monkeypatch, capsys):
    """The report of a step that needs 0.25 GiB for each image of a pass and has 10 GiB."""
    gib, stages = 2**30, []

    def compile_step(config, topology, which, **_):
        images = config.batch_size // config.optimizer.accumulation_steps
        if images * gib // 4 > 10 * gib:
            raise DoesNotFit('RESOURCE_EXHAUSTED ...', images * gib // 4, 10 * gib)

    @contextlib.contextmanager
    def stage(text):
        stages.append(text)
        yield

    monkeypatch.setattr(planning, 'compile_step', compile_step)
    device = dataclasses.make_dataclass('Device', ['process_index'])(0)
    core = topology.Topology('v3:2x2', (device,), topology.HARDWARE['v3'])
    plan = planning.make_plan(
        small_config(batch_size=64),
        core,
        (1000, 100),
        steps=['train'],
        per_device=None,
        cache_dir=None,
        search=True,
        hlo_dump=None,
        verbose=True,
        stage=stage,
    )
    lines = report.describe(plan).splitlines()
    assert 'needed, 10.00 GiB are there, 6.00 GiB are missing' in lines[1]
    assert 'largest batch that does: 32 images per device (--batch_per_device=32)' in lines[2]
    assert lines[3].endswith('2 micro-batches: fits, with --config.optimizer.accumulation_steps=2')
    assert stages[0] == 'v3:2x2 train: compiling'
    assert stages[1] == 'v3:2x2 32 images per device: compiling'
    assert 'RESOURCE_EXHAUSTED' in capsys.readouterr().err  # because of verbose
