"""The life of a work directory: checks, lock, checkpoints, logs, progress, signals, report."""
