"""What the tests that compile for a TPU share."""

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
    installed() != LIBTPU, reason=f'the bars are those of libtpu {LIBTPU}, not {installed()}'
)


def small_config(**settings):
    """A network of one block on images of 16 pixels, 8 of them in a batch."""
    config = digits.get_config('debug').unlock()
    config.model.stage_sizes = (1,)
    config.model.dtype = 'bfloat16'
    config.data.image_size = 16
    config.batch_size = config.eval.batch_size = 8
    config.update_from_flattened_dict(settings)
    return config
