"""The files that benchmarks/hostile_files.py damages, the damages, and the readers."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# First of all: a benchmark is called input_pipeline.py too.
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import resnet_rs  # noqa: E402, F401  prepares the environment for TensorFlow
