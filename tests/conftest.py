"""Eight virtual CPU devices for every test, and compiled programs shared between processes."""

import atexit
import os
import shutil
import tempfile

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'  # compiles in half the time
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='resnet_rs_programs_')
    atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)

from resnet_rs import compilation_cache  # noqa: E402

compilation_cache.enable()
