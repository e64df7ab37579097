"""Sums over the steps between two lines of metrics, kept on the devices in TrainState.window.

They hold the first step that was not finite as well, so that no step has to wait for the host.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from resnet_rs.training.state import TrainState

NOT_YET = -1  # the value of `window['nonfinite_step']` in a healthy run
# What has to be finite, in the order of `window['nonfinite_norms']`; checkpoints hold that array.
WATCHED = ('loss', 'gradient_norm', 'parameter_norm', 'update_norm')


def empty_window(values: Sequence[str]) -> dict[str, jax.Array]:
    """Returns a window before its first step; `values` are those of the objective.

    It holds float32 sums over examples by name and their number, the int32 number of the first step
    that was not finite (NOT_YET), and its numbers, float32 [len(WATCHED)].
    """
    names = ('loss', *values, 'examples')
    return {name: jnp.zeros((), jnp.float32) for name in names} | {
        'nonfinite_step': jnp.full((), NOT_YET, jnp.int32),
        'nonfinite_norms': jnp.zeros(len(WATCHED), jnp.float32),
    }


def add_to_window(
    state: TrainState, sums: dict[str, jax.Array], norms: dict[str, jax.Array], log_every: int
) -> dict[str, jax.Array]:
    """Adds a step to the window of `state`, which is emptied after every `log_every` steps.

    `sums` are the sums over the step's examples, `norms` the WATCHED numbers other than the loss.
    The window keeps its dtypes even if those of the step are float64.
    """
    window = state.window
    starts = state.step % log_every == 0
    added = {name: jnp.where(starts, 0, window[name]) + sums[name] for name in sums}
    watched = norms | {'loss': sums['loss'] / jnp.maximum(sums['examples'], 1)}
    now = jnp.stack([watched[name] for name in WATCHED])
    is_first = (window['nonfinite_step'] == NOT_YET) & ~jnp.isfinite(now).all()
    changed = added | {
        'nonfinite_step': jnp.where(is_first, state.step + 1, window['nonfinite_step']),
        'nonfinite_norms': jnp.where(is_first, now, window['nonfinite_norms']),
    }
    return {name: value.astype(window[name].dtype) for name, value in changed.items()}


def first_nonfinite(window: dict) -> tuple[int, dict[str, float]] | None:
    """Returns the first step whose loss or norms were not finite, and its WATCHED numbers by name.

    `window` is on the host. Returns None where all were finite.
    """
    if window['nonfinite_step'] == NOT_YET:
        return None
    numbers = map(float, window['nonfinite_norms'])
    return int(window['nonfinite_step']), dict(zip(WATCHED, numbers, strict=True))


def window_means(
    window: dict[str, jax.Array], values: Sequence[str], counts: Mapping[str, str]
) -> dict[str, jax.Array]:
    """Returns the means of the loss and of `values` over the examples of a window.

    `counts` are those of the objective: {value: the value that counts its examples}.
    """
    divisors = {name: counts.get(name, 'examples') for name in ('loss', *values)}
    return {
        name: window[name]
        if name in counts.values()
        else window[name] / jnp.maximum(window[divisor], 1)
        for name, divisor in divisors.items()
    }
