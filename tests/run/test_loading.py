"""resnet_rs.load: the network of a work directory, against its parts applied by hand."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers.hash_filled import hash_filled_variables
from PIL import Image

import resnet_rs
from resnet_rs import predict
from resnet_rs.config import default_config
from resnet_rs.run.workdir import write_workdir
from resnet_rs.training.steps import model_of
from resnet_rs.utils.errors import UserError

SIZE = 32
NAMES = ('ant', 'bee', 'cat')
MEAN, DEVIATION = (10.0, 20.0, 30.0), (40.0, 50.0, 60.0)


@pytest.fixture(scope='module')
def network():
    config = default_config()
    config.model.update({'name': 'resnet_14', 'width_multiplier': 0.25, 'num_classes': 3})
    config.data.update({'image_size': SIZE, 'mean_rgb': MEAN, 'std_rgb': DEVIATION})
    model = model_of(config, batch_norm_group_size=None, dtype='float32')
    ema = hash_filled_variables(model, 'float32')
    return config, model, {'raw': jax.tree.map(lambda leaf: leaf * 0.9, ema), 'ema': ema}


@pytest.fixture(scope='module')
def workdir(network, tmp_path_factory):
    config, _, weights = network
    directory = tmp_path_factory.mktemp('run')
    write_workdir(directory, config, weights)
    (directory / 'class_names.txt').write_text('\n'.join(NAMES) + '\n')
    return directory


@pytest.fixture(scope='module')
def pixels():
    """Twice the size: the padding of 32 pixels cuts out exactly the middle half, unscaled."""
    return np.random.default_rng(0).integers(0, 256, (4, 2 * SIZE, 2 * SIZE, 3), np.uint8)


def expected(network, pixels, weights):
    _, model, variables = network
    middle = pixels[:, SIZE // 2 : -SIZE // 2, SIZE // 2 : -SIZE // 2].astype(np.float32)
    inputs = (middle - np.float32(MEAN)) / np.float32(DEVIATION)
    return inputs, jax.jit(model.apply, static_argnums=2)(variables[weights], inputs, False)


@pytest.mark.parametrize('weights', ['ema', 'raw'])
def test_logits_of_pixels(network, workdir, pixels, weights):
    loaded = resnet_rs.load(workdir, weights=weights)
    inputs, logits = expected(network, pixels, weights)
    np.testing.assert_allclose(loaded.preprocessing(pixels), inputs, rtol=1e-6)
    found = loaded(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
    applied = loaded.network.apply(loaded.variables, loaded.preprocessing(pixels), train=False)
    np.testing.assert_allclose(applied, logits, rtol=1e-4, atol=1e-4)
    assert loaded.class_names == NAMES
    assert 'batch_stats' not in repr(loaded) and len(repr(loaded)) < 3000
    found = loaded.preprocessing
    assert (found.image_size, found.crop, found.kernel, found.mean, found.deviation) == (
        SIZE,
        'padding 32',
        'bicubic_tf1',
        MEAN,
        DEVIATION,
    )


def test_files_and_pixels_of_several_sizes(network, workdir, pixels, tmp_path):
    """One batch of files and arrays has the logits of each alone, and predict's probabilities."""
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f'{number}.png')
    files = [tmp_path / f'{number}.png' for number in range(len(pixels))]
    loaded = resnet_rs.load(str(workdir))
    logits = expected(network, pixels, 'ema')[1]
    np.testing.assert_allclose(loaded(files), logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loaded(str(files[1])), logits[1:2], rtol=1e-4, atol=1e-4)
    small = np.ascontiguousarray(pixels[3, :40, :50])
    mixed = loaded([files[0], small])
    np.testing.assert_allclose(mixed[0], logits[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mixed[1:], loaded(small[None]), rtol=1e-4, atol=1e-4)
    [prediction] = predict.predict(workdir, files[:1], top=3)
    probabilities = np.asarray(jax.nn.softmax(logits[0]))
    for column, name, probability in prediction.classes:
        assert name == NAMES[column] and probability == pytest.approx(probabilities[column], 1e-3)


def test_another_size(workdir, pixels):
    loaded = resnet_rs.load(workdir, image_size=48)
    assert loaded.preprocessing(pixels).shape == (4, 48, 48, 3)
    assert loaded(pixels).shape == (4, 3)


def test_what_is_no_batch_of_images_is_refused(workdir, pixels, tmp_path):
    loaded = resnet_rs.load(workdir)
    for images, seen in (
        (pixels[0], 'uint8[64, 64, 3]'),
        (pixels.astype(np.float32), 'float32[4, 64, 64, 3]'),
        (pixels[..., :1], 'uint8[4, 64, 64, 1]'),
        ([pixels], 'uint8[4, 64, 64, 3]'),
    ):
        with pytest.raises(UserError) as error:
            loaded(images)
        assert str(error.value).startswith(
            f'an array of images is {seen}; preprocessing takes uint8 [batch, height, width, 3]'
        )
    with pytest.raises(UserError, match='none.png cannot be read'):
        loaded(tmp_path / 'none.png')
    with pytest.raises(UserError, match='there are no images'):
        loaded([])
    for arguments, message in (
        (dict(weights='avg'), "weights is 'avg'; there are raw and ema"),
        (dict(checkpoint=3), "no checkpoint '3'"),
        (dict(image_size=8), 'image_size is 8; it takes 0'),
    ):
        with pytest.raises(UserError, match=message):
            resnet_rs.load(workdir, **arguments)
    with pytest.raises(UserError, match='no run is in'):
        resnet_rs.load(tmp_path)


def test_importing_the_package_is_light():
    code = (
        'import sys, resnet_rs; '
        "print(*sorted({'jax', 'tensorflow', 'flax'} & sys.modules.keys())); "
        "print(hasattr(resnet_rs, 'lode'), dir(resnet_rs).count('load'), resnet_rs.__all__)"
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=60
    )
    names = ['load', 'create_model', 'init_variables', 'count_parameters']
    assert result.stdout.split('\n')[:2] == ['', f'False 0 {names}']
