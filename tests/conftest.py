"""Eight virtual CPU devices for every test, and compiled programs shared between processes."""

import atexit
import os
import shutil
import tempfile

from processes import xla_flags

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = xla_flags(devices=8)
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'  # compiles in half the time
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='resnet_rs_programs_')
    atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)

from resnet_rs.utils import compilation_cache  # noqa: E402

compilation_cache.enable()

LONGEST = (
    'test_imagenet_run.py',
    'test_processes.py',
    'test_train_lib.py',
    'test_sharding.py',
    'test_sweep.py',
    'test_mixing.py',
    'test_steps.py',
    'test_input_processes.py',
    'test_pixels.py',
)


def pytest_collection_modifyitems(items):
    """Whole runs first, so that no worker is left with them when the others have finished."""
    rank = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))
