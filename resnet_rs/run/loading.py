"""Loading of a trained network for use in Python (docs/library.md)."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

import jax
import ml_collections
import numpy as np

from resnet_rs.config import SETTINGS, eval_image_size
from resnet_rs.datasets.clip_preprocessing import (
    ClipPreprocessing,
    Videos,
    clip_preprocessing_of,
)
from resnet_rs.models.resnet import ResNet
from resnet_rs.run.class_names import class_names
from resnet_rs.run.workdir import load_workdir
from resnet_rs.training.networks import logits_of, normalise
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.platforms import keep_devices_from_tensorflow, skip_absent_tpu
from resnet_rs.utils.rules import crop_fraction

Images = np.ndarray | jax.Array | str | os.PathLike | Sequence[np.ndarray | str | os.PathLike]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of evaluation: crop, resize, normalise.

    image_size: side of the network's input in pixels.
    crop: 'padding 32', 'fraction 0.875' or 'squash' (config.data.eval_crop).
    kernel: the interpolation, such as 'bicubic_tf1' (config.data.resize).
    mean, deviation: those of red, green and blue, for pixels of 0 to 255.
    """

    image_size: int
    crop: str
    kernel: str
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def __call__(self, images: Images) -> jax.Array:
        """Returns the network's input, float32 [batch, image_size, image_size, 3].

        `images` are those that `crop_images` takes.
        """
        return normalise(jax.numpy.asarray(self.crop_images(images)), self._settings())

    def crop_images(self, images: Images) -> np.ndarray:
        """Returns the pixels before normalisation, uint8 [batch, image_size, image_size, 3].

        Args:
          images: uint8 [batch, height, width, 3] of any height and width; or a sequence of names of
            image files and of uint8 [height, width, 3]; or one name.

        Raises UserError for other arrays and for files that are not images.
        """
        import tensorflow as tf  # takes seconds

        from resnet_rs.datasets.image_file import read_image
        from resnet_rs.datasets.images import RESIZE, center_box, evaluation_transform, to_uint8

        keep_devices_from_tensorflow()
        if isinstance(images, str | os.PathLike):
            images = [images]
        if hasattr(images, 'ndim') and images.ndim != 4:
            raise UserError(_wrong(images))
        if not len(images):
            raise UserError('there are no images; preprocessing takes one or more')
        decode = evaluation_transform(self._settings().data, self.image_size)
        fraction = crop_fraction(self.crop, self.image_size)

        def pixels_of(image):
            if isinstance(image, str | os.PathLike):
                return read_image(pathlib.Path(image), decode)
            image = np.asarray(image)
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
                raise UserError(_wrong(images if hasattr(images, 'ndim') else image))
            y, x, height, width = center_box(tf.shape(image), fraction).numpy()
            crop = tf.constant(image[y : y + height, x : x + width])
            return to_uint8(RESIZE[self.kernel](crop, self.image_size), rounded=True).numpy()

        return np.stack([pixels_of(image) for image in images])

    def _settings(self) -> ml_collections.ConfigDict:
        return ml_collections.ConfigDict(
            {
                'data': {
                    'eval_crop': self.crop,
                    'resize': self.kernel,
                    'mean_rgb': self.mean,
                    'std_rgb': self.deviation,
                }
            }
        )


def _wrong(array) -> str:
    return (
        f'an array of images is {array.dtype}{list(array.shape)}; preprocessing takes uint8 '
        '[batch, height, width, 3] with values of 0 to 255, or names of image files'
    )


@dataclasses.dataclass(frozen=True)
class LoadedNetwork:
    """A trained network with its preprocessing and the names of its classes.

    network: a flax.linen module, called as network.apply(variables, images, train=False).
    variables: {'params', 'batch_stats'}, float32, on the first device.
    preprocessing: converts images or files to the network's input.
    class_names: the name of each column of the logits.

    A call with images or names of files (see Preprocessing.crop_images) returns float32 logits
    [batch, classes].
    """

    network: ResNet
    variables: dict = dataclasses.field(repr=False)  # an interpreter would print every weight
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def __call__(self, images: Images) -> jax.Array:
        return self._apply(self.variables, self.preprocessing(images))

    @functools.cached_property
    def _apply(self):
        return jax.jit(lambda variables, images: self.network.apply(variables, images, False))


@dataclasses.dataclass(frozen=True)
class LoadedClipNetwork:
    """A trained network for clips with its preprocessing and the names of its classes.

    network: a flax.linen module, called as network.apply(variables, clips, train=False).
    variables: {'params', 'batch_stats'}, float32, on the first device.
    preprocessing: converts videos to views, pixels of 0 to 255.
    class_names: the name of each column of the logits.

    A call with videos (see ClipPreprocessing.views) returns float32 logits [videos, classes]; with
    several views they are the logarithms of the probabilities averaged over the views.
    """

    network: ResNet
    variables: dict = dataclasses.field(repr=False)
    preprocessing: ClipPreprocessing
    class_names: tuple[str, ...]

    def __call__(self, videos: Videos) -> jax.Array:
        return self._apply(self.variables, self.preprocessing.views(videos))

    @functools.cached_property
    def _apply(self):
        settings = self.preprocessing.settings()
        return jax.jit(lambda variables, views: logits_of(self.network, variables, views, settings))


def load(
    workdir: str | os.PathLike,
    weights: str = 'ema',
    checkpoint: str | int = 'last',
    *,
    image_size: int | None = None,
    dtype: str = 'float32',
) -> LoadedNetwork | LoadedClipNetwork:
    """Loads the network of a work directory, from a run or from converted weights, or of the Hub.

    It is a LoadedClipNetwork for a network for clips.

    Args:
      workdir: the directory, or 'hf:OWNER/NAME' or 'hf:OWNER/NAME@REVISION' for a repository of
        timm on the Hugging Face Hub.
      weights: 'ema' (averaged over the run) or 'raw'.
      checkpoint: 'last', 'best' (by EMA top-1) or a step.
      image_size: pixels; None for the run's resolution of evaluation.
      dtype: dtype of the activations, 'float32' or 'bfloat16'; the logits are always float32.

    If libtpu is installed and no TPU is attached, the function restricts JAX to the CPU
    (JAX_PLATFORMS=cpu, for this process and its children), because libtpu would print errors. A
    JAX_PLATFORMS of your own takes precedence.

    Raises UserError for a directory without such a checkpoint, and for a repository that cannot be
    downloaded or whose network this project does not have.
    """
    SETTINGS['eval.image_size'].rule.check('image_size', image_size or 0)
    skip_absent_tpu()
    config, network, variables = load_workdir(workdir, weights, str(checkpoint), dtype=dtype)
    names = tuple(class_names(workdir, config.model.num_classes))
    if config.data.frames > 1:
        preprocessing = clip_preprocessing_of(config, image_size)
        return LoadedClipNetwork(network, variables, preprocessing, names)
    preprocessing = preprocessing_of(config, image_size or eval_image_size(config))
    return LoadedNetwork(network, variables, preprocessing, names)


def preprocessing_of(config: ml_collections.ConfigDict, image_size: int) -> Preprocessing:
    """Returns the preprocessing of evaluation of a run's configuration, at `image_size` pixels."""
    return Preprocessing(
        image_size=image_size,
        crop=config.data.eval_crop,
        kernel=config.data.resize,
        mean=tuple(config.data.mean_rgb),
        deviation=tuple(config.data.std_rgb),
    )
