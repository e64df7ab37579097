"""Exported networks for clips, read from the files, next to the network itself."""

import json

import jax
import numpy as np
import pytest
from helpers import clip_networks
from helpers.exported import read_in_process
from helpers.videos import write_folder

from resnet_rs import publish
from resnet_rs.export import __main__ as export
from resnet_rs.export import check, reader
from resnet_rs.export.network import Network
from resnet_rs.run.workdir import write_workdir

SIZE, FRAMES = 32, 4


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """A work directory with data; the network, and the function from pixels to its logits."""
    root = tmp_path_factory.mktemp('clips')
    write_folder(root / 'data', {'train': (9,), 'validation': (10, 5)})
    config = clip_networks.small_config(image_size=SIZE)
    config.data.data_dir = str(root / 'data')
    with pytest.MonkeyPatch.context() as patch:
        clip_networks.shorten(patch.setitem)
        read_in_process(patch)
        model, variables = clip_networks.random_variables(config)
        write_workdir(root / 'work', config, {'raw': variables, 'ema': variables})
        (root / 'work' / 'class_names.txt').write_text('class0\nclass1\n')
        mean, std = (np.float32(config.data[name]) for name in ('mean_rgb', 'std_rgb'))
        apply = jax.jit(lambda clips: model.apply(variables, (clips - mean) / std, False))
        yield root, apply


def error_of(capsys, command, *arguments):
    with pytest.raises(SystemExit) as exit:
        command([str(argument) for argument in arguments])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_stablehlo(network, tmp_path, capsys):
    """The check compares the middle clips of the four videos; other clips agree too."""
    root, apply = network
    output = tmp_path / 'exported'
    arguments = (f'--workdir={root / "work"}', '--format=stablehlo', f'--output={output}')
    export.main([*arguments, '--separate_weights'])
    assert '4 clips: logits differ by at most' in capsys.readouterr().out
    description = json.loads((output / 'export.json').read_text())
    assert f'uint8 clips [batch, {FRAMES}, {SIZE}, {SIZE}, 3]' in description['arguments']
    assert description['preprocessing']['frames'] == FRAMES
    assert description['preprocessing']['frame_stride'] == 1
    clips = np.random.default_rng(0).integers(0, 256, (3, FRAMES, SIZE, SIZE, 3), np.uint8)
    logits = np.asarray(reader.read_stablehlo(output)(clips))
    np.testing.assert_allclose(logits, apply(clips), rtol=1e-4, atol=1e-4 * np.abs(logits).max())


def test_named_videos_are_checked(network, tmp_path, capsys):
    root, _ = network
    video = root / 'data' / 'train' / 'class0' / 'video0'
    arguments = (f'--workdir={root / "work"}', '--format=stablehlo', f'--images={video}')
    export.main([*arguments, f'--output={tmp_path / "exported"}', '--image_size=any'])
    assert '1 clip: logits differ' in capsys.readouterr().out


def test_what_is_for_images_alone(network, tmp_path, capsys):
    root, _ = network
    arguments = (f'--workdir={root / "work"}', f'--output={tmp_path / "exported"}')
    for format in ('saved_model', 'tflite'):
        line = error_of(capsys, export.main, *arguments, f'--format={format}')
        assert f'takes clips of {FRAMES} frames, and --format={format} is for networks for' in line
    assert '--format=stablehlo' in error_of(capsys, publish.main, *arguments)
    assert not (tmp_path / 'exported').exists()


def test_the_images_of_a_network_for_single_frames_are_those_of_videos(tmp_path):
    """The check of configs/moving_digits.py:frames: the middle frame of each video, 32 pixels."""
    write_folder(tmp_path, {'train': (9,), 'validation': (10, 5)})
    config = clip_networks.small_config(image_size=SIZE)
    config.data.update({'data_dir': str(tmp_path), 'frames': 1, 'frame_stride': 1})
    config.eval.image_size = SIZE
    network = Network(config, None, {}, (), 0, 'ema', 'float32')
    images = check.images_for(network, None)
    assert images.shape == (4, SIZE, SIZE, 3) and images.dtype == np.uint8
    assert len(np.unique(images.reshape(4, -1), axis=0)) == 4
