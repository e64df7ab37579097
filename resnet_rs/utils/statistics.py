"""Statistics of accuracies."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """The result of McNemar's test on the images that exactly one of two runs classified correctly.

    p_value: probability of counts at least as uneven if both runs were equally good (two-sided,
      exact binomial).
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> PairedTest:
    """Returns McNemar's test for two bool arrays [examples] about the same images."""
    import scipy.stats

    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    different = only_first + only_second
    p_value = scipy.stats.binomtest(only_first, different).pvalue if different else 1.0
    return PairedTest(only_first, only_second, float(p_value))


def wilson_interval(right: int, examples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's score interval of an accuracy, without continuity correction."""
    import scipy.stats  # takes a second

    return tuple(scipy.stats.binomtest(right, examples).proportion_ci(confidence, method='wilson'))
