"""Durations in steps, epochs and examples."""

import pytest

from resnet_rs.config.durations import to_steps
from resnet_rs.utils.errors import UserError

IMAGENET = 1_281_167


def test_durations():
    sizes = dict(batch_size=4096, examples_per_epoch=IMAGENET)
    assert to_steps('350 epochs', **sizes) == 109_475  # the authors' train_steps
    assert to_steps('1 epoch', **sizes) == 313
    assert to_steps('0.5 epochs', **sizes) == 156
    assert to_steps('1000 steps', **sizes) == 1000
    assert to_steps('40960 examples', **sizes) == 10
    for wrong in ('350', 'epochs', '-1 epochs', '3 weeks', ''):
        with pytest.raises(UserError, match='not a duration'):
            to_steps(wrong, **sizes)
