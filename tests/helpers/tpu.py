"""The parts that tests share which compile for a TPU."""

import importlib.metadata

import pytest

from configs import digits

LIBTPU = '0.0.42.1'  # the estimates are those of this version


def installed() -> str:
    try:
        return importlib.metadata.version('libtpu')
    except importlib.metadata.PackageNotFoundError:
        return 'not installed'


needs_libtpu = pytest.mark.skipif(
    installed() == 'not installed', reason='libtpu is not installed (requirements-dev.txt)'
)
needs_this_libtpu = pytest.mark.skipif(
    installed() != LIBTPU, reason=f'the budgets are those of libtpu {LIBTPU}, not {installed()}'
)


def prepare_environment(patch: pytest.MonkeyPatch) -> None:
    """Sets the variables with which libtpu compiles on a machine without a TPU."""
    for name, value in (
        ('TPU_SKIP_MDS_QUERY', '1'),
        ('ALLOW_MULTIPLE_LIBTPU_LOAD', '1'),
        ('TPU_ACCELERATOR_TYPE', 'v3-8'),
        ('TPU_WORKER_HOSTNAMES', 'localhost'),
    ):
        patch.setenv(name, value)


def small_config(**settings):
    """A network of one block on images of 16 pixels, 8 of them in a batch."""
    config = digits.get_config('debug').unlock()
    config.model.stage_sizes = (1,)
    config.model.dtype = 'bfloat16'
    config.data.image_size = 16
    config.batch_size = config.eval.batch_size = 8
    config.update_from_flattened_dict(settings)
    return config
