"""Sweeps: named configurations from a Python function, run one process each (docs/sweeps.md)."""
