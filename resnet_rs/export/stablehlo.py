"""StableHLO: the program of a network for jax.export, on CPUs, GPUs and TPUs.

Source: JAX's documentation of jax.export, docs/export/export.md of jax-ml/jax.
"""

import pathlib

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export

from resnet_rs.export.network import Network

PLATFORMS = ('cpu', 'cuda', 'tpu')
PROGRAM_FILE, WEIGHTS_FILE = 'model.stablehlo', 'weights.safetensors'
MULTIPLE = 32  # pixels of which every size of an image has to be a multiple
COMPATIBILITY = (
    'JAX promises that jax.export.deserialize runs this program with a jaxlib built up to 6 months '
    'after the one in "versions", and up to 3 weeks before it. Keep the work directory or the '
    'weights for longer.'
)


def write(
    network: Network,
    folder: pathlib.Path,
    *,
    any_size: bool = False,
    separate_weights: bool = False,
) -> None:
    """Writes the program, and with `separate_weights` the weights beside it, into `folder`.

    The program takes uint8 images [batch, size, size, 3], or clips [batch, frames, size, size, 3],
    of any batch, and of any height and width that are multiples of 32 if `any_size`; before them
    {path: array} with `separate_weights`. It returns float32 logits [batch, classes].
    """
    weights = flax.traverse_util.flatten_dict(network.stored_variables, sep='/')
    sides = (network.image_size,) * 2
    if any_size:
        sides = (f'{MULTIPLE}*rows', f'{MULTIPLE}*columns')
    shape = ', '.join(map(str, ('batch', *network.clip, *sides, 3)))
    images = jax.ShapeDtypeStruct(export.symbolic_shape(shape), jnp.uint8)

    def logits(weights, images):
        variables = flax.traverse_util.unflatten_dict(weights, sep='/')
        return network.logits(variables, images)

    if separate_weights:
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), weights)
        program = export.export(jax.jit(logits), platforms=PLATFORMS)(shapes, images)
    else:
        alone = jax.jit(lambda images: logits(weights, images))
        program = export.export(alone, platforms=PLATFORMS)(images)
    (folder / PROGRAM_FILE).write_bytes(program.serialize())
    if separate_weights:
        arrays = {path: np.asarray(leaf) for path, leaf in weights.items()}
        # safetensors itself creates files that other users cannot read.
        (folder / WEIGHTS_FILE).write_bytes(safetensors.numpy.save(arrays))


def facts(network: Network, *, any_size: bool = False, separate_weights: bool = False) -> dict:
    """Returns the facts about this format for export.json."""
    side = f'{MULTIPLE} n' if any_size else network.image_size
    weights = f'the arrays of {WEIGHTS_FILE} by their names, ' if separate_weights else ''
    noun = 'clips' if network.clip else 'images'
    axes = ', '.join(map(str, ('batch', *network.clip, side, side, 3)))
    return {
        'platforms': list(PLATFORMS),
        'arguments': f'{weights}uint8 {noun} [{axes}], RGB of 0 to 255',
        'result': f'float32 logits [batch, {len(network.class_names)}]',
        'compatibility': COMPATIBILITY,
    }
