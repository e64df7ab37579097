"""ResNet-RS in JAX: the parts that training, planning, conversion and prediction share.

Importing this package prepares the environment for TensorFlow, which reads it once, when it is
imported itself. So whatever uses TensorFlow imports this package first. JAX and TensorFlow are
imported when `resnet_rs.load` is first used.
"""

import os

# The kernels of oneDNN are on by default on many Intel CPUs, add in another order than TensorFlow's
# own, and print four lines at every start.
os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # errors only

__all__ = ['load']


def __getattr__(name: str):
    if name != 'load':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from resnet_rs.run import loading

    return loading.load
