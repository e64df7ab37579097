"""The life of one work directory: checks, lock, checkpoints, logs, progress, signals, report."""
