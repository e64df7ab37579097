"""A trained network in the form that all formats are written from."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from resnet_rs.config import eval_image_size
from resnet_rs.config.clips import clip_shape
from resnet_rs.hub.timm_repository import source_config
from resnet_rs.models.resnet import ResNet
from resnet_rs.run.class_names import class_names, stored_class_names
from resnet_rs.run.workdir import find_step, load_workdir
from resnet_rs.training.networks import normalise
from resnet_rs.training.sharding import create_mesh
from resnet_rs.training.steps import create_inference_step
from resnet_rs.utils.errors import UserError, count_of


@dataclasses.dataclass(frozen=True)
class Network:
    """The network of a work directory, as it is exported.

    config: the run's configuration, with the image size of evaluation as eval.image_size.
    model: the flax module, whose activations are `dtype`.
    variables: {'params', 'batch_stats'}.
    class_names: a readable name for each column of the logits.
    step: the checkpoint's step.
    weights: 'ema' or 'raw'.
    dtype: the dtype of the activations, 'float32' or 'bfloat16'.
    """

    config: ml_collections.ConfigDict
    model: ResNet
    variables: dict
    class_names: tuple[str, ...]
    step: int
    weights: str
    dtype: str

    @property
    def image_size(self) -> int:
        return self.config.eval.image_size

    @property
    def clip(self) -> tuple[int, ...]:
        """The axes of an example before height and width: (frames,) of a clip, () of an image."""
        return clip_shape(self.config, 'train')

    def logits(self, variables: dict, images: jax.Array) -> jax.Array:
        """Returns float32 logits [batch, classes] of uint8 images [batch, *clip, h, w, 3]."""
        return self.model.apply(variables, normalise(images, self.config), False)

    @functools.cached_property
    def stored_variables(self) -> dict:
        """`variables` as an exported file stores them.

        Networks with bfloat16 activations round the kernels of their convolutions to bfloat16, so
        the file stores these kernels rounded.
        """
        if self.dtype == 'float32':
            return self.variables
        return jax.tree.map(
            lambda leaf: leaf.astype(self.dtype) if leaf.ndim > 2 else leaf, self.variables
        )

    def evaluated(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        """Returns the float32 logits of the evaluation step with float32 activations.

        `images` are uint8 [number, *clip, image_size, image_size, 3].
        """
        config = self.config.copy_and_resolve_references().unlock()
        config.model.update({'dtype': 'float32', 'scan_blocks': False})
        step = create_inference_step(config, create_mesh(jax.local_devices()[:1]))
        parts = range(0, len(images), batch_size)
        return np.concatenate(
            [step(self.variables, jnp.asarray(images[at : at + batch_size])) for at in parts]
        )


def check_takes_images(workdir: pathlib.Path, what: str) -> None:
    """Raises UserError for a network for clips; `what` is made of networks for images alone."""
    config = source_config(workdir)
    if config.data.frames > 1:
        raise UserError(
            f'{config.model.name} takes clips of {config.data.frames} frames, and {what} is for '
            'networks for images; use resnet_rs.export with --format=stablehlo'
        )


def load_network(
    workdir: pathlib.Path,
    weights: str,
    checkpoint: str,
    *,
    image_size: int | None = None,
    dtype: str = 'float32',
) -> Network:
    """Loads a network for export.

    Args:
      workdir: the work directory of a run or of converted weights.
      weights: 'ema' or 'raw'.
      checkpoint: 'last', 'best' or a step.
      image_size: pixels; None for the resolution of the run's evaluation.
      dtype: the dtype of the activations, 'float32' or 'bfloat16'.

    Raises UserError for a directory without such a checkpoint or without names of the classes.
    """
    step = find_step(workdir, checkpoint)
    config, model, variables = load_workdir(workdir, weights, str(step), dtype=dtype)
    classes = config.model.num_classes
    if not stored_class_names(workdir, classes):
        raise UserError(
            f'the {count_of(classes, "class")} of {workdir} have no names; write them into '
            f'{workdir / "class_names.txt"}, one a line'
        )
    config = config.copy_and_resolve_references().unlock()
    config.eval.image_size = image_size or eval_image_size(config)
    names = tuple(class_names(workdir, classes))
    return Network(config, model, variables, names, step, weights, dtype)


@contextlib.contextmanager
def without_source_paths() -> Iterator[None]:
    """Keeps the paths of this machine's source files out of programs."""
    name = 'jax_traceback_in_locations_limit'
    before = jax.config.values[name]
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)
