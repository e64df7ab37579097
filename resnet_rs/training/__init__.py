"""The training step and its parts: state, optimizer, mixing, sharding, evaluation, transfer."""

WEIGHTS = ('raw', 'ema')  # the two sets of a run: as the optimizer leaves them, and their average
