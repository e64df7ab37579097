"""The command that plans: its arguments, and its report of a network that does not fit."""

import contextlib
import dataclasses

import pytest
from helpers.tpu import small_config

from resnet_rs.plan import __main__ as command
from resnet_rs.plan import planning, report, topology
from resnet_rs.plan.cache import DoesNotFit
from resnet_rs.utils.errors import UserError


def test_sizes_need_no_dataset():
    config = small_config(**{'data.name': 'imagenet2012', 'data.data_dir': '/nowhere'})
    assert command.split_sizes(config, None, None) == (1281167, 50000)
    config.data.classes = (3, 5)  # how many images they have is not known
    with pytest.raises(UserError, match='give --examples'):
        command.split_sizes(config, None, None)
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


def test_a_plan_of_what_does_not_fit(monkeypatch, capsys):
    """The report of a step that needs 0.25 GiB for each image of a micro-batch and has 10 GiB."""
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
        planning.Options(search=True, verbose=True),
        stage,
    )
    lines = report.describe(plan).splitlines()
    assert 'needed, 10.00 GiB are there, 6.00 GiB are missing' in lines[1]
    assert 'largest batch that does: 32 images per device (--batch_per_device=32)' in lines[2]
    assert lines[3].endswith('2 micro-batches: fits, with --config.optimizer.accumulation_steps=2')
    assert stages[0] == 'v3:2x2 train: compiling'
    assert stages[1] == 'v3:2x2 32 images per device: compiling'
    assert 'RESOURCE_EXHAUSTED' in capsys.readouterr().err  # because of verbose
