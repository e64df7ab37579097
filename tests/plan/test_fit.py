"""The search for what fits, with a stand-in for the compiler; estimates by hand; bad input."""

import pytest
from helpers.tpu import small_config

from resnet_rs.config import validation
from resnet_rs.plan import fit
from resnet_rs.plan.cache import DoesNotFit
from resnet_rs.plan.program import does_not_fit


@pytest.mark.parametrize('capacity', [1, 2, 3, 7, 8, 63, 64, 127])
@pytest.mark.parametrize('hint', [True, False])
def test_the_largest_divisor_that_fits(capacity, hint):
    config, tried = small_config(batch_size=4 * 128), []

    def attempt(changed, what):
        tried.append(changed.batch_size // 4)
        if tried[-1] > capacity:
            raise DoesNotFit('full', None, None)

    error = (
        DoesNotFit('full', 128 * 100, capacity * 100) if hint else (DoesNotFit('full', None, None))
    )
    expected = max(size for size in (1, 2, 4, 8, 16, 32, 64) if size <= capacity)
    assert fit.largest_batch(config, 4, error, attempt) == expected
    assert len(tried) == len(set(tried)) <= (2 if hint else 3) + 1
    assert 128 not in tried  # known not to fit


def test_no_batch_fits():
    def attempt(changed, what):
        raise DoesNotFit('full', None, None)

    error = DoesNotFit('full', None, None)
    assert fit.largest_batch(small_config(batch_size=64), 1, error, attempt) is None


def test_options_are_those_that_the_configuration_has():
    config, tried = small_config(batch_size=32), []

    def attempt(changed, what):
        tried.append(changed.optimizer.accumulation_steps)
        if changed.optimizer.accumulation_steps < 4:
            raise DoesNotFit('full', None, None)

    found = fit.options_that_fit(config, 1, attempt)
    assert config == small_config(batch_size=32)  # is not changed
    two, four, eight = (f'gradient accumulation, {number} micro-batches' for number in (2, 4, 8))
    assert found[two] is None and found[four] == {'optimizer.accumulation_steps': 4}
    assert eight not in found  # not needed once four are enough
    assert fit.with_settings(config, {'model.no_such_setting': 1}) is None


@pytest.mark.parametrize(
    'settings, divisor',
    [
        # A quarter of a batch has labels, and the whole batch is a multiple of four.
        ({'objective': 'pseudo_labels', 'pseudo_labels.file': 'F', 'pseudo_labels.ratio': 3}, 4),
        ({'data.repeated_augmentation': 3}, 3),
    ],
)
def test_only_what_a_run_accepts_is_tried(settings, divisor):
    """A batch of 24 on one device; nothing fits."""
    config, tried = small_config(batch_size=24, **settings), []
    validation.check_relations(config)

    def attempt(changed, what):
        validation.check_relations(changed)
        tried.append(changed.batch_size)
        raise DoesNotFit('full', None, None)

    assert fit.largest_batch(config, 1, DoesNotFit('full', None, None), attempt) is None
    assert tried and all(size % divisor == 0 for size in tried)
    fit.options_that_fit(config, 1, attempt)


def test_messages_of_the_compiler():
    gib = 2**30
    error = does_not_fit(
        'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space '
        'hbm. Used 21.50G of 15.48G hbm. Exceeded hbm capacity by 6.02G.\n\nTotal hbm usage ...'
    )
    assert (error.needed, error.available) == (int(21.5 * gib), int(15.48 * gib))
    error = does_not_fit(
        'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO '
        'temporaries (1.00T) exceeds available HBM (7.48G).'
    )
    assert (error.needed, error.available) == (1024 * gib, int(7.48 * gib))
    assert does_not_fit('RESOURCE_EXHAUSTED: something else').needed is None
