"""ONNX: a network as a graph of ONNX operators, written from its jaxpr.

Whatever depends on the weights alone is computed while the graph is written, and a factor or an
offset of each channel after a convolution goes into its kernel and bias: this folds batch
normalisation. Arrays of four axes are [batch, channels, height, width] in the graph, the layout of
ONNX's convolution; the input and shapes in this module are [batch, height, width, channels].

Source: onnx/onnx, docs/Operators.md, opset 17.
"""

import pathlib

import jax
import jax.numpy as jnp
import onnx
import onnx.helper
import onnx.numpy_helper
from jax import export

from resnet_rs.export.jaxpr_graph import Graph, Tensor
from resnet_rs.export.network import Network

FILE = 'model.onnx'
OPSET = 17
IR_VERSION = 8  # of the ONNX release that introduced opset 17
COMPATIBILITY = f'Every runtime of ONNX that has opset {OPSET} (ONNX 1.12, June 2022).'


def write(network: Network, folder: pathlib.Path, *, precision: str) -> None:
    """Writes model.onnx into `folder`, in float32.

    It maps 'images', uint8 [batch, size, size, 3], to 'logits', float32 [batch, classes]. Raises
    UserError for a network with an operation that the writer does not know.
    """
    del precision
    side = network.image_size
    images = jax.ShapeDtypeStruct(export.symbolic_shape(f'batch, {side}, {side}, 3'), jnp.uint8)
    weights, tree = jax.tree.flatten(jax.device_get(network.variables))

    def logits(weights, images):
        return network.logits(jax.tree.unflatten(tree, weights), images)

    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in weights]
    program = jax.jit(logits).trace(shapes, images).jaxpr
    graph = Graph()
    cast = graph.node('Cast', ['images'], to=onnx.TensorProto.FLOAT)
    pixels = Tensor(graph.node('Transpose', [cast], perm=[0, 3, 1, 2]), images.shape)
    (result,) = graph.convert(program.jaxpr, program.consts, [*weights, pixels])
    graph.node('Identity', [graph.name(result)], output='logits')

    value = onnx.helper.make_tensor_value_info
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.used_nodes('logits'),
            network.config.model.name,
            [value('images', onnx.TensorProto.UINT8, ['batch', side, side, 3])],
            [value('logits', onnx.TensorProto.FLOAT, ['batch', len(network.class_names)])],
            graph.used_constants('logits'),
        ),
        opset_imports=[onnx.helper.make_opsetid('', OPSET)],
        producer_name='resnet_rs',
    )
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    (folder / FILE).write_bytes(model.SerializeToString())


def facts(network: Network, *, precision: str) -> dict:
    """Returns the facts about this format for export.json."""
    del precision
    side = network.image_size
    return {
        'arguments': f'images: uint8 [batch, {side}, {side}, 3], RGB of 0 to 255',
        'result': f'logits: float32 [batch, {len(network.class_names)}]',
        'compatibility': COMPATIBILITY,
    }
