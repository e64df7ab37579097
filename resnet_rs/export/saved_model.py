"""SavedModel: a network for TensorFlow, with signatures for pixels and for encoded images.

The network is one XlaCallModule operation, jax2tf's only form, so that readers need a TensorFlow
with XLA. Source: jax.experimental.jax2tf of JAX 0.10.2.
"""

import pathlib
from collections.abc import Sequence

import jax
import tensorflow as tf
from jax.experimental import jax2tf

from resnet_rs.datasets.images import decode_png_or_gif, evaluation_transform
from resnet_rs.export.network import Network

PLATFORMS = ('cpu', 'cuda', 'tpu')
TOP = 5
COMPATIBILITY = (
    'TensorFlow with XLA, of the version in "versions" or newer; TensorFlow promises to run a '
    'SavedModel of an earlier minor version of the same major version. The program inside is '
    'StableHLO, which TensorFlow reads for at least 6 months after its jaxlib was built.'
)


def write(network: Network, folder: pathlib.Path, *, precision: str) -> None:
    """Writes a SavedModel into `folder`; `precision` is that of `network`.

    Signatures: 'serving_default' from 'images', uint8 [batch, size, size, 3], to 'logits', float32
    [batch, classes]; 'classify' from 'images', strings [batch] of JPEG, PNG or GIF files, to
    'probabilities', 'classes' and 'names' [batch, 5] of the likeliest classes, best first.
    """
    del precision
    module = logits_module(network, PLATFORMS)
    transform = evaluation_transform(network.config.data, network.image_size, decode_png_or_gif)
    names = tf.constant(network.class_names)
    top = min(TOP, len(network.class_names))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name='images')], autograph=False)
    def classify(images):
        pixels = tf.map_fn(transform, images, fn_output_signature=tf.uint8)
        side = network.image_size
        pixels = tf.ensure_shape(pixels, [None, side, side, 3])
        chances = tf.nn.softmax(module.logits(pixels)['logits'])
        chances, classes = tf.math.top_k(chances, top)
        found = {'probabilities': chances, 'classes': classes}
        return found | {'names': tf.gather(names, classes)}

    module.classify = classify
    signatures = {'serving_default': module.logits, 'classify': classify}
    tf.saved_model.save(module, str(folder), signatures)


def logits_module(network: Network, platforms: Sequence[str]) -> tf.Module:
    """Returns a module whose tf.function `logits` maps uint8 images to {'logits': float32}."""
    module = tf.Module()
    weights, tree = jax.tree.flatten(jax.device_get(network.stored_variables))
    # Variables, because constants would make a graph of more than 2 GB for a large network.
    weights = [tf.Variable(leaf, trainable=False) for leaf in weights]
    module.weights = weights
    side = network.image_size
    call = jax2tf.convert(
        lambda weights, images: network.logits(jax.tree.unflatten(tree, weights), images),
        polymorphic_shapes=[None, f'(batch, {side}, {side}, 3)'],
        with_gradient=False,
        native_serialization_platforms=platforms,
    )

    @tf.function(
        input_signature=[tf.TensorSpec([None, side, side, 3], tf.uint8, name='images')],
        autograph=False,  # it would warn of JAX's code
    )
    def logits(images):
        return {'logits': call(weights, images)}

    module.logits = logits
    return module


def facts(network: Network, *, precision: str) -> dict:
    """Returns the facts about this format for export.json."""
    del precision
    side = network.image_size
    return {
        'platforms': list(PLATFORMS),
        'signatures': {
            'serving_default': f'images: uint8 [batch, {side}, {side}, 3], RGB of 0 to 255 -> '
            f'logits: float32 [batch, {len(network.class_names)}]',
            'classify': 'images: string [batch], encoded as JPEG, PNG or GIF -> probabilities, '
            'classes and names of the likeliest classes',
        },
        'compatibility': COMPATIBILITY,
    }
