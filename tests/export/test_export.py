"""Exported networks, read without this project, beside the network itself."""

import functools
import hashlib
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import prepared
from helpers.exported import read_in_process, run_example
from helpers.hash_filled import hash_filled_variables
from helpers.processes import ROOT
from PIL import Image

from resnet_rs.export import __main__ as export
from resnet_rs.export import reader
from resnet_rs.export.description import preprocessing
from resnet_rs.export.network import Network
from resnet_rs.run.workdir import write_workdir
from resnet_rs.training.steps import model_of

pytestmark = pytest.mark.usefixtures('one_stage')
CLASSES = ('apple', 'pear', 'plum')
SIZE = 32


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """Converted weights for 3 classes, with data: 18 pictures of the split 'val'."""
    config = prepared.config('image_folder', image_size=SIZE)
    config.data.update({'eval_split': 'val', 'eval_crop': 'fraction 1'})
    config.model.update({'name': 'resnet_rs_14', 'width_multiplier': 0.25, 'num_classes': 3})
    model = model_of(config, batch_norm_group_size=None, dtype='float32')
    weights = hash_filled_variables(model, 'float32')
    directory = tmp_path_factory.mktemp('work')
    write_workdir(directory, config, {'raw': weights, 'ema': weights})
    (directory / 'class_names.txt').write_text('\n'.join(CLASSES) + '\n')
    return directory


@pytest.fixture(scope='module')
def picture(tmp_path_factory):
    """A file of SIZE x SIZE random pixels, which no preprocessing changes, and the pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    path = tmp_path_factory.mktemp('picture') / 'picture.png'
    Image.fromarray(pixels).save(path)
    return path, pixels


def small_network(name, settings):
    """A small network with filled variables, as export reads it from a work directory."""
    config = prepared.small_config(image_size=SIZE).copy_and_resolve_references().unlock()
    config.model.update({'name': name, 'num_classes': 3, **settings})
    config.eval.image_size = SIZE
    model = model_of(config, batch_norm_group_size=None, dtype='float32')
    variables = hash_filled_variables(model, 'float32')
    return Network(config, model, variables, CLASSES, 0, 'ema', 'float32')


def logits_of(workdir, pixels):
    """float32 logits [classes] of uint8 pixels, from the variables and numpy's normalisation."""
    from resnet_rs.run.workdir import load_workdir

    config, model, variables = load_workdir(workdir, 'ema', dtype='float32')
    mean, deviation = (np.float32(config.data[name]) for name in ('mean_rgb', 'std_rgb'))
    images = (pixels[None].astype(np.float32) - mean) / deviation
    return np.asarray(model.apply(variables, images, False))[0]


@pytest.fixture
def example(monkeypatch, capsys):
    return functools.partial(run_example, monkeypatch, capsys)


@pytest.fixture
def in_process(monkeypatch):
    read_in_process(monkeypatch)


def error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        export.main([str(argument) for argument in arguments])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_stablehlo(workdir, picture, tmp_path, capsys, example):
    output = tmp_path / 'exported'
    export.main([f'--workdir={workdir}', '--format=stablehlo', f'--output={output}'])
    assert '18 images: logits differ by at most' in capsys.readouterr().out
    description = json.loads((output / 'export.json').read_text())
    assert description['class_names'] == list(CLASSES)
    program = (output / 'model.stablehlo').read_bytes()
    assert description['files'] == {
        'model.stablehlo': {
            'bytes': len(program),
            'sha256': hashlib.sha256(program).hexdigest(),
        }
    }
    assert str(ROOT).encode() not in program and b'.py' not in program
    assert (output / 'model.stablehlo').stat().st_mode & 0o444 == 0o444
    path, pixels = picture
    likeliest = CLASSES[logits_of(workdir, pixels).argmax()]
    assert example('with_jax.py', output, path) == [f'{path}: {likeliest}']


@pytest.mark.parametrize('name', ['with_jax.py', 'with_onnxruntime.py'])
@pytest.mark.parametrize(
    'crop, shape', [('padding 32', (64, 80)), ('fraction 0.8', (40, 40)), ('squash', (32, 32))]
)
def test_examples_crop_as_the_evaluation_does(name, crop, shape, tmp_path, monkeypatch, example):
    """The centre of the picture is as large as the input, so nothing is resized."""
    network = small_network('resnet_rs_14', {})
    network.config.data.eval_crop = crop
    description = {'class_names': ['no', 'yes'], 'preprocessing': preprocessing(network)}
    (tmp_path / 'export.json').write_text(json.dumps(description))
    (tmp_path / 'model.stablehlo').write_bytes(b'')
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'picture.png')
    top, left = ((side - SIZE) // 2 for side in shape)
    centre = pixels[top : top + SIZE, left : left + SIZE]

    def logits(images):
        is_centre = (images[0] == centre).all()
        return jnp.stack([1.0 - is_centre, 0.0 + is_centre])[None]

    program = types.SimpleNamespace(call=logits)
    monkeypatch.setattr(jax.export, 'deserialize', lambda content: program)
    session = types.SimpleNamespace(run=lambda names, feed: [np.asarray(logits(feed['images']))])
    runtime = types.SimpleNamespace(InferenceSession=lambda path: session)
    monkeypatch.setitem(sys.modules, 'onnxruntime', runtime)
    path = tmp_path / 'picture.png'
    assert example(name, tmp_path, path) == [f'{path}: yes']


def test_stablehlo_of_any_size_with_separate_weights(workdir, tmp_path):
    from safetensors.numpy import load_file

    output = tmp_path / 'exported'
    export.main(
        [
            f'--workdir={workdir}',
            '--format=stablehlo',
            f'--output={output}',
            '--image_size=any',
            '--separate_weights',
        ]
    )
    program = jax.export.deserialize(bytearray((output / 'model.stablehlo').read_bytes()))
    assert program.platforms == ('cpu', 'cuda', 'tpu')
    weights = load_file(output / 'weights.safetensors')
    pixels = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), np.uint8)
    logits = np.asarray(jax.jit(program.call)(weights, pixels))
    np.testing.assert_allclose(logits[0], logits_of(workdir, pixels[0]), atol=1e-5)


