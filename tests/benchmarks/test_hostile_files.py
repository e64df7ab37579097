"""A short form of benchmarks/hostile_files.py: damaged files are read or refused by name."""

import pytest
from hostile.attempts import Attempts
from hostile.kinds import KINDS

MUTATIONS = 12
FEW = 3  # of those that start an input pipeline, a process or a checkpoint manager each time
SLOW = (
    'JPEG',
    'PNG',
    'WebP, GIF, BMP',
    'TFRecord',
    'array_record',
    '.h5',
    '.safetensors',
    'tf1 checkpoint',
    'model_garden checkpoint',
    'checkpoint',
)
MEMORY = 2**30  # bytes that one damaged file may take, as in the benchmark


@pytest.mark.parametrize('kind', KINDS)
def test_damaged_files_are_read_or_refused_by_name(kind, tmp_path):
    attempts = Attempts(KINDS[kind], tmp_path, seed=1)
    for number in range(FEW if kind in SLOW else MUTATIONS):
        attempts.damage(number)
        result = attempts.read()
        assert result['outcome'] in ('read', 'refused'), (number, result)
        assert result['memory'] < MEMORY, (number, result)
