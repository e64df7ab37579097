"""Which of JAX's platforms a command should ask for."""

import glob
import importlib.metadata
import importlib.util
import os
import sys

ERRORS, FATAL_ERRORS = '2', '3'  # values of TF_CPP_MIN_LOG_LEVEL
DECIDING = {'JAX_PLATFORMS', 'TPU_NAME', 'TPU_WORKER_HOSTNAMES', 'TPU_WORKER_ID'}


def skip_absent_tpu() -> None:
    """Lets JAX use the CPU alone where there is nothing else; to be called before it is used.

    libtpu may be installed only to plan for a TPU (docs/plan.md). Left to itself, JAX then loads
    it in every command, and it complains on stderr that the machine is no TPU VM. Nothing is
    changed where one of DECIDING is set, a TPU is attached, or another plugin of JAX is installed.
    """
    decided = DECIDING & os.environ.keys()
    attached = glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*')
    others = importlib.metadata.entry_points(group='jax_plugins')
    installed = importlib.util.find_spec('libtpu')
    if installed and not (decided or attached or others):
        use_cpu()


def use_cpu() -> None:
    """Lets JAX use the CPU alone and leaves accelerators to others; call it before JAX is used."""
    os.environ['JAX_PLATFORMS'] = 'cpu'
    if 'jax' in sys.modules:  # has read the environment already
        sys.modules['jax'].config.update('jax_platforms', 'cpu')


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow so that its native code writes nothing to stderr unless it has to end.

    It would write a line of its own for each damaged image, beside the error of Python that names
    the image. JAX is imported before: its native code reads the same variable, once, and keeps its
    messages. Whoever sets TF_CPP_MIN_LOG_LEVEL to another value than resnet_rs's keeps it.
    """
    import jax  # noqa: F401

    level = os.environ.get('TF_CPP_MIN_LOG_LEVEL')
    if level != ERRORS:
        import tensorflow  # noqa: F401

        return
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = FATAL_ERRORS
    try:
        import tensorflow  # noqa: F401
    finally:
        os.environ['TF_CPP_MIN_LOG_LEVEL'] = level


def keep_devices_from_tensorflow() -> None:
    """Leaves accelerators to JAX, which needs them whole; TensorFlow only reads images here."""
    import tensorflow as tf  # takes seconds

    for kind in ('GPU', 'TPU'):
        tf.config.set_visible_devices([], kind)
