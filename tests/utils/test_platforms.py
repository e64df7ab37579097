"""Tests of what JAX and TensorFlow read from the environment when they are imported."""

import glob
import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

from resnet_rs.utils.platforms import DECIDING, skip_absent_tpu

ROOT = pathlib.Path(__file__).parents[2]
COMMAND = """
import jax
from resnet_rs.utils.platforms import skip_absent_tpu
skip_absent_tpu()
print(jax.devices()[0].platform)
"""


QUIET = """
import os
from resnet_rs.utils import platforms
platforms.import_tensorflow()
import tensorflow as tf
try:
    tf.io.decode_jpeg(open('tests/pixels/photographs/flowers/dahlia.jpg', 'rb').read()[:2000])
except tf.errors.InvalidArgumentError:
    print(os.environ['TF_CPP_MIN_LOG_LEVEL'])
"""


def clean_environment():
    settings = ('TPU_', 'JAX_', 'XLA_', 'ALLOW_')
    return {name: value for name, value in os.environ.items() if not name.startswith(settings)}


def test_jax_finds_the_cpu_and_prints_nothing():
    if glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*'):
        pytest.skip('this machine has a TPU')
    done = subprocess.run(
        [sys.executable, '-c', COMMAND],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
        timeout=120,
    )
    assert done.stdout == 'cpu\n' and done.stderr == ''


def run_alone(program):
    """Runs a program in a process without settings of TensorFlow; returns (stdout, stderr)."""
    environment = clean_environment()
    environment.pop('TF_CPP_MIN_LOG_LEVEL', None)
    done = subprocess.run(
        [sys.executable, '-c', program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment,
        timeout=120,
    )
    return done.stdout, done.stderr


def test_tensorflow_prints_nothing_beside_the_error_that_it_raises():
    assert run_alone(QUIET) == ('2\n', '')


@pytest.mark.parametrize(
    'environment, devices, plugins, libtpu, expected',
    [
        ({}, [], [], True, 'cpu'),
        ({'TPU_SKIP_MDS_QUERY': '1'}, [], [], True, 'cpu'),
        ({}, [], [], False, None),
        ({}, ['/dev/accel0'], [], True, None),
        ({}, [], ['cuda'], True, None),
        ({'TPU_NAME': 'slice'}, [], [], True, None),
        ({'JAX_PLATFORMS': 'tpu'}, [], [], True, 'tpu'),
    ],
)
def test_when_the_cpu_is_asked_for(environment, devices, plugins, libtpu, expected, monkeypatch):
    for name in DECIDING:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(glob, 'glob', lambda pattern: devices)
    monkeypatch.setattr(importlib.metadata, 'entry_points', lambda group: plugins)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: libtpu or None)
    skip_absent_tpu()
    assert os.environ.get('JAX_PLATFORMS') == expected


def test_tools_leave_accelerators_alone_although_jax_was_imported_before():
    command = (
        'import jax\nfrom resnet_rs import results\n'
        'results.use_cpu()\nprint(jax.config.jax_platforms)'
    )
    done = subprocess.run(
        [sys.executable, '-c', command],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
        timeout=120,
    )
    assert done.stdout == 'cpu\n'


def test_files_outside_the_package_import_it_before_tensorflow():
    tensorflow = {'tensorflow', 'tensorflow_datasets', 'clu'}
    users = 0
    for path in [*ROOT.glob('*.py'), *ROOT.glob('benchmarks/*.py')]:
        names = re.findall(r'^ *(?:import|from) (\w+)', path.read_text(), re.MULTILINE)
        first = next((i for i, name in enumerate(names) if name in tensorflow), None)
        if first is not None:
            users += 1
            assert 'resnet_rs' in names[:first], path
    assert users >= 3


KERAS = """
import os, sys
from resnet_rs.utils import platforms
platforms.import_tensorflow()
import tensorflow as tf
print('keras' in sys.modules, 'matplotlib' in sys.modules, os.environ.get('TF_USE_LEGACY_KERAS'))
print(tf.keras.__version__[0])
"""


def test_keras_is_imported_when_it_is_used():
    assert run_alone(KERAS)[0] == 'False False None\n3\n'
