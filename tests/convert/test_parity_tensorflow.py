"""Random weights of tf-keras' and Model Garden's ResNet-RS: converted, the same logits."""

import numpy as np
import pytest
import tensorflow as tf
from parity import our_logits, random_variable, relative_difference, require

from resnet_rs.convert.__main__ import main
from resnet_rs.convert.workdir import load_workdir

require('tf_keras', 'official')

import tf_keras  # noqa: E402
from official.vision.modeling.backbones import resnet as garden  # noqa: E402
from official.vision.modeling.classification_model import ClassificationModel  # noqa: E402
from tf_keras.src.applications import resnet_rs as keras  # noqa: E402

TOLERANCE = 1e-4


def fill(model) -> None:
    rng = np.random.default_rng(0)
    for variable in model.variables:
        name = variable.name.split(':')[0]
        if (values := random_variable(name, variable.shape, rng)) is not None:
            variable.assign(values)


def images(size: int) -> np.ndarray:
    return np.random.default_rng(size).normal(size=(2, size, size, 3)).astype(np.float32)


def build_keras(depth, size, top=True):
    tf_keras.backend.clear_session()
    options = {'pooling': 'avg'} if not top else {}
    return keras.ResNetRS(
        depth=depth, input_shape=(size, size, 3), weights=None, include_preprocessing=False,
        include_top=top, classifier_activation=None, block_args=keras.BLOCK_ARGS[depth], **options,
    )


@pytest.mark.parametrize('depth, sizes', [(50, (64, 75)), (101, (64,))])
def test_keras(depth, sizes, tmp_path):
    model = build_keras(depth, sizes[0])
    fill(model)
    model.save_weights(tmp_path / 'rs.h5')
    assert main(['--source=keras', str(tmp_path / 'rs.h5'), f'--output={tmp_path / "out"}']) == 0
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
    assert main(['--source=keras', str(tmp_path / 'rs_notop.h5'), '--num_classes=3',
                 f'--output={tmp_path / "out"}']) == 0
    x = images(64)
    head = load_workdir(tmp_path / 'out', 'ema')[2]['params']['head']
    features = model(x, training=False).numpy()
    theirs = features @ np.asarray(head['kernel']) + np.asarray(head['bias'])
    assert relative_difference(our_logits(tmp_path / 'out', x), theirs) < TOLERANCE


@pytest.mark.parametrize('depth, sizes', [(50, (64, 75)), (101, (64,))])
def test_model_garden(depth, sizes, tmp_path):
    """The backbone as in official/vision/configs/experiments/image_classification (resnet-rs)."""
    backbone = garden.ResNet(
        model_id=depth, replace_stem_max_pool=True, resnetd_shortcut=True, se_ratio=0.25,
        stem_type='v1', activation='swish', use_sync_bn=False, norm_momentum=0.0,
        norm_epsilon=1e-5, bn_trainable=True,
    )
    model = ClassificationModel(
        backbone, num_classes=1001, input_specs=tf_keras.layers.InputSpec(
            shape=[None, None, None, 3]), dropout_rate=0.25,
    )
    fill(model)
    checkpoint = tf.train.Checkpoint(model=model, **model.checkpoint_items)
    checkpoint.save(tmp_path / 'resnet-rs' / 'ckpt')
    assert main(['--source=model_garden', str(tmp_path / 'resnet-rs'),
                 f'--output={tmp_path / "out"}']) == 0
    for size in sizes:
        x = images(size)
        theirs = model(x, training=False).numpy()[:, 1:]
        difference = relative_difference(our_logits(tmp_path / 'out', x), theirs)
        print(f'model garden {depth}@{size}: {difference:.1e}')
        assert difference < TOLERANCE
