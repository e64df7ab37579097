"""The command line: mistakes are one line with the value and the remedy, before any compile."""

import pathlib
import subprocess
import sys

import prepared
import pytest
from processes import environment

ROOT = pathlib.Path(__file__).parent.parent
RS_50 = '--config=configs/resnet_rs.py:50@160'
DIGITS = '--config=configs/digits.py:debug'


def main(*arguments, timeout=300, **settings):
    # libtpu, where a test before this one compiled for a TPU, leaves variables of a host with TPUs.
    inherited = environment()
    inherited = {name: inherited[name] for name in inherited if not name.startswith('TPU_')}
    return subprocess.run(
        [sys.executable, 'main.py', *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**inherited, **settings},
        check=False,
    )


@pytest.fixture(scope='module')
def data_dir():
    return prepared.data_dir('digits', 'array_record')


def assert_refused(result, *fragments):
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().split('\n')
    assert len(lines) == 1 and lines[0].startswith('error: '), result.stderr
    for fragment in fragments:
        assert fragment in lines[0]


def test_main_is_short():
    assert len((ROOT / 'main.py').read_text().splitlines()) <= 80


def test_missing_dataset_is_reported_before_jax_and_tensorflow_are_imported(tmp_path):
    result = main(
        RS_50, f'--workdir={tmp_path}/run', TFDS_DATA_DIR=str(tmp_path), PYTHONPROFILEIMPORTTIME='1'
    )
    imported = {line.rpartition('|')[2].strip() for line in result.stderr.splitlines()}
    assert 'ml_collections' in imported and not {'jax', 'tensorflow'} & imported
    result.stderr = result.stderr.splitlines()[-1]
    assert_refused(
        result, 'imagenet2012', str(tmp_path), 'python -m resnet_rs.datasets.prepare imagenet2012'
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
def test_wrong_settings(data_dir, tmp_path, arguments, fragments):
    result = main(DIGITS, f'--workdir={tmp_path}/run', *arguments, TFDS_DATA_DIR=data_dir)
    assert_refused(result, *fragments)
    assert not (tmp_path / 'run').exists()


def test_wrong_files(data_dir, tmp_path):
    workdir = f'--workdir={tmp_path}/run'
    wrong = main('--config=configs/resnet-rs.py', workdir)
    assert_refused(wrong, 'configs/resnet-rs.py', 'configs/resnet_rs.py')
    assert_refused(main('--config=configs/resnet_rs.py:50@161', workdir), "'50@161'", '50@160')
    assert_refused(main(workdir), '--config is missing')
    assert_refused(main(DIGITS), '--workdir is missing')
    (tmp_path / 'file').write_text('kept')
    result = main(DIGITS, f'--workdir={tmp_path}/file/run', TFDS_DATA_DIR=data_dir)
    assert_refused(result, f'--workdir={tmp_path}/file/run cannot be written')
    assert (tmp_path / 'file').read_text() == 'kept'


def test_check_says_what_the_run_will_be_or_why_not(data_dir, tmp_path):
    workdir = f'--workdir={tmp_path}/run'
    result = main(DIGITS, workdir, '--mode=check', TFDS_DATA_DIR=data_dir)
    assert result.returncode == 0, result.stderr
    assert 'ready: resnet_rs_14 on 8 x cpu, 12 steps of 16 images' in result.stdout
    result = main(DIGITS, workdir, '--mode=check', '--config.batch_size=20', TFDS_DATA_DIR=data_dir)
    assert_refused(result, 'batch_size is 20', 'use --config.batch_size=16 or 24')
