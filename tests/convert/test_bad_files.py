"""Wrong files: one clear line, status 2, nothing written."""

import os

import numpy as np
import pytest
import safetensors.numpy
from helpers.foreign_weights import (
    garden_tensors,
    tf1_tensors,
    timm_state,
    write_checkpoint,
    write_keras,
)

from resnet_rs.convert.__main__ import main
from resnet_rs.convert.timm import to_state_dict
from resnet_rs.models import create_model
from resnet_rs.run.workdir import load_workdir
from resnet_rs.utils.errors import UserError


@pytest.fixture(scope='module')
def state():
    return timm_state('resnetrs14')


def save(state, path):
    safetensors.numpy.save_file(state, path)
    return path


def test_files_cut_short(state, refuse, tmp_path):
    files = {'timm': save(state, tmp_path / 'a.safetensors'), 'keras': tmp_path / 'a.h5'}
    write_keras(files['keras'], state)
    for source, file in files.items():
        os.truncate(file, file.stat().st_size // 2)
        assert str(file) in refuse(source, file)
    for source, tensors in (('tf1', tf1_tensors(state)), ('model_garden', garden_tensors(state))):
        prefix = tmp_path / source / 'model.ckpt'
        write_checkpoint(prefix, tensors)
        data = prefix.with_name('model.ckpt.data-00000-of-00001')
        os.truncate(data, data.stat().st_size // 2)
        assert str(prefix) in refuse(source, prefix, '--weights=raw')
        os.truncate(prefix.with_name('model.ckpt.index'), 100)
        assert str(prefix) in refuse(source, prefix, '--weights=raw')
    (tmp_path / 'a.tar.gz').write_bytes(b'\x1f\x8b\x08 no more')
    assert 'a.tar.gz' in refuse('tf1', tmp_path / 'a.tar.gz')


def test_missing_and_left_over_tensors_are_named(state, refuse, tmp_path):
    key = 'layer3.0.bn2.running_mean'
    without = {k: v for k, v in state.items() if k != key}
    assert key in refuse('timm', save(without, tmp_path / 'a.safetensors'))
    extra = state | {'layer3.0.conv4.weight': np.zeros(3, np.float32)}
    assert 'layer3.0.conv4.weight' in refuse('timm', save(extra, tmp_path / 'b.safetensors'))
    # A name of the family in a place where this network has none.
    name = 'layer1.0.downsample.0.weight'
    extra = timm_state('resnet18') | {name: np.zeros((64, 64, 1, 1), np.float32)}
    assert name in refuse('timm', save(extra, tmp_path / 'c.safetensors'))
    wrong = state | {'layer2.0.conv2.weight': np.zeros((128, 128, 1, 1), np.float32)}
    assert 'layer2.0.conv2.weight' in refuse('timm', save(wrong, tmp_path / 'd.safetensors'))
    nan = state | {'layer2.0.bn1.weight': np.full(128, np.nan, np.float32)}
    assert 'layer2.0.bn1.weight' in refuse('timm', save(nan, tmp_path / 'e.safetensors'))

    tensors = tf1_tensors(state)
    del tensors['conv2d_7/kernel']
    write_checkpoint(tmp_path / 'tf1' / 'model.ckpt', tensors)
    assert 'conv2d_7' in refuse('tf1', tmp_path / 'tf1', '--weights=raw')
    assert '--weights=raw' in refuse('tf1', tmp_path / 'tf1')
    tensors = garden_tensors(state)
    missing = 'backbone/layer_with_weights-9/_norm2/gamma'
    del tensors[f'{missing}/.ATTRIBUTES/VARIABLE_VALUE']
    write_checkpoint(tmp_path / 'garden' / 'ckpt-1', tensors)
    assert missing in refuse('model_garden', tmp_path / 'garden')


def test_keras_files_of_other_networks(state, refuse, tmp_path):
    write_keras(tmp_path / 'a.h5', {k: v for k, v in state.items() if 'layer4' not in k})
    assert '3 stages' in refuse('keras', tmp_path / 'a.h5')
    swapped = dict(state)
    one, two = 'layer1.0.conv3.weight', 'layer1.0.downsample.1.weight'
    swapped[one], swapped[two] = state[two], state[one]
    write_keras(tmp_path / 'b.h5', swapped | {one: np.zeros((256, 32, 1, 1), np.float32)})
    assert 'conv_3' in refuse('keras', tmp_path / 'b.h5')
    assert 'Keras 2' in refuse('keras', _keras3(tmp_path / 'c.weights.h5'))


def _keras3(path):
    import h5py

    with h5py.File(path, 'w') as file:
        file.create_dataset('layers/conv2d/vars/0', data=np.zeros(3))
    return path


def test_state_dicts_of_other_networks(refuse, tmp_path):
    other = {
        'features.conv0.weight': np.zeros((32, 3, 3, 3), np.float32),
        'features.norm0.weight': np.zeros(32, np.float32),
    }
    assert 'features.conv0.weight' in refuse('timm', save(other, tmp_path / 'a.safetensors'))
    pooled = timm_state('resnet18')
    pooled = {k: v for k, v in pooled.items() if not k.startswith('layer4')}
    assert '3 stages' in refuse('timm', save(pooled, tmp_path / 'b.safetensors'))


def test_wrong_head_size(state, refuse, tmp_path, capsys):
    state = state | {'fc.weight': state['fc.weight'][:37], 'fc.bias': state['fc.bias'][:37]}
    file = save(state, tmp_path / 'a.safetensors')
    assert '--num_classes=37' in refuse('timm', file)
    for number, is_new in ((37, False), (5, True)):
        output = tmp_path / f'out{number}'
        command = ['--source=timm', str(file), f'--output={output}', f'--num_classes={number}']
        main(command)
        assert ('NEWLY INITIALISED' in capsys.readouterr().out) == is_new
        config, _, variables = load_workdir(output, 'ema')
        kernel = np.asarray(variables['params']['head']['kernel'])
        assert config.model.num_classes == number and kernel.shape == (2048, number)
        assert np.array_equal(kernel, state['fc.weight'].T) != is_new


def test_paths(state, refuse, tmp_path, capsys):
    assert 'does not exist' in refuse('timm', tmp_path / 'none.pth')
    assert 'no checkpoint' in refuse('tf1', tmp_path)
    for name in ('a', 'b'):
        (tmp_path / f'{name}.index').touch()
    assert '2 checkpoints: a, b' in refuse('tf1', tmp_path)
    file = save(state, tmp_path / 'a.safetensors')
    (tmp_path / 'there').mkdir()
    command = ['--source=timm', str(file), f'--output={tmp_path / "there"}']
    with pytest.raises(SystemExit, match='2'):
        main(command)
    assert 'exists already' in capsys.readouterr().err
    assert list((tmp_path / 'there').iterdir()) == []


def test_what_timm_cannot_build_is_not_written(state, tmp_path, capsys):
    write_checkpoint(tmp_path / 'rs' / 'ckpt-1', garden_tensors(state))
    work, back = tmp_path / 'out', tmp_path / 'back.safetensors'
    main(['--source=model_garden', str(tmp_path / 'rs'), f'--output={work}'])
    with pytest.raises(SystemExit, match='2'):
        main(['--to=timm', f'--workdir={work}', f'--output={back}'])
    assert "activation 'swish'" in capsys.readouterr().err
    assert not back.exists()


@pytest.mark.parametrize('name', ['resnet_3d_14', 'resnet_3d_rs_14'])
def test_timm_has_no_networks_for_clips(name):
    with pytest.raises(UserError, match='timm cannot build a network with clips as its input'):
        to_state_dict({}, create_model(name).architecture)


def test_an_image_size_that_no_command_would_read_is_refused(state, refuse, tmp_path):
    file = save(state, tmp_path / 'a_i12.safetensors')
    assert "'a_i12.safetensors' gives an image size of 12" in refuse('timm', file)
    for source in ('timm', 'hf'):  # before it looks for the file
        assert '--image_size is 8; it takes' in refuse(source, 'a/none', '--image_size=8')


def test_an_option_without_effect_is_refused(refuse, tmp_path, capsys):
    for source in ('timm', 'keras', 'tf1', 'model_garden'):
        message = f'--checkpoint=7 has no effect with --source={source}; leave it out'
        assert message in refuse(source, 'none', '--checkpoint=7')
    for source in ('timm', 'keras'):
        assert '--weights=raw has no effect' in refuse(source, 'none', '--weights=raw')
    for option in ('--num_classes=3', '--variant=v1', '--image_size=64'):
        with pytest.raises(SystemExit, match='2'):
            main(['--to=timm', '--workdir=none', f'--output={tmp_path}/a.safetensors', option])
        assert f'{option} has no effect with --to=timm' in capsys.readouterr().err
