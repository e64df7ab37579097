"""The commands with the smallest ResNeSt and EfficientNet: a run on eight devices, and mistakes."""

import json
import pathlib
import sys

import jax
import pytest
from helpers import prepared
from PIL import Image

from resnet_rs import compare, latency, predict
from resnet_rs.models.efficientnet_table import EFFICIENTNETS
from resnet_rs.models.resnest_variants import RESNEST
from resnet_rs.run.run_log import read_metrics

DIGITS = '--config=configs/digits.py:debug'
SETTINGS = {
    'resnest_14': ['--config.model.drop_block_rate=0.1', '--config.model.dropout_rate=0.2'],
    'efficientnet_b0': [
        '--config.model.padding=same',
        '--config.model.batch_norm_epsilon=1e-3',
        '--config.optimizer.name=rmsprop',
        '--config.optimizer.learning_rate=0.016',
    ],
}
RUN = [
    '--config.duration=2 steps',
    '--config.optimizer.warmup=0 steps',
    '--config.eval.every=2 steps',
    '--config.checkpoint.every=2 steps',
    '--config.log.every=1 steps',
]


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """ResNeSt with one stage and EfficientNet with two, which compile sooner."""
    monkeypatch.chdir(pathlib.Path(__file__).parent.parent)
    monkeypatch.setenv('TFDS_DATA_DIR', prepared.data_dir('digits', 'array_record'))
    monkeypatch.setitem(RESNEST['resnest_14'], 'stage_sizes', (1,))
    monkeypatch.setitem(EFFICIENTNETS['efficientnet_b0'], 'stage_sizes', (1, 1))


def command_of(name, workdir):
    return [DIGITS, f'--config.model.name={name}', f'--workdir={workdir}', *SETTINGS[name], *RUN]


@pytest.fixture
def runs(run_main, no_report, tmp_path):
    """The work directory of a short run of each family."""
    for name in SETTINGS:
        assert run_main(*command_of(name, tmp_path / name))[::2] == (0, [])
    # What is compiled already.
    status, output, errors = run_main(*command_of(name, tmp_path / 'other'), '--mode=check')
    assert (status, errors) == (0, [])
    assert f'ready: {name} on 8 x cpu, 2 steps of 16 images' in output
    return tmp_path


@pytest.fixture
def compilation_cache():
    """latency switches it off for its process."""
    yield
    jax.config.update('jax_enable_compilation_cache', True)


def test_a_run_and_what_is_done_with_it(runs, run_main, monkeypatch, capsys, compilation_cache):
    image = runs / 'image.png'
    Image.new('RGB', (40, 30), (200, 20, 90)).save(image)
    for name in SETTINGS:
        workdir = runs / name
        lines = read_metrics(workdir)
        assert [line['step'] for line in lines if line['kind'] == 'train'] == [1, 2]
        table = f'--predictions={workdir}/predictions.npz'  # as a run writes with its report
        assert run_main('--mode=eval', f'--workdir={workdir}', table)[::2] == (0, [])
        (stored,) = (workdir / 'evaluations').glob('*.json')
        assert json.loads(stored.read_text())['examples'] == 360

        predict.main([f'--workdir={workdir}', str(image), '--top=10', '--json'])
        [entry] = json.loads(capsys.readouterr().out)
        assert sum(each['probability'] for each in entry['classes']) == pytest.approx(1, abs=1e-5)

        arguments = ['--batch_size=2', '--blocks=1', '--steps_per_block=1', '--steps=inference']
        command = ['latency', f'--workdir={workdir}', *arguments, f'--output={runs}/latency.csv']
        monkeypatch.setattr(sys, 'argv', command)
        latency.main(command)
        assert 'batch 2, float32 on cpu' in capsys.readouterr().out
    compare.main([str(runs / name) for name in SETTINGS])
    report = capsys.readouterr().out
    assert "  model.name: 'resnest_14' | 'efficientnet_b0'\n" in report and 'p = ' in report

    new, source = runs / 'new', f'--config.init_from={runs}/resnest_14'
    other = [DIGITS, '--config.model.name=resnet_14', f'--workdir={new}']
    refused(
        run_main,
        new,
        [*command_of('efficientnet_b0', new), source],
        'resnest_14',
        'of another architecture',
    )
    refused(run_main, new, [*other, source], 'resnest_14', 'of another architecture')
    refused(run_main, new, command_of('efficientnet_b0', runs / 'resnest_14'), 'was started with')


def refused(run_main, workdir, arguments, *fragments):
    """The command says why it refuses in one line, and leaves no file."""
    status, output, errors = run_main(*arguments)
    assert status == 2 and not output and len(errors) == 1
    for fragment in fragments:
        assert fragment in errors[0], errors[0]
    assert not workdir.exists()


@pytest.mark.parametrize(
    'name, argument, fragments',
    (
        ('resnest_14', '--config.data.image_size=8', ['data.image_size is 8', '16']),
        ('efficientnet_b0', '--config.eval.image_size=15', ['eval.image_size is 15', '16']),
        ('efficientnet_b0', '--config.model.activation=swish', ['efficientnet_b0', 'activation']),
        ('efficientnet_b0', '--config.model.drop_block_rate=0.1', ['drop_block_rate']),
        ('resnest_14', '--config.model.squeeze_excite_divisor=8', ['squeeze_excite_divisor']),
        ('resnest_14', '--config.model.num_classes=7', ['num_classes is 7', '10 classes']),
        ('efficientnet_b0', '--config.model.num_classes=7', ['num_classes is 7', '10 classes']),
        ('resnest_14', '--config.model.name=resnest_15', ["'resnest_15'", 'resnest_14']),
        ('efficientnet_b0', '--config.model.name=efficientnet_b9', ["'efficientnet_b9'"]),
        ('resnest_14', '--config.model.remat=block,block', ['model.remat', '2 names']),
    ),
)
def test_mistakes_are_one_line(run_main, tmp_path, name, argument, fragments):
    refused(run_main, tmp_path / 'run', [*command_of(name, tmp_path / 'run'), argument], *fragments)
