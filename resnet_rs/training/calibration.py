"""Calibration: whether predictions of a probability are right as often as it says.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv 1706.04599), section 2:
bins of equal width over the confidence, the probability of the predicted class.
"""

import dataclasses

import numpy as np

BINS = 15


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The examples of a split by their confidence, in BINS bins ((m - 1) / BINS, m / BINS].

    counts: int [BINS], the examples of each bin.
    confidence, accuracy: float64 [BINS], their means in each bin; 0 in an empty one.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_error(self) -> float:
        """Returns the mean over the examples of the gap of confidence and accuracy in its bin."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((self.counts * gaps).sum() / self.counts.sum())


def calibration(confidence: np.ndarray, right: np.ndarray) -> Calibration:
    """Returns the calibration of examples with `confidence` [n] of 0 to 1 and `right`, bool [n]."""
    confidence = np.asarray(confidence, np.float64)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    at_least_one = np.maximum(counts, 1)
    return Calibration(
        counts,
        np.bincount(bins, confidence, BINS) / at_least_one,
        np.bincount(bins, np.asarray(right, np.float64), BINS) / at_least_one,
    )
