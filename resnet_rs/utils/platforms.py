"""The choice of JAX's platform, and TensorFlow next to JAX."""

import contextlib
import gc
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


def import_tensorflow() -> None:
    """Imports TensorFlow for a command: quietly, without Keras and without garbage collection.

    TensorFlow's native code then prints fatal errors only; otherwise it would print a line for each
    damaged image, in addition to the Python error that names the image. JAX is imported first,
    because its native code reads the same variable, once, and keeps its messages. A user's own
    value of TF_CPP_MIN_LOG_LEVEL stays.

    TensorFlow would import Keras, and with it scikit-learn and matplotlib, for 40 % of the time.
    When it is told to use tf_keras, which is not installed, it leaves that to the first use of
    tf.keras. The collector would search the million objects of these modules again and again.
    """
    import jax  # noqa: F401

    variables = {'TF_USE_LEGACY_KERAS': '1'}
    if os.environ.get('TF_CPP_MIN_LOG_LEVEL') == ERRORS:
        variables['TF_CPP_MIN_LOG_LEVEL'] = FATAL_ERRORS
    with _environment(variables):
        gc.disable()
        try:
            import tensorflow  # noqa: F401
        finally:
            gc.enable()
            gc.freeze()


@contextlib.contextmanager
def _environment(variables: dict[str, str]):
    """Sets environment variables and puts the former values back at the end."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def keep_devices_from_tensorflow() -> None:
    """Hides the accelerators from TensorFlow, which would take their whole memory."""
    import tensorflow as tf  # takes seconds

    for kind in ('GPU', 'TPU'):
        tf.config.set_visible_devices([], kind)
