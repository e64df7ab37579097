"""The hosts of a run: connecting them, barriers, consistency checks, and ending together."""
