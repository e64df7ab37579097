"""Statistics of accuracies."""


def wilson_interval(right: int, examples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's score interval of an accuracy, without continuity correction."""
    import scipy.stats  # takes a second

    return tuple(scipy.stats.binomtest(right, examples).proportion_ci(confidence, method='wilson'))
