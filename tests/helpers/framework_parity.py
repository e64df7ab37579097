"""The parts that tests against other frameworks share; requirements-parity.txt installs those."""

import importlib.util
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_rs.run.workdir import load_workdir


def require(*modules: str) -> None:
    """Skips the calling module, with a warning in the summary, unless all `modules` are there."""
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        reason = (
            f'NOT TESTED against {", ".join(modules)}: {", ".join(missing)} not installed '
            '(requirements-parity.txt)'
        )
        warnings.warn(reason, stacklevel=2)
        pytest.skip(reason, allow_module_level=True)


def our_logits(workdir, images: np.ndarray, *, compiled: bool = True) -> np.ndarray:
    """Logits of NHWC images by the network in `workdir`, computed in the dtype of the images.

    Uncompiled, the layers of a deep network that are alike are compiled once.
    """
    with jax.enable_x64(images.dtype == np.float64):
        dtype = str(images.dtype)
        _, model, variables = load_workdir(workdir, 'ema', dtype=dtype, param_dtype=dtype)
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
        apply = jax.jit(model.apply, static_argnums=2) if compiled else model.apply
        return np.asarray(apply(variables, jnp.asarray(images), False))


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference over the spread of the reference."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return float(np.abs(ours - theirs).max() / theirs.std())


def random_variable(name: str, shape, rng: np.random.Generator) -> np.ndarray | None:
    """Values for a norm's variables and biases that hide no mistake; None for a kernel.

    Scales are small, as trained ones are: with scales around one the activations of a random
    network of 100 layers grow so that float32 itself is off by a hundredth.
    """
    if name.endswith(('moving_variance', 'running_var')):
        return rng.uniform(0.5, 1.5, shape)
    if name.endswith(('gamma', 'weight')) and len(shape) == 1:
        return rng.uniform(0.3, 0.7, shape)
    if name.endswith(('moving_mean', 'running_mean', 'beta', 'bias')):
        return rng.normal(0, 0.1, shape)
    return None
