"""main.py --mode=eval: starts from the run's own configuration, and keeps what it finds."""

import json
import os
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
from helpers import prepared
from helpers.hash_filled import hash_filled_variables
from helpers.numpy_evaluation import results_of

import main
from resnet_rs.plan import attached
from resnet_rs.run.workdir import write_workdir
from resnet_rs.training.steps import model_of

pytestmark = pytest.mark.usefixtures('one_stage', 'shared_programs')

CLASSES = ('class0', 'class1', 'class2')


def small_config():
    config = prepared.config('image_folder')
    config.model.update(
        {
            'name': 'resnet_14',
            'width_multiplier': 0.25,
            'num_classes': 3,
            'dtype': 'float32',
        }
    )
    return config


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """(work directory, its weights)."""
    config = small_config()
    ema = hash_filled_variables(model_of(config, batch_norm_group_size=None), 'float32')
    weights = {'raw': jax.tree.map(lambda leaf: leaf * 0.9, ema), 'ema': ema}
    directory = tmp_path_factory.mktemp('run')
    write_workdir(directory, config, weights)
    (directory / 'class_names.txt').write_text('\n'.join(CLASSES) + '\n')
    return directory, weights


def test_an_evaluation_starts_from_the_run_and_is_kept(run, run_main, tmp_path):
    """Evaluates at another size and crop, given as flags; compares the results with NumPy."""
    directory, weights = run
    arguments = (
        '--mode=eval',
        f'--workdir={directory}',
        '--image_size=48',
        '--config.data.eval_crop=fraction 0.875',
        f'--predictions={tmp_path}/all.npz',
    )
    status, output, errors = run_main(*arguments)
    assert (status, errors) == (0, [])
    result = json.loads(output)
    [file] = (directory / 'evaluations').iterdir()
    assert file.name == 'validation_48_0.json' and json.loads(file.read_text()) == result

    config = small_config()
    config.eval.image_size, config.data.eval_crop = 48, 'fraction 0.875'
    table = np.load(tmp_path / 'all.npz')
    for name, variables in weights.items():
        right, losses = results_of(config, variables)
        found = result['weights'][name]
        assert (found['top1_count'], found['top1']) == (right.sum(), pytest.approx(right.mean()))
        assert found.keys() == {'top1', 'top1_count', 'loss'}  # of 3 classes no top-5
        assert found['loss'] == pytest.approx(losses.mean(), rel=1e-4)
        np.testing.assert_array_equal(table[f'{name}_top1'], right)
        assert f'{name}_top5' not in table
        np.testing.assert_allclose(table[f'{name}_loss'], losses, rtol=1e-3, atol=1e-4)
    assert {name: result[name] for name in result if name not in ('weights', 'data')} == {
        'checkpoint': str(directory / 'checkpoints' / '0'),
        'step': 0,
        'split': 'validation',
        'image_size': 48,
        'crop': 'fraction 0.875',
        'examples': 18,
        'left_out': 0,
    }

    status, _, [error] = run_main(*arguments)
    assert status == 2 and 'all.npz exists already; name another' in error
    assert run_main(*arguments[:4])[0] == 0  # the same result once more
    assert [path.name for path in (directory / 'evaluations').iterdir()] == [file.name]
    assert run_main(*arguments[:3])[0] == 0  # another crop
    assert sorted(path.name for path in (directory / 'evaluations').iterdir()) == [
        'validation_48_0.json',
        'validation_48_0_2.json',
    ]


def test_an_evaluation_that_does_not_fit_is_refused(run, run_main, monkeypatch):
    directory, _ = run
    monkeypatch.setattr(attached, 'machine_memory', lambda: 2**14)
    before = sorted(directory.rglob('*'))
    status, output, [error] = run_main('--mode=eval', f'--workdir={directory}')
    assert status == 2 and not output
    assert re.search(
        r'an evaluation step of \d+ images? per device does not fit, .* GiB are '
        'needed: this machine has 0.00 GiB; use a smaller --config.eval.batch_size',
        error,
    )
    assert sorted(directory.rglob('*')) == before


def test_what_cannot_be_evaluated_is_told_at_once(run, run_main, tmp_path):
    directory, _ = run
    data = shutil.copytree(prepared.image_folder(), tmp_path / 'data')
    for split in ('train', 'val'):
        os.rename(f'{data}/{split}/class1', f'{data}/{split}/apple')
    fewer = shutil.copytree(prepared.image_folder(), tmp_path / 'fewer')
    for split in ('train', 'val'):
        shutil.rmtree(pathlib.Path(fewer) / split / 'class2')
    workdir = f'--workdir={directory}'
    for arguments, message in (
        (['--workdir=no/such/run'], 'no run is in no/such/run: it has no config.json; name the'),
        (['--config.data.eval_split=validation'], '--workdir is missing'),
        ([workdir, f'--config.data.data_dir={fewer}'], "lacks class 'class2', other than"),
        (
            [workdir, f'--config.data.data_dir={data}'],
            "lacks class 'class1' and has class 'apple', other than",
        ),
        ([workdir, '--config.evl.image_size=3'], "no setting 'evl.image_size'"),
        ([workdir, '--image_size=8'], 'eval.image_size is 8'),
        ([workdir, '--predictions=all.csv'], 'does not end in .npz'),
        ([workdir, '--predictions=no/such/all.npz'], 'does not exist; make it'),
        ([workdir, '--checkpoint=7'], "no checkpoint '7'"),
    ):
        status, output, errors = run_main('--mode=eval', *arguments)
        assert status == 2 and not output and len(errors) == 1, errors
        assert message in errors[0] and 'num_classes' not in errors[0], errors


@pytest.mark.parametrize(
    'arguments, message',
    [
        (
            ['--config.data.source=image_folder'],
            '--config.data.source changes a setting of a config',
        ),
        (['--data_dir=x'], '--data_dir is not a flag; did you mean --config.data.data_dir or'),
        (
            ['--name=x'],
            'did you mean --config.model.name or --config.data.name or --config.optimizer.name?',
        ),
        (['--checkpoint=best'], '--checkpoint is for --mode=eval, not for --mode=train'),
        (['--image_size=64'], 'the size of a run is --config.data.image_size'),
        (['--profile_steps=5'], "--profile_steps is '5'; write"),
        (['--profile_steps=5:6', '--mode=check'], '--profile_steps is for --mode=train, not'),
    ],
)
def test_flags_in_training(arguments, message, run_main, tmp_path):
    file = f'{main.__file__.removesuffix("main.py")}configs/digits.py'
    if not arguments[0].startswith('--config'):
        arguments = [*arguments, f'--config={file}']
    status, _, [error] = run_main(f'--workdir={tmp_path}/run', *arguments)
    assert status == 2 and message in error
    assert not (tmp_path / 'run').exists()
