"""The same ten steps in Keras, on Model Garden's own network for clips.

The optimiser is Keras', of the class and with the settings of its recipe (SGD with Nesterov's
momentum), and so is the loss. It takes logits: Model Garden passes probabilities in float32, which
would hide what float64 shows. Where this project differs on purpose, the reference does as it does:
gates have weight decay, and the average starts from the first weights and not from zeros. Keras'
fused batch norm, which it does not have in float64, keeps the variance of a sample.
"""

import numpy as np
import tensorflow as tf
import tf_keras
from official.vision.modeling.backbones import resnet_3d
from official.vision.modeling.video_classification_model import VideoClassificationModel

from helpers.clip_networks import TWO_STAGES
from helpers.garden_clips import hash_variable
from helpers.model_garden import MaxPool3D, variables_by_key
from helpers.ten_steps import (
    EMA_DECAY,
    LABEL_SMOOTHING,
    MOMENTUM,
    WEIGHT_DECAY,
    Run,
    StepResult,
    batches,
    initial_scale,
)
from resnet_rs.config import default_config

DEPTH = 14
FILTERS = (64, 128)


class BatchNormalization(tf_keras.layers.BatchNormalization):
    """The norm that keeps the variance of a sample, n / (n - 1), as the fused one does."""

    def call(self, inputs, training=None, mask=None):
        outputs = super().call(inputs, training=training, mask=mask)
        if training and tf.executing_eagerly():
            count = tf.size(inputs) / inputs.shape[-1]
            sample = tf.cast(count / (count - 1), inputs.dtype)
            self.moving_variance.assign(self.moving_variance * sample)
        return outputs


FLOAT64_LAYERS = {'BatchNormalization': BatchNormalization, 'MaxPool3D': MaxPool3D}
KERAS_LAYERS = {name: getattr(tf_keras.layers, name) for name in FLOAT64_LAYERS}


def garden_network(run: Run):
    """The network of `k400_resnet3drs_50_tpu.yaml` with the stages of TWO_STAGES."""
    kernels = TWO_STAGES['temporal_kernels']
    resnet_3d.RESNET_SPECS[DEPTH] = [('bottleneck3d', filters, 1) for filters in FILTERS]
    regularizer = tf_keras.regularizers.l2(WEIGHT_DECAY / 2)
    backbone = resnet_3d.ResNet3D(
        model_id=DEPTH,
        temporal_strides=TWO_STAGES['temporal_strides'],
        temporal_kernel_sizes=kernels,
        use_self_gating=[1] * len(kernels),
        stem_type='v1',
        stem_pool_temporal_stride=1,
        se_ratio=0.25,
        norm_momentum=0.0,
        norm_epsilon=1e-5,
        kernel_regularizer=regularizer,
    )
    return VideoClassificationModel(
        backbone, num_classes=run.num_classes, kernel_regularizer=regularizer
    )


def garden_steps(run: Run, dtype: str):
    """Yields a StepResult per step; `dtype` is 'float32' or 'float64'."""
    tf_keras.backend.set_floatx(dtype)
    for name, layer in (FLOAT64_LAYERS if dtype == 'float64' else KERAS_LAYERS).items():
        setattr(tf_keras.layers, name, layer)
    network = garden_network(run)
    variables = variables_by_key(network)
    for key, variable in variables.items():
        variable.assign(initial_scale(key) * hash_variable(key, tuple(variable.shape)))
    keys = {id(variable): key for key, variable in variables.items()}
    trained = network.trainable_variables
    gates = [
        variable
        for key, variable in variables.items()
        if '_self_gating/' in key and key.endswith('/kernel')
    ]
    # Keras would keep numbers as float32.
    rate, momentum = (tf.constant(value, dtype) for value in (run.peak_learning_rate, MOMENTUM))
    optimizer = tf_keras.optimizers.legacy.SGD(lambda: rate, lambda: momentum, nesterov=True)
    values = {key: variable.numpy() for key, variable in variables.items()}
    averages = dict(values)
    mean, std = (np.array(default_config().data[name]) for name in ('mean_rgb', 'std_rgb'))
    for step, batch in enumerate(batches(run), start=1):
        clips = tf.constant((batch['image'] - mean) / std, dtype)
        labels = tf.one_hot(batch['label'], run.num_classes, dtype=dtype)
        with tf.GradientTape(persistent=True) as tape:
            losses = tf_keras.losses.categorical_crossentropy(
                labels,
                network({'image': clips}, training=True),
                from_logits=True,
                label_smoothing=LABEL_SMOOTHING,
            )
            loss = tf.reduce_mean(losses)
            decays = [WEIGHT_DECAY / 2 * tf.reduce_sum(gate**2) for gate in gates]
            total = loss + tf.add_n(network.losses) + tf.add_n(decays)
        gradient = tape.gradient(loss, trained)
        optimizer.apply_gradients(zip(tape.gradient(total, trained), trained, strict=True))
        values = {key: variable.numpy() for key, variable in variables.items()}
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        averages = {
            key: decay * average + (1 - decay) * values[key] for key, average in averages.items()
        }
        own = {
            keys[id(variable)]: array.numpy()
            for variable, array in zip(trained, gradient, strict=True)
        }
        yield StepResult(
            loss=float(loss),
            learning_rate=run.peak_learning_rate,
            gradient=own,
            weights={key: values[key] for key in own},
            statistics={key: values[key] for key in values if key not in own},
            ema=averages,
        )
