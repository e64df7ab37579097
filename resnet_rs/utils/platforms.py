"""The choice of JAX's platform, and TensorFlow next to JAX."""

import glob
import importlib.metadata
import importlib.util
import os
import sys

ERRORS, FATAL_ERRORS = '2', '3'  # values of TF_CPP_MIN_LOG_LEVEL
DECIDING = {'JAX_PLATFORMS', 'TPU_NAME', 'TPU_WORKER_HOSTNAMES', 'TPU_WORKER_ID'}


def skip_absent_tpu() -> None:
    """Restricts JAX to the CPU if no accelerator is attached; call it before JAX is used.

    libtpu may be installed only to plan for a TPU (docs/plan.md). JAX would then load it in every
    command, and libtpu would print on stderr that the machine is no TPU VM. The function changes
    nothing if one of DECIDING is set, a TPU is attached, or another plugin of JAX is installed.
    """
    decided = DECIDING & os.environ.keys()
    attached = glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*')
    others = importlib.metadata.entry_points(group='jax_plugins')
    installed = importlib.util.find_spec('libtpu')
    if installed and not (decided or attached or others):
        use_cpu()


def use_cpu() -> None:
    """Restricts JAX to the CPU; call it before JAX is used."""
    os.environ['JAX_PLATFORMS'] = 'cpu'
    if 'jax' in sys.modules:  # JAX read the environment when it was imported
        sys.modules['jax'].config.update('jax_platforms', 'cpu')


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow so that its native code prints fatal errors only.

    Otherwise it would print a line for each damaged image, in addition to the Python error that
    names the image. JAX is imported first, because its native code reads the same variable, once,
    and keeps its messages. A user's own value of TF_CPP_MIN_LOG_LEVEL stays.
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
    """Hides the accelerators from TensorFlow, which would take their whole memory."""
    import tensorflow as tf  # takes seconds

    for kind in ('GPU', 'TPU'):
        tf.config.set_visible_devices([], kind)
