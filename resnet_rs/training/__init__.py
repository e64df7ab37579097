"""The training step and what it is made of: state, optimizer, mixing, sharding, evaluation."""
