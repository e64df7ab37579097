"""Weights of a network for images as those of a network for clips.

A kernel over time is zero but for its middle frame, which has the weights of the kernel for images
(the central initialisation of ViViT, Arnab et al. 2021, section 3.4). Then a still clip has the
logits of its image, at every frame. I3D's form, the kernel for images over the length of that for
clips in every frame, has them only where no kernel reaches beyond the clip (Carreira and Zisserman
2017, section 2.4.1).
"""

import dataclasses

import flax.traverse_util
import jax
import jax.numpy as jnp

from resnet_rs.utils.errors import UserError, count_of

FIRST_KERNEL = 'params/stem/conv1/kernel'
NEW = '/self_gating/'
HEAD = 'params/head/'
# A max pool may replace the last convolution of the stem.
MAY_BE_LEFT_OUT = ('params/stem/', 'batch_stats/stem/')


@dataclasses.dataclass(frozen=True)
class Inflation:
    """The mapping from stored weights of a network for images to a network for clips.

    new: paths of variables that stay new.
    left_out: paths of stored variables without a place.
    """

    new: tuple[str, ...]
    left_out: tuple[str, ...]

    def describe(self) -> str:
        parts = ['kernels inflated over time']
        for paths, what in ((self.new, 'new'), (self.left_out, 'left out')):
            modules = sorted({path.split('/', 1)[1].rsplit('/', 1)[0] for path in paths})
            if modules:
                parts.append(f'{what}: {", ".join(modules)}')
        return '; '.join(parts)


def is_of_images(stored: dict, wanted: dict) -> bool:
    """Returns whether `stored` is of a network for images and `wanted` of one for clips."""
    axes = []
    for variables in (stored, wanted):
        kernel = flax.traverse_util.flatten_dict(variables, sep='/').get(FIRST_KERNEL)
        axes.append(0 if kernel is None else len(kernel.shape))
    return axes == [4, 5]


def plan_inflation(stored: dict, wanted: dict) -> Inflation:
    """Returns the mapping of the variables `stored` to `wanted`, trees with shapes.

    Raises UserError unless everything but gates, the last layers of the stem and the head has its
    place.
    """
    stored, wanted = (
        {
            path: tuple(leaf.shape)
            for path, leaf in flax.traverse_util.flatten_dict(variables, sep='/').items()
            if not path.startswith(HEAD)
        }
        for variables in (stored, wanted)
    )
    new = tuple(path for path in wanted if NEW in path)
    left_out = tuple(path for path in stored if path not in wanted)
    problems = [path for path in wanted if path not in stored and path not in new]
    problems += [path for path in left_out if not path.startswith(MAY_BE_LEFT_OUT)]
    problems += [
        path
        for path, shape in wanted.items()
        if path in stored and stored[path] not in (shape, shape[1:])
    ]
    if problems:
        raise UserError(
            'the network for clips cannot start from the network for images in init_from: '
            f'{count_of(len(problems), "variable")} {"has" if len(problems) == 1 else "have"} no '
            f'counterpart, the first {problems[0]}; use networks of the same depth, width and '
            'squeeze-excite, such as resnet_rs_50 and inflated_resnet_rs_50'
        )
    return Inflation(new, left_out)


def inflate(stored: dict, variables: dict, inflation: Inflation) -> dict:
    """Returns `variables`, arrays with a sharding, with the weights of `stored`; the head stays."""
    stored = flax.traverse_util.flatten_dict(stored, sep='/')
    flat = flax.traverse_util.flatten_dict(variables, sep='/')
    for path, leaf in flat.items():
        if path.startswith(HEAD) or path in inflation.new:
            continue
        array = stored[path]
        if array.shape != leaf.shape:
            array = jnp.zeros(leaf.shape, leaf.dtype).at[leaf.shape[0] // 2].set(array)
        flat[path] = jax.device_put(array, leaf.sharding)
    return flax.traverse_util.unflatten_dict(flat, sep='/')