def test_a_difference_above_the_tolerance_leaves_nothing(workdir, tmp_path, capsys, in_process):
    output = tmp_path / 'exported'
    settings = '--format=stablehlo', '--precision=bfloat16', '--tolerance=1e-6'
    line = error_of(capsys, f'--workdir={workdir}', f'--output={output}', *settings)
    assert line.startswith('error: the check of the exported stablehlo failed on 18 images')
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_line_and_writes_nothing(workdir, tmp_path, capsys, monkeypatch):
    output = tmp_path / 'exported'
    usual = f'--workdir={workdir}', '--format=stablehlo', f'--output={output}'
    existing = f'--output={workdir}'
    assert 'exists already' in error_of(capsys, *usual[:2], existing)
    assert 'neither' in error_of(capsys, *usual, '--checkpoint=newest')
    assert "no checkpoint '7'" in error_of(capsys, *usual, '--checkpoint=7')
    assert 'takes float32, bfloat16' in error_of(capsys, *usual, '--precision=int8')
    assert 'not a number between 0 and 1' in error_of(capsys, *usual, '--tolerance=0')
    monkeypatch.setitem(export.LIBRARIES, 'stablehlo', ('no_such_library',))
    line = error_of(capsys, *usual)
    assert "needs no_such_library; pip install '.[export]'" in line
    monkeypatch.undo()
    names = workdir / 'class_names.txt'
    text = names.read_text()
    names.unlink()
    try:
        assert 'the 3 classes of' in error_of(capsys, *usual)
    finally:
        names.write_text(text)
    assert not output.exists()


def test_saved_model(workdir, picture, tmp_path, example):
    output = tmp_path / 'exported'
    options = '--format=saved_model', '--check_images=16'  # one batch, and so one compilation
    export.main([f'--workdir={workdir}', f'--output={output}', *options])
    description = json.loads((output / 'export.json').read_text())
    assert description['check']['images'] == 16 and description['check']['same_top1'] == 16
    assert str(ROOT).encode() not in (output / 'saved_model.pb').read_bytes()
    path, pixels = picture
    powers = np.exp(logits_of(workdir, pixels).astype(np.float64))
    likeliest = CLASSES[powers.argmax()]
    line = f'{path}: {likeliest} {powers.max() / powers.sum():.2%}'
    assert example('with_tensorflow.py', output, path) == [line]


def test_tflite(workdir, tmp_path):
    output = tmp_path / 'exported'
    options = '--format=tflite', '--check_images=16'
    export.main([f'--checkpoint={workdir}', f'--output={output}', *options])
    description = json.loads((output / 'export.json').read_text())
    assert description['check']['images'] == 16 and description['check']['same_top1'] == 16


@pytest.mark.parametrize('precision, dtype', [('float16', np.float16), ('int8', np.int8)])
def test_tflite_of_less_precision(workdir, tmp_path, in_process, precision, dtype):
    import tensorflow as tf

    output = tmp_path / 'exported'
    options = '--format=tflite', f'--precision={precision}', f'--output={output}'
    export.main([f'--workdir={workdir}', *options, '--check_images=6'])
    agreement = json.loads((output / 'export.json').read_text())['check']
    assert agreement['images'] == 6 and agreement['same_top1'] >= 5
    tensors = tf.lite.Interpreter(str(output / 'model.tflite')).get_tensor_details()
    kernels = [tensor for tensor in tensors if len(tensor['shape']) == 4]
    assert [tensor['name'] for tensor in kernels if tensor['dtype'] == dtype]


def test_onnx(workdir, picture, tmp_path, example):
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    output = tmp_path / 'exported'
    export.main([f'--workdir={workdir}', '--format=onnx', f'--output={output}'])
    description = json.loads((output / 'export.json').read_text())
    assert description['check']['images'] == 18 and description['check']['same_top1'] == 18
    nodes = [node.op_type for node in onnx.load(output / 'model.onnx').graph.node]
    # The stem has four convolutions, the block three and its shortcut one; without the norms of
    # all but the last convolution of the branch, whose gate stands between.
    assert nodes.count('Conv') == 8
    assert nodes.count('Sqrt') == nodes.count('Reciprocal') == 0
    path, pixels = picture
    likeliest = CLASSES[logits_of(workdir, pixels).argmax()]
    assert example('with_onnxruntime.py', output, path) == [f'{path}: {likeliest}']


@pytest.mark.parametrize(
    'name, settings',
    [
        ('resnest_14', {'width_multiplier': 0.125}),
        ('resnest_50_fast_2s2x40d', {'width_multiplier': 0.25}),
        ('efficientnet_b0', {'width_multiplier': 0.25, 'padding': 'same'}),
    ],
)
def test_onnx_of_other_families(name, settings, tmp_path):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    from resnet_rs.export import onnx

    network = small_network(name, settings)
    onnx.write(network, tmp_path, precision='float32')
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    logits = reader.read_onnx(tmp_path)(pixels)
    expected = np.asarray(jax.jit(network.logits)(network.variables, pixels))
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
