"""The training step and its parts: state, optimizer, mixing, sharding, evaluation, transfer."""

WEIGHTS = ('raw', 'ema')  # the optimizer's weights, and their moving average
