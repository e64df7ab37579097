"""Tests of what the hosts must deliver, by numbers computed by hand; nothing is compiled."""

import dataclasses
import json
import pathlib
import re

import pytest
from helpers.tpu import small_config

from resnet_rs.plan import __main__ as command
from resnet_rs.plan import host, report, topology
from resnet_rs.utils.errors import UserError

INPUT_PAGE = pathlib.Path(__file__).resolve().parents[2] / 'docs' / 'input_pipeline.md'


def make_topology(name, devices, devices_per_host=8, chips_per_host=4):
    device = dataclasses.make_dataclass('Device', ['process_index'])
    return topology.Topology(
        name,
        tuple(device(number // devices_per_host) for number in range(devices)),
        topology.HARDWARE[name.partition(':')[0]],
        chips_per_host,
    )


def make_plan(slice_, images_per_second, cost):
    """A plan with a training step of so many images per second, and a run of two hours."""
    step = {
        'peak_bytes': 2**30,
        'seconds': images_per_second and 0.5,
        'images_per_second': images_per_second,
        'noun': 'image',
        'cycles': 123_456_789,
    }
    run = {'days': 2 / 24, 'chip_hours': 8.0} if images_per_second else None
    plan = report.Plan(report.topology_record(slice_), {'train': step}, run)
    plan.host = host.host_record(plan.topology, step, cost)
    return plan


def test_the_costs_are_those_of_the_page():
    rows = re.findall(
        r'^\| \*\*ours\*\* \| (\d+) \| (no|yes) \| [^|]+ \| ([\d.]+) \|',
        INPUT_PAGE.read_text(),
        re.M,
    )
    assert len(rows) == 6
    for pixels, augmented, milliseconds in rows:
        found = host.MEASURED_MILLISECONDS[int(pixels)][augmented == 'yes']
        assert found == float(milliseconds)


@pytest.mark.parametrize(
    'pixels, augment, milliseconds, source',
    [
        (160, 'randaugment', 1.55, '160 pixels with RandAugment'),
        (160, 'none', 1.3, '160 pixels without RandAugment'),
        (128, 'none', 1.3, '160 pixels without RandAugment'),
        (192, 'randaugment', 1.83, '224 pixels with RandAugment'),
        (256, 'autoaugment_v0', 2.47, '320 pixels with RandAugment'),
        (384, 'none', 1.96, '320 pixels without RandAugment'),
    ],
)
def test_the_row_that_is_taken(pixels, augment, milliseconds, source):
    config = small_config(**{'data.image_size': pixels, 'data.augment': augment})
    cost = host.input_cost(config)
    assert cost.milliseconds == milliseconds
    assert cost.source == f'docs/input_pipeline.md, {source}'
    own = host.input_cost(config, 0.4)
    assert (own.milliseconds, own.source) == (0.4, '--input_ms_per_image')


def test_a_clip_costs_as_much_as_its_frames():
    config = small_config(**{'data.image_size': 224, 'data.augment': 'none', 'data.frames': 32})
    cost = host.input_cost(config)
    assert cost.milliseconds == pytest.approx(32 * 1.54)
    assert cost.source.endswith('224 pixels without RandAugment, for each of 32 frames')


@pytest.mark.parametrize('own', [0.0, -1.0, float('nan'), float('inf')])
def test_a_cost_that_is_none(own):
    with pytest.raises(UserError, match='give CPU milliseconds above 0'):
        host.input_cost(small_config(), own)


def test_hosts_that_keep_up():
    """4 hosts share 51,200 images/s: 12,800 each, which take 12,800 x 1.55 ms = 19.84 vCPUs."""
    plan = make_plan(make_topology('v3:4x4', 32), 51_200.0, host.InputCost(1.55, 'a page'))
    assert plan.host == {
        'images_per_second': 12_800.0,
        'input_ms_per_image': 1.55,
        'input_source': 'a page',
        'vcpus_needed': pytest.approx(19.84),
        'vcpus': 96,
        'input_images_per_second': pytest.approx(61_935.48, abs=0.01),  # 96 / 1.55 ms
        'bound_by_input': False,
        'slowdown': 1.0,
    }
    assert 'input' not in report.describe(plan)


def test_hosts_that_do_not_keep_up(tmp_path):
    """60,000 images/s at 2.8 ms take 168 vCPUs, one and a half times the 112 that are there."""
    plan = make_plan(make_topology('v5e:2x2', 4), 60_000.0, host.InputCost(2.8, 'a page'))
    assert plan.host['vcpus_needed'] == pytest.approx(168)
    assert plan.host['bound_by_input'] is True and plan.host['slowdown'] == pytest.approx(1.5)
    assert report.sentence(plan).endswith(
        '8.00 chip-hours, bound by input: at 2.8 CPU ms per image each host needs 168 vCPUs and '
        'has 112, so a step takes at least 1.50 times as long'
    )
    written = json.loads(report.write(tmp_path, [plan], {})[0].read_text())
    assert written['plans'][0]['host'] == plan.host


def test_the_first_devices_of_a_slice_have_a_whole_host():
    """One core of a v3-8, or one of 16 chips of v5e, is on a VM with four chips."""
    for name, vcpus in (('v3:2x2', 96), ('v5e:4x4', 112)):
        plan = make_plan(make_topology(name, 1), 1000.0, host.InputCost(1.5, 'a page'))
        assert (plan.host['vcpus'], plan.host['vcpus_needed']) == (vcpus, 1.5)
    one_chip = make_topology('v5e:1x1', 1, chips_per_host=1)
    assert make_plan(one_chip, 1000.0, host.InputCost(1.5, 'a page')).host['vcpus'] == 24


def test_what_is_not_known_is_said():
    cost = host.InputCost(1.8, 'a page')
    plans = [
        make_plan(make_topology('v3:2x2', 8), 9000.0, cost),
        make_plan(make_topology('v5e:2x2', 4), 70_000.0, cost),
        make_plan(make_topology('v4:2x2x1', 4), 9000.0, cost),  # vCPUs not known
        make_plan(make_topology('v6e:2x2', 4), None, cost),  # clock not known
        report.Plan(report.topology_record(make_topology('v3:2x2', 8)), {}),  # nothing compiled
    ]
    assert plans[-1].host is None
    table = [re.split(r'  +', line.strip()) for line in report.comparison(plans).splitlines()]
    assert table[0][-2:] == ['vCPUs', 'bound by']
    assert [row[-2:] for row in table[1:]] == [
        ['16.2/96', 'TPU'],
        ['126/112', 'input'],
        ['16.2/-', 'unknown'],
        ['-/180', 'unknown'],
        ['-/-', 'unknown'],
    ]
    lines = [report.host_line(plan.host) for plan in plans[:-1]]
    assert lines == [
        '  input of each host: 1.8 CPU ms per image (a page); 9,000 images per second need 16.2 '
        'vCPUs; a TPU VM has 96, which deliver at most 53,333 images per second',
        '  input of each host: 1.8 CPU ms per image (a page); 70,000 images per second need 126.0 '
        'vCPUs; a TPU VM has 112, which deliver at most 62,222 images per second',
        '  input of each host: 1.8 CPU ms per image (a page); 9,000 images per second need 16.2 '
        'vCPUs; how many a TPU VM has is not known',
        '  input of each host: 1.8 CPU ms per image (a page); how many vCPUs a host needs is not '
        'known without the time of a step; a TPU VM has 180, which deliver at most 100,000 images '
        'per second',
    ]


def test_a_wrong_cost_is_one_line(capsys):
    with pytest.raises(SystemExit) as exit:
        command.main(
            ['--config=configs/digits.py', '--topology=v3:2x2', '--input_ms_per_image=-0.5']
        )
    lines = capsys.readouterr().err.strip().splitlines()
    assert exit.value.code == 2 and len(lines) == 1 and '--input_ms_per_image=-0.5' in lines[0]


def test_the_comparison_fits_80_columns():
    topology = report.topology_record(make_topology('v5e:16x16', 256))
    step = {'peak_bytes': 15.7 * 2**30, 'seconds': 0.1, 'images_per_second': 9_999_999.0}
    step['noun'] = 'image'
    cost = {'vcpus_needed': 319.8, 'vcpus': 112, 'bound_by_input': True}
    plan = report.Plan(topology, {'train': step}, {'days': 11.2, 'chip_hours': 12_920.1}, host=cost)
    short = report.Plan(topology, {'train': step}, {'days': 2e-5, 'chip_hours': 0.00198})
    assert report.sentence(short).endswith('1.7 seconds, 0.002 chip-hours')
    header, row = report.comparison([plan]).splitlines()
    assert len(header) == len(row) <= 80
    assert row.split() == (
        'v5e:16x16 yes 15.7/15.8 9,999,999 11.2 days 12,920.10 320/112 input'.split()
    )
