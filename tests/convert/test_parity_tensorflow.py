"""Random weights of tf-keras' and Model Garden's ResNet-RS: converted, the same logits."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.framework_parity import our_logits, random_variable, relative_difference, require

from resnet_rs.convert.__main__ import main
from resnet_rs.run.workdir import load_workdir

require('tf_keras', 'official')

import tf_keras  # noqa: E402
from helpers.model_garden import build_garden  # noqa: E402
from tf_keras.src.applications import resnet_rs as keras  # noqa: E402

TOLERANCE = 1e-4


@pytest.fixture
def in_float64():
    tf_keras.backend.set_floatx('float64')
    yield
    tf_keras.backend.set_floatx('float32')


def fill(model) -> None:
    """Values that float32 holds, whatever the variables' dtype is."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        name = variable.name.split(':')[0]
        if (values := random_variable(name, variable.shape, rng)) is not None:
            variable.assign(values)
        variable.assign(tf.cast(tf.cast(variable, tf.float32), variable.dtype))


def images(size: int, dtype: str = 'float32') -> np.ndarray:
    return np.random.default_rng(size).normal(size=(2, size, size, 3)).astype(dtype)


def build_keras(depth, size, top=True):
    tf_keras.backend.clear_session()
    options = {'pooling': 'avg'} if not top else {}
    return keras.ResNetRS(
        depth=depth,
        input_shape=(size, size, 3),
        weights=None,
        include_preprocessing=False,
        include_top=top,
        classifier_activation=None,
        block_args=keras.BLOCK_ARGS[depth],
        **options,
    )


@pytest.mark.parametrize('depth, sizes', [(50, (64, 75)), (101, (64,))])
def test_keras(depth, sizes, tmp_path):
    model = build_keras(depth, sizes[0])
    fill(model)
    model.save_weights(tmp_path / 'rs.h5')
    main(['--source=keras', str(tmp_path / 'rs.h5'), f'--output={tmp_path / "out"}'])
    for size in sizes:
        theirs = build_keras(depth, size)
        theirs.load_weights(tmp_path / 'rs.h5')
        x = images(size)
        difference = relative_difference(
            our_logits(tmp_path / 'out', x), theirs(x, training=False).numpy()
        )
        print(f'keras {depth}@{size}: {difference:.1e}')
        assert difference < TOLERANCE


def test_keras_without_top(tmp_path):
    model = build_keras(50, 64, top=False)
    fill(model)
    model.save_weights(tmp_path / 'rs_notop.h5')
    main(
        [
            '--source=keras',
            str(tmp_path / 'rs_notop.h5'),
            '--num_classes=3',
            f'--output={tmp_path / "out"}',
        ]
    )
    x = images(64)
    head = load_workdir(tmp_path / 'out', 'ema')[2]['params']['head']
    features = model(x, training=False).numpy()
    theirs = features @ np.asarray(head['kernel']) + np.asarray(head['bias'])
    assert relative_difference(our_logits(tmp_path / 'out', x), theirs) < TOLERANCE


@pytest.mark.parametrize('depth, sizes', [(50, (64, 75)), (101, (64,))])
def test_model_garden(depth, sizes, tmp_path):
    model = build_garden(depth)
    save_and_convert_garden(model, tmp_path)
    for size in sizes:
        difference = garden_difference(model, tmp_path, images(size))
        print(f'model garden {depth}@{size}: {difference:.1e}')
        assert difference < TOLERANCE


def test_model_garden_in_float64(tmp_path, in_float64):
    model = build_garden(50)
    save_and_convert_garden(model, tmp_path)
    for size in (64, 75):
        difference = garden_difference(model, tmp_path, images(size, 'float64'))
        print(f'model garden 50@{size} float64: {difference:.1e}')
        assert difference < 1e-9


def save_and_convert_garden(model, directory):
    fill(model)
    checkpoint = tf.train.Checkpoint(model=model, **model.checkpoint_items)
    checkpoint.save(directory / 'resnet-rs' / 'ckpt')
    command = ['--source=model_garden', str(directory / 'resnet-rs')]
    main([*command, f'--output={directory / "out"}'])


def garden_difference(model, directory, x):
    theirs = model(x, training=False).numpy()[:, 1:]
    return relative_difference(our_logits(directory / 'out', x), theirs)
