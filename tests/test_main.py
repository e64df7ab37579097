"""The command line: mistakes are one line with the value and the remedy, before any compile."""

import pathlib
import subprocess
import sys

import pytest
from helpers import prepared
from helpers.processes import environment

ROOT = pathlib.Path(__file__).parent.parent
RS_50 = '--config=configs/resnet_rs.py:50@160'
DIGITS = '--config=configs/digits.py:debug'


@pytest.fixture
def data_dir(monkeypatch):
    """A directory with the digits, which is where runs of this process find them."""
    directory = prepared.data_dir('digits', 'array_record')
    monkeypatch.setenv('TFDS_DATA_DIR', directory)
    monkeypatch.chdir(ROOT)
    return directory


def assert_refused(result, *fragments):
    status, output, errors = result
    assert status == 2 and not output
    assert len(errors) == 1
    for fragment in fragments:
        assert fragment in errors[0]


def test_missing_dataset_is_reported_before_jax_and_tensorflow_are_imported(tmp_path):
    result = subprocess.run(
        [sys.executable, 'main.py', RS_50, f'--workdir={tmp_path}/run'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(TFDS_DATA_DIR=str(tmp_path), PYTHONPROFILEIMPORTTIME='1'),
        check=False,
    )
    imported = {line.rpartition('|')[2].strip() for line in result.stderr.splitlines()}
    assert 'ml_collections' in imported and not {'jax', 'tensorflow'} & imported
    [error] = [line for line in result.stderr.splitlines() if not line.startswith('import time:')]
    assert_refused(
        (result.returncode, result.stdout, [error]),
        'error: ',
        'imagenet2012',
        str(tmp_path),
        'python -m resnet_rs.datasets.prepare imagenet2012',
    )
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    'arguments, fragments',
    (
        (
            ['--config.model.widht_multiplier=2'],
            ['model.widht_multiplier', 'model.width_multiplier'],
        ),
        (['--config.batch_size=many'], ['batch_size', "'many'"]),
        (['--config.duration=ten epochs'], ["duration is 'ten epochs'; it takes a number"]),
        (['--config.duration=0.1 steps'], ['less than one step']),
        (
            ['--config.model.num_classes=7'],
            ['num_classes is 7', 'digits has 10 classes', '--config.model.num_classes=10'],
        ),
        (['--config.data.crop_area=(0.5,0.2)'], ['data.crop_area is (0.5, 0.2)']),
        (['--config.data.eval_split=test'], ['test', 'validation']),
        (['--confg=x'], ["'confg'", 'Did you mean: config']),
        (['--mode=trian'], ['trian', 'train|eval|check']),
        (['extra'], ["'extra' is not a flag"]),
    ),
)
def test_wrong_settings(data_dir, run_main, tmp_path, arguments, fragments):
    assert_refused(run_main(DIGITS, f'--workdir={tmp_path}/run', *arguments), *fragments)
    assert not (tmp_path / 'run').exists()


def test_wrong_files(data_dir, run_main, tmp_path):
    workdir = f'--workdir={tmp_path}/run'
    wrong = run_main('--config=configs/resnet-rs.py', workdir)
    assert_refused(wrong, 'configs/resnet-rs.py', 'configs/resnet_rs.py')
    assert_refused(run_main('--config=configs/resnet_rs.py:50@161', workdir), "'50@161'", '50@160')
    assert_refused(run_main(workdir), '--config is missing')
    assert_refused(run_main(DIGITS), '--workdir is missing')
    (tmp_path / 'file').write_text('kept')
    result = run_main(DIGITS, f'--workdir={tmp_path}/file/run')
    assert_refused(result, f'--workdir={tmp_path}/file/run cannot be written')
    assert (tmp_path / 'file').read_text() == 'kept'


@pytest.mark.usefixtures('one_stage')
def test_check_says_what_the_run_will_be_or_why_not(data_dir, run_main, tmp_path):
    workdir = f'--workdir={tmp_path}/run'
    status, output, errors = run_main(DIGITS, workdir, '--mode=check')
    assert (status, errors) == (0, [])
    assert 'ready: resnet_rs_14 on 8 x cpu, 12 steps of 16 images' in output
    result = run_main(DIGITS, workdir, '--mode=check', '--config.batch_size=20')
    assert_refused(result, 'batch_size is 20', 'use --config.batch_size=16 or 24')
