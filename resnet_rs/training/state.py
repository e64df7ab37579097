"""The state of a run on the devices."""

import flax.struct
import jax


@flax.struct.dataclass
class TrainState:
    """The arrays that a training step reads and writes."""

    seed: jax.Array  # int32: of the step's random draws; an array, so that seeds share a program
    step: jax.Array  # int32: updates done
    variables: dict  # params and batch_stats, float32
    ema: dict  # their moving average, float32
    opt_state: tuple
    window: dict  # sums since the last logged step; see window.py
