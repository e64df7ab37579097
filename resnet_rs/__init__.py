"""ResNet-RS in JAX: training, evaluation, planning, conversion and prediction.

Importing this package sets the environment variables that TensorFlow reads when it is imported, so
code that uses TensorFlow imports this package first. JAX and TensorFlow are imported when one of
the functions below is first used.
"""

import importlib
import os

# oneDNN's kernels are on by default on many Intel CPUs. They add in another order than TensorFlow's
# own kernels, so results would depend on the CPU, and they print four lines at every start.
os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # errors only

_MODULES = {
    'load': 'resnet_rs.run.loading',
    'create_model': 'resnet_rs.models',
    'init_variables': 'resnet_rs.models',
    'count_parameters': 'resnet_rs.models',
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_MODULES[name]), name)
