"""The conversion of a jaxpr to ONNX nodes (onnx.py)."""

import dataclasses

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from jax import export

from resnet_rs.utils.errors import UserError

CHANNELS_FIRST, CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
# Primitives that call a jaxpr, and their parameter with it.
CALLS = {
    'jit': 'jaxpr',
    'pjit': 'jaxpr',
    'closed_call': 'call_jaxpr',
    'custom_jvp_call': 'call_jaxpr',
    'custom_vjp_call': 'call_jaxpr',
    'remat2': 'jaxpr',
    'checkpoint': 'jaxpr',
}
ELEMENTWISE = {
    'add': 'Add',
    'add_any': 'Add',
    'sub': 'Sub',
    'mul': 'Mul',
    'div': 'Div',
    'max': 'Max',
    'exp': 'Exp',
    'log': 'Log',
    'neg': 'Neg',
    'sqrt': 'Sqrt',
    'tanh': 'Tanh',
    'logistic': 'Sigmoid',
}
UNCHANGED = {'name', 'copy', 'copy_p', 'stop_gradient', 'reduce_precision', 'optimization_barrier'}
# What numpy computes without a compilation; other constants are computed by JAX.
NUMPY = {
    'add': np.add,
    'sub': np.subtract,
    'mul': np.multiply,
    'div': np.divide,
    'max': np.maximum,
    'rsqrt': lambda x: 1 / np.sqrt(x),
}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array that depends on the images.

    name: the name of the node's output that computes it.
    shape: its shape, with a symbolic batch; channels last even where the graph has them first.
    convolution: (input, attributes, kernel, bias) if it is a convolution with constant weights.
    """

    name: str
    shape: tuple
    convolution: tuple | None = None


Value = Tensor | np.ndarray  # constants have an axis of length 1 in place of the batch


class Graph:
    """The nodes and constants of an ONNX graph under construction."""

    def __init__(self):
        self._nodes = []
        self._constants = {}

    def node(self, operator: str, inputs: list[str], output: str = '', **attributes) -> str:
        """Adds a node; returns the name of its output."""
        output = output or f'{operator}_{len(self._nodes)}'
        node = onnx.helper.make_node(operator, inputs, [output], name=output, **attributes)
        self._nodes.append(node)
        return output

    def constant(self, array: np.ndarray) -> str:
        """Adds a constant; returns its name."""
        name = f'constant_{len(self._constants)}'
        self._constants[name] = np.ascontiguousarray(array)
        return name

    def name(self, value: Value) -> str:
        """Returns the name of a value in the graph; constants are added."""
        if isinstance(value, Tensor):
            return value.name
        return self.constant(value.transpose(CHANNELS_FIRST) if value.ndim == 4 else value)

    def used_nodes(self, output: str) -> list[onnx.NodeProto]:
        """Returns the nodes that `output` depends on, in order."""
        needed, used = {output}, []
        for node in reversed(self._nodes):
            if node.output[0] in needed:
                needed.update(node.input)
                used.append(node)
        return used[::-1]

    def used_constants(self, output: str) -> list[onnx.TensorProto]:
        """Returns the constants that `output` depends on."""
        needed = {name for node in self.used_nodes(output) for name in node.input}
        return [
            onnx.numpy_helper.from_array(array, name)
            for name, array in self._constants.items()
            if name in needed
        ]

    def convert(self, jaxpr, constants, arguments) -> list[Value]:
        """Adds the equations of a jaxpr; returns its results.

        Raises UserError for a primitive that has no conversion.
        """
        values = dict(zip(jaxpr.constvars, map(np.asarray, constants), strict=True))
        values |= zip(jaxpr.invars, arguments, strict=True)

        def value_of(variable):
            if hasattr(variable, 'val'):  # a literal
                return np.asarray(variable.val, variable.aval.dtype)
            return values[variable]

        for equation in jaxpr.eqns:
            results = self._results(equation, [value_of(each) for each in equation.invars])
            values |= zip(equation.outvars, results, strict=True)
        return [value_of(variable) for variable in jaxpr.outvars]

    def _results(self, equation, inputs) -> list[Value]:
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            called = params[CALLS[name]]
            jaxpr = getattr(called, 'jaxpr', called)
            return self.convert(jaxpr, getattr(called, 'consts', ()), inputs)
        if name == 'platform_index':  # resnet_rs.models.convolution: not the form of one platform
            return [np.asarray(params['platforms'].index(None))]
        if name == 'cond':
            branch = params['branches'][int(inputs[0])]
            return self.convert(branch.jaxpr, branch.consts, inputs[1:])
        if name in UNCHANGED:
            return inputs
        shapes = [variable.aval.shape for variable in equation.outvars]
        if not any(isinstance(value, Tensor) for value in inputs):
            return _computed(equation, inputs)
        if name == 'split':
            return self._split(inputs[0], shapes, params['axis'])
        if name in ELEMENTWISE:
            return [self._elementwise(name, inputs, shapes[0])]
        convert = getattr(self, f'_{name}', None)
        if convert is None:
            raise UserError(
                f'the ONNX writer has no conversion of the operation {name!r}, which this network '
                'needs; export it with --format=stablehlo or saved_model'
            )
        return [convert(*inputs, **params | {'shape': shapes[0]})]

    def _elementwise(self, name, inputs, shape) -> Tensor:
        if name in ('mul', 'add'):
            for x, y in (inputs, inputs[::-1]):
                if isinstance(x, Tensor) and x.convolution and _is_of_channels(y, x):
                    return self._folded(name, x, y)
        if name == 'max' and isinstance(inputs[1], np.ndarray) and not inputs[1].any():
            return Tensor(self.node('Relu', [inputs[0].name]), shape)
        return Tensor(self.node(ELEMENTWISE[name], [*map(self.name, inputs)]), shape)

    def _folded(self, name, x: Tensor, of_channels: np.ndarray) -> Tensor:
        image, attributes, kernel, bias = x.convolution
        vector = np.broadcast_to(of_channels.reshape(-1), bias.shape)
        if name == 'mul':
            kernel, bias = kernel * vector[:, None, None, None], bias * vector
        else:
            bias = bias + vector
        return self._convolution(image, attributes, kernel, bias, x.shape)

    def _convolution(self, image: str, attributes, kernel, bias, shape) -> Tensor:
        weights = [self.constant(kernel), self.constant(bias)]
        name = self.node('Conv', [image, *weights], **attributes)
        return Tensor(name, shape, (image, attributes, kernel, bias))

    def _conv_general_dilated(self, x, kernel, *, shape, window_strides, padding, **params):
        numbers = params['dimension_numbers']
        expected = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
        if tuple(map(tuple, numbers)) != expected or {*params['lhs_dilation']} != {1}:
            raise UserError('the ONNX writer takes convolutions of images with their channels last')
        attributes = {
            'strides': list(window_strides),
            'pads': [int(before) for before, _ in padding] + [int(after) for _, after in padding],
            'dilations': list(params['rhs_dilation']),
            'group': params['feature_group_count'],
        }
        kernel = np.asarray(kernel).transpose(3, 2, 0, 1)
        bias = np.zeros(kernel.shape[0], kernel.dtype)
        return self._convolution(x.name, attributes, kernel, bias, shape)

    def _dot_general(self, x, y, *, shape, dimension_numbers, **_):
        if dimension_numbers == (((1,), (0,)), ((), ())) and len(x.shape) == 2:
            return Tensor(self.node('MatMul', [self.name(x), self.name(y)]), shape)
        contracted, batches = dimension_numbers
        left = list('abcdefgh'[: len(x.shape)])
        right = list('ijklmnop'[: len(y.shape)])
        for of_x, of_y in (*zip(*contracted, strict=True), *zip(*batches, strict=True)):
            right[of_y] = left[of_x]
        result = [left[axis] for axis in batches[0]]
        result += [
            name for axis, name in enumerate(left) if axis not in (*contracted[0], *batches[0])
        ]
        result += [name for name in right if name not in left]
        equation = f'{"".join(left)},{"".join(right)}->{"".join(result)}'
        names = [self._natural(value) for value in (x, y)]
        return self._stored(self.node('Einsum', names, equation=equation), shape)

    def _pool(self, operator, x, params, shape, **attributes):
        window, strides = params['window_dimensions'], params['window_strides']
        padding = params['padding']
        return Tensor(
            self.node(
                operator,
                [x.name],
                kernel_shape=list(window[1:3]),
                strides=list(strides[1:3]),
                pads=[int(pair[side]) for side in (0, 1) for pair in padding[1:3]],
                **attributes,
            ),
            shape,
        )

    def _reduce_window_max(self, x, *, shape, **params):
        return self._pool('MaxPool', x, params, shape)

    def _reduce_window_sum(self, x, *, shape, **params):
        mean = self._pool('AveragePool', x, params, shape, count_include_pad=1)
        size = np.float32(np.prod(params['window_dimensions']))
        return Tensor(self.node('Mul', [mean.name, self.constant(size)]), shape)

    def _reduce_sum(self, x, *, shape, axes, **_):
        name, places = self._reducible(x, axes)
        places = self.constant(np.array(places, np.int64))
        return self._stored(self.node('ReduceSum', [name, places], keepdims=0), shape)

    def _reduce_max(self, x, *, shape, axes, **_):
        name, places = self._reducible(x, axes)
        return self._stored(self.node('ReduceMax', [name], axes=places, keepdims=0), shape)

    def _reducible(self, x, axes):
        """Returns the name of an array to reduce and the axes to reduce there."""
        if len(x.shape) == 4 and tuple(axes) == (1, 2):
            return x.name, [2, 3]
        return self._natural(x), list(axes)

    def _reshape(self, x, *, shape, **_):
        if len(shape) == 4 and len(x.shape) == 2 and shape[1] == shape[2] == 1:
            target = [_length(size) for size in (shape[0], shape[3], 1, 1)]
            return Tensor(self.node('Reshape', [x.name, self._lengths(target)]), shape)
        target = self._lengths([_length(size) for size in shape])
        return self._stored(self.node('Reshape', [self._natural(x), target]), shape)

    def _squeeze(self, x, *, shape, **_):
        return self._reshape(x, shape=shape)

    def _expand_dims(self, x, *, shape, **_):
        return self._reshape(x, shape=shape)

    def _broadcast_in_dim(self, x, *, shape, broadcast_dimensions, **_):
        axes = dict(zip(broadcast_dimensions, x.shape, strict=True))
        x = self._reshape(x, shape=tuple(axes.get(axis, 1) for axis in range(len(shape))))
        if x.shape == tuple(shape):
            return x
        lengths = [size if isinstance(size, int) else 1 for size in shape]
        if len(shape) == 4:
            lengths = [lengths[axis] for axis in CHANNELS_FIRST]
        return Tensor(self.node('Expand', [x.name, self._lengths(lengths)]), shape)

    def _transpose(self, x, *, shape, permutation, **_):
        name = self.node('Transpose', [self._natural(x)], perm=list(permutation))
        return self._stored(name, shape)

    def _convert_element_type(self, x, *, shape, new_dtype, **_):
        if new_dtype != np.float32:
            raise UserError(f'the ONNX writer takes float32 activations, not {new_dtype}')
        return x

    def _integer_pow(self, x, *, shape, y, **_):
        return Tensor(self.node('Pow', [x.name, self.constant(np.float32(y))]), shape)

    def _square(self, x, *, shape, **_):
        return Tensor(self.node('Mul', [x.name, x.name]), shape)

    def _rsqrt(self, x, *, shape, **_):
        return Tensor(self.node('Reciprocal', [self.node('Sqrt', [x.name])]), shape)

    def _concatenate(self, *inputs, shape, dimension, **_):
        names = [self.name(value) for value in inputs]
        return Tensor(self.node('Concat', names, axis=_axis(dimension, shape)), shape)

    def _slice(self, x, *, shape, start_indices, limit_indices, strides, **_):
        steps = strides or (1,) * len(shape)
        name = x.name
        for axis, (start, end, step) in enumerate(
            zip(start_indices, limit_indices, steps, strict=True)
        ):
            if start == 0 and end == x.shape[axis] and step == 1:
                continue
            ends = [[start], [end], [_axis(axis, shape)], [step]]
            name = self.node('Slice', [name, *map(self._lengths, ends)])
        return Tensor(name, shape)

    def _split(self, x, shapes, axis):
        start, parts = 0, []
        for shape in shapes:
            starts, ends = [0] * len(shape), list(x.shape)
            starts[axis], ends[axis] = start, start + shape[axis]
            parts.append(
                self._slice(x, shape=shape, start_indices=starts, limit_indices=ends, strides=None)
            )
            start += shape[axis]
        return parts

    def _lengths(self, lengths) -> str:
        return self.constant(np.array(lengths, np.int64))

    def _natural(self, x: Value) -> str:
        """Returns the name of the array with its axes as in the jaxpr."""
        if isinstance(x, np.ndarray):
            return self.constant(x)
        if len(x.shape) != 4:
            return x.name
        return self.node('Transpose', [x.name], perm=CHANNELS_LAST)

    def _stored(self, name: str, shape) -> Tensor:
        """Returns the tensor of an array whose axes are those of the jaxpr."""
        if len(shape) == 4:
            name = self.node('Transpose', [name], perm=CHANNELS_FIRST)
        return Tensor(name, shape)


def _axis(axis: int, shape) -> int:
    return CHANNELS_FIRST.index(axis) if len(shape) == 4 else axis


def _length(size) -> int:
    return size if isinstance(size, int) else -1


def _is_of_channels(y: Value, x: Tensor) -> bool:
    return (
        isinstance(y, np.ndarray)
        and y.size in (1, x.shape[-1])
        and (y.ndim == 0 or y.shape[-1] == y.size)
    )


def _without_batch(value):
    """Returns a parameter of a primitive with 1 in place of symbolic lengths."""
    if isinstance(value, tuple):
        return tuple(map(_without_batch, value))
    return 1 if export.is_symbolic_dim(value) else value


def _computed(equation, inputs) -> list[np.ndarray]:
    name = equation.primitive.name
    if name in NUMPY:
        return [np.asarray(NUMPY[name](*inputs), equation.outvars[0].aval.dtype)]
    params = {key: _without_batch(value) for key, value in equation.params.items()}
    if name == 'broadcast_in_dim':
        shape = params['shape']
        axes = dict(zip(params['broadcast_dimensions'], inputs[0].shape, strict=True))
        x = inputs[0].reshape([axes.get(axis, 1) for axis in range(len(shape))])
        return [np.broadcast_to(x, shape)]
    results = equation.primitive.bind(*inputs, **params)
    return [
        np.asarray(result)
        for result in (results if equation.primitive.multiple_results else [results])
    ]
