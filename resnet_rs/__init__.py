"""ResNet-RS in JAX: the parts that training, planning, conversion and prediction share.

Importing this package prepares the environment for TensorFlow, which reads it once, when it is
imported itself. So whatever uses TensorFlow imports this package first. JAX and TensorFlow are
imported when one of the functions is first used.
"""

import importlib
import os

# The kernels of oneDNN are on by default on many Intel CPUs, add in another order than TensorFlow's
# own, and print four lines at every start.
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
