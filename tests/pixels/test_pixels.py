"""The same pixels on every kind of CPU, whatever is asked of oneDNN, with one thread and with two.

Four processes compute the digests of digests.py. The first stands for an old CPU: XLA, glibc's
mathematics and libjpeg-turbo are configured to use no newer instructions. In the last, oneDNN
is really on, because TensorFlow is imported before this project.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
RECORDED = json.loads((HERE / 'digests.json').read_text())
COMMAND = [str(HERE / 'digests.py')]
TENSORFLOW_FIRST = [
    '-c',
    f'import tensorflow, runpy; runpy.run_path({COMMAND[0]!r}, run_name="__main__")',
]
ONEDNN_IS_ON = 'oneDNN custom operations are on'
OLD_CPU = {
    'XLA_FLAGS': '--xla_cpu_max_isa=SSE4_2 --xla_cpu_multi_thread_eigen=false',
    'GLIBC_TUNABLES': 'glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-AVX512F',
    'JSIMD_FORCESSE2': '1',
}
# name: (command, environment)
PROCESSES = {
    'SSE4.2, one thread, oneDNN asked for': (
        [*COMMAND, '--threads=1'],
        OLD_CPU | {'TF_ENABLE_ONEDNN_OPTS': '1'},
    ),
    'AVX2, two threads': (COMMAND, {'XLA_FLAGS': '--xla_cpu_max_isa=AVX2'}),
    'everything, two threads, oneDNN asked for': (COMMAND, {'TF_ENABLE_ONEDNN_OPTS': '1'}),
    'everything, one thread, oneDNN on': (
        [*TENSORFLOW_FIRST, '--threads=1'],
        {'TF_ENABLE_ONEDNN_OPTS': '1'},
    ),
}


@pytest.fixture(scope='module')
def results():
    """{process: (its answer, what it wrote to stderr)}."""
    basic = {name: os.environ[name] for name in ('HOME', 'PATH') if name in os.environ}
    started = {
        name: subprocess.Popen(
            [sys.executable, *command],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**basic, 'PYTHONPATH': str(ROOT), **environment},
        )
        for name, (command, environment) in PROCESSES.items()
    }
    ended = {}
    for name, process in started.items():
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors[-4000:]
        ended[name] = (json.loads(output), errors)
    return ended


@pytest.mark.parametrize('name', PROCESSES)
def test_pixels_are_the_recorded_ones(results, name):
    digests = results[name][0]['digests']
    different = [what for what, digest in RECORDED['digests'].items() if digests[what] != digest]
    assert digests.keys() == RECORDED['digests'].keys()
    assert not different, f'recorded with {RECORDED["machine"]}'


@pytest.mark.parametrize('name', PROCESSES)
def test_asking_for_onednn_prints_nothing_and_does_nothing(results, name):
    errors = results[name][1]
    if name.endswith('oneDNN on'):
        assert ONEDNN_IS_ON in errors  # the process shows what it is there for
    else:
        assert errors == ''


def test_the_limit_on_instructions_takes_effect(results):
    fuses = [answer['fuses'] for answer, _ in results.values()]
    has_fma = 'fma' in pathlib.Path('/proc/cpuinfo').read_text().split()
    assert fuses == [False, has_fma, has_fma, has_fma]
