"""The network of a configuration: built from its settings, with its variables and its input."""

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Sharding

from resnet_rs.config import SETTINGS
from resnet_rs.models import create_model, init_variables, settings_of
from resnet_rs.models.resnet import ResNet
from resnet_rs.training.sharding import shapes_on


def model_of(config: ml_collections.ConfigDict, **overrides) -> ResNet:
    """Returns the network of `config.model`.

    A setting that the network's family does not have must have its default.
    """
    settings = config.model.to_dict()
    name = settings.pop('name')
    known = settings_of(name)
    settings = {
        key: value
        for key, value in settings.items()
        if key in known or value != SETTINGS[f'model.{key}'].default
    }
    return create_model(name, **settings | overrides)


def variable_shapes(model: ResNet, sharding: Sharding) -> dict:
    """Returns the shapes, dtypes and shardings to which the variables in a checkpoint are restored.

    Images of any size have the same variables.
    """
    return shapes_on(jax.eval_shape(lambda: init_variables(model, 64)), sharding)


def normalise(images: jax.Array, config: ml_collections.ConfigDict) -> jax.Array:
    """Subtracts the mean of config.data from uint8 images [..., 3] and divides by the deviation.

    The result is float32, or float64 with jax_enable_x64, which the parity tests set.
    """
    mean, std = (jnp.asarray(config.data[name], float) for name in ('mean_rgb', 'std_rgb'))
    return (images.astype(float) - mean) / std


def logits_of(
    model: ResNet, variables: dict, pixels: jax.Array, config: ml_collections.ConfigDict
) -> jax.Array:
    """Returns the logits of evaluation of uint8 images or clips, [batch, classes].

    With an axis of views after that of the batch, they are the logarithms of the probabilities
    averaged over the views, which the network sees one after another.
    """

    def of_view(view):
        return model.apply(variables, normalise(view, config), False)

    if pixels.ndim == getattr(model.architecture, 'axes', 2) + 2:
        return of_view(pixels)
    if pixels.shape[1] == 1:
        return of_view(pixels[:, 0])
    views = jax.lax.map(lambda view: jax.nn.log_softmax(of_view(view)), pixels.swapaxes(0, 1))
    return jax.nn.logsumexp(views, axis=0) - jnp.log(float(pixels.shape[1]))
