"""Parameters and multiply-adds of a network, counted in its traced program, not by a formula."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from resnet_rs.models.registry import count_parameters, input_shape
from resnet_rs.models.resnet import ResNet


@dataclasses.dataclass(frozen=True)
class Cost:
    """The size of a network and its cost for one image."""

    parameters: int  # trainable scalars
    statistics: int  # scalars of running batch statistics
    # Multiply-adds of convolutions and dense layers for one image or clip, which timm and most
    # papers call "FLOPs"; the ResNet-RS paper prints twice this number.
    multiply_adds: int


def count_cost(model: ResNet, image_size: int, frames: int = 0) -> Cost:
    """Traces the network on shapes for one image of `image_size` pixels, or a clip of `frames`.

    It computes nothing.
    """
    images = jnp.zeros(input_shape(model, image_size, frames), model.architecture.dtype)
    program, shapes = jax.make_jaxpr(
        lambda: model.init(jax.random.key(0), images, train=False), return_shape=True
    )()
    return Cost(
        count_parameters(shapes['params']),
        count_parameters(shapes['batch_stats']),
        _multiply_adds(program.jaxpr),
    )


def _multiply_adds(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        outputs = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if equation.primitive.name == 'conv_general_dilated':
            kernel = equation.invars[1].aval.shape
            out_features = equation.params['dimension_numbers'].rhs_spec[0]
            total += outputs * math.prod(kernel) // kernel[out_features]
        elif equation.primitive.name == 'dot_general':
            (contracted, _), _ = equation.params['dimension_numbers']
            total += outputs * math.prod(equation.invars[0].aval.shape[a] for a in contracted)
        repeats = equation.params['length'] if equation.primitive.name == 'scan' else 1
        inner = [_multiply_adds(inner) for inner in jax.core.jaxprs_in_params(equation.params)]
        # A conditional runs one of its branches: the forms of a convolution on each platform.
        total += max(inner) if equation.primitive.name == 'cond' else repeats * sum(inner)
    return total
