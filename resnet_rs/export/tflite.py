"""TFLite (LiteRT): a network in one file for phones and small computers.

Source: tf.lite.TFLiteConverter of TensorFlow 2.21, which converts the SavedModel of jax2tf. Its
quantisation of activations has no form of the average pool in the shortcuts, so that int8 is the
dynamic range quantisation of weights alone.
"""

import pathlib
import tempfile

import tensorflow as tf

from resnet_rs.datasets.images import silent_libraries
from resnet_rs.export.network import Network
from resnet_rs.export.saved_model import logits_module

FILE = 'model.tflite'
COMPATIBILITY = (
    'LiteRT (ai-edge-litert) or tf.lite of the TensorFlow version in "versions" or newer; '
    'TensorFlow promises that newer interpreters run older files.'
)


def write(network: Network, folder: pathlib.Path, *, precision: str) -> None:
    """Writes model.tflite into `folder`.

    Its signature 'serving_default' maps 'images', uint8 [batch, size, size, 3], to 'logits',
    float32 [batch, classes].

    Args:
      network: the network, with float32 activations.
      folder: the folder of the new file.
      precision: the precision of the weights: 'float32', 'float16' or 'int8'.
    """
    module = logits_module(network, ('cpu',))
    with tempfile.TemporaryDirectory() as directory, silent_libraries():
        tf.saved_model.save(module, directory, {'serving_default': module.logits})
        converter = tf.lite.TFLiteConverter.from_saved_model(
            directory, signature_keys=['serving_default']
        )
        if precision != 'float32':
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == 'float16':
            converter.target_spec.supported_types = [tf.float16]
        (folder / FILE).write_bytes(converter.convert())


def facts(network: Network, *, precision: str) -> dict:
    """Returns the facts about this format for export.json."""
    side = network.image_size
    return {
        'weights_dtype': precision,
        'arguments': f'images: uint8 [batch, {side}, {side}, 3], RGB of 0 to 255',
        'result': f'logits: float32 [batch, {len(network.class_names)}]',
        'compatibility': COMPATIBILITY,
    }
