"""The teacher of a distillation: a trained network that classifies the student's images."""

import dataclasses

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from resnet_rs.config import eval_image_size
from resnet_rs.hub.timm_repository import source_config
from resnet_rs.models import init_variables
from resnet_rs.training.networks import model_of

INTERPOLATION = 'cubic'  # Keys' kernel with a = -0.5, widened where it shrinks the image


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A network in evaluation mode, with the input that it was trained for.

    name: the network's name.
    network: a flax.linen module.
    image_size: side of its input in pixels.
    mean, deviation: those of red, green and blue that its input takes, for pixels of 0 to 255.
    student_mean, student_deviation: those that the student's images have.
    """

    name: str
    network: nn.Module
    image_size: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    student_mean: tuple[float, float, float]
    student_deviation: tuple[float, float, float]

    def shapes(self) -> dict:
        """Returns the shapes and dtypes of its variables, float32."""
        return jax.eval_shape(lambda: init_variables(self.network, 64))

    def logits(self, variables: dict, images: jax.Array) -> jax.Array:
        """Returns float32 logits [batch, classes], to which no gradient flows.

        `images` are the student's, [batch, size, size, 3]: augmented, normalised and mixed. Where
        both networks take the same input, the teacher gets this very array.
        """
        with jax.named_scope('teacher'):
            images = self._resized(self._normalised(images))
            return jax.lax.stop_gradient(self.network.apply(variables, images, False))

    def _normalised(self, images):
        if (self.mean, self.deviation) == (self.student_mean, self.student_deviation):
            return images
        scale = np.divide(self.student_deviation, self.deviation)
        shift = np.subtract(self.student_mean, self.mean) / self.deviation
        return images * scale.astype(images.dtype) + shift.astype(images.dtype)

    def _resized(self, images):
        if images.shape[1] == self.image_size:
            return images
        shape = (images.shape[0], self.image_size, self.image_size, images.shape[3])
        return jax.image.resize(images, shape, INTERPOLATION)


def create_teacher(config: ml_collections.ConfigDict) -> Teacher:
    """Returns the teacher of config.distillation; reads its configuration alone.

    Raises UserError where its directory or repository holds no network.
    """
    settings = config.distillation
    stored = source_config(settings.teacher)
    dtype = settings.dtype or stored.model.dtype
    return Teacher(
        name=stored.model.name,
        network=model_of(stored, batch_norm_group_size=None, scan_blocks=False, dtype=dtype),
        image_size=settings.image_size or eval_image_size(stored),
        mean=tuple(stored.data.mean_rgb),
        deviation=tuple(stored.data.std_rgb),
        student_mean=tuple(config.data.mean_rgb),
        student_deviation=tuple(config.data.std_rgb),
    )
