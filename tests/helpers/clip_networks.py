"""A network for clips of one or two stages, for tests of what is around it."""

import jax
import numpy as np

from helpers import prepared
from resnet_rs.models import init_variables
from resnet_rs.models.resnet_3d_variants import CLIP_NETWORKS
from resnet_rs.training.networks import model_of

NAME = 'resnet_3d_rs_14'
ONE_STAGE = dict(stage_sizes=(1,), temporal_kernels=((3,),), temporal_strides=(1,))
TWO_STAGES = dict(stage_sizes=(1, 1), temporal_kernels=((1,), (3,)), temporal_strides=(1, 1))


def shorten(setitem, stages=ONE_STAGE) -> None:
    """Leaves some stages of NAME; `setitem` is that of a MonkeyPatch."""
    for name, value in stages.items():
        setitem(CLIP_NETWORKS[NAME], name, value)


def small_config(*, batch_size: int = 8, image_size: int = 16, classes: int = 2):
    """Clips of four frames, in float32."""
    config = prepared.small_config(batch_size=batch_size, image_size=image_size)
    config.model.update(name=NAME, num_classes=classes, width_multiplier=0.125)
    config.model.update(dtype='float32', padding='same')
    config.data.update(source='video_folder', frames=4, resize='bilinear')
    config.data.eval_crop = 'fraction 1'
    return config


def random_variables(config, seed: int = 0) -> tuple:
    """The network of `config`, and variables whose logits differ from class to class."""
    model = model_of(config, batch_norm_group_size=None, dtype='float32')
    random = np.random.default_rng(seed)
    variables = jax.tree.map(
        lambda leaf: leaf + 0.1 * np.abs(random.normal(size=leaf.shape)).astype(leaf.dtype),
        init_variables(model, 32),
    )
    return model, variables
