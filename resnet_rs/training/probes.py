"""Classifiers of frozen features: ridge regression, logistic regression and nearest neighbours.

All of them are functions of arrays: features float [examples, features] and labels int [examples].
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

# l2 of the ridge regression: kauldron's values around the 2^10 to which big_vision fixes it.
RIDGE_L2 = tuple(2.0**power for power in range(-4, 16, 2))
RIDGE_BIAS = 100.0  # so large that the bias is almost free of the penalty (big_vision)
# Inverse penalties of the logistic regression: 45 values (SimCLR, appendix B.8; DINOv2's code).
LOGISTIC_C = tuple(10.0 ** np.linspace(-6, 5, 45))
NEIGHBOURS = (10, 20, 100, 200)
TEMPERATURE = 0.07  # of the neighbours' votes (Wu et al. 2018; DINOv2's code)


@dataclasses.dataclass(frozen=True)
class Split:
    """Features float32 [examples, features] and labels int64 [examples] of a split."""

    features: np.ndarray
    labels: np.ndarray

    def at(self, examples: np.ndarray) -> 'Split':
        """Returns some of the examples, by their numbers."""
        return Split(self.features[examples], self.labels[examples])

    def joined(self, other: 'Split') -> 'Split':
        """Concatenates two sets of examples."""
        return Split(
            np.concatenate([self.features, other.features]),
            np.concatenate([self.labels, other.labels]),
        )


@dataclasses.dataclass(frozen=True)
class Result:
    """A classifier's predictions of the test images.

    chosen: what the validation images chose, in words.
    predictions: int64 [seeds, test images].
    """

    chosen: str
    predictions: np.ndarray


def held_out(labels: np.ndarray, fraction: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Splits example numbers into training and a random validation `fraction`."""
    order = np.random.default_rng(seed).permutation(len(labels))
    count = round(fraction * len(labels))
    return np.sort(order[count:]), np.sort(order[:count])


def few_shot_examples(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Returns `shots` random examples of every class; those of fewer shots are among them."""
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(labels == number))[:shots] for number in np.unique(labels)
    ]
    return np.concatenate(chosen)


def ridge_weights(features: np.ndarray, targets: np.ndarray, l2: Sequence[float]) -> np.ndarray:
    """Returns the weights [len(l2), features, classes] that minimise |X W - Y|^2 + l2 |W|^2.

    One eigendecomposition, of X'X or XX', whichever is smaller, serves every l2.
    """
    x, y = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    wide = x.shape[1] > x.shape[0]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    values = np.maximum(values, 0)
    projected = vectors.T @ (y if wide else x.T @ y)
    scaled = [vectors @ (projected / (values + each)[:, None]) for each in l2]
    return np.stack([x.T @ each if wide else each for each in scaled])


def few_shot(
    train: Split, validation: Split, test: Split, classes: int, shots: int, seeds: Sequence[int]
) -> Result:
    """Returns ridge regression on `shots` images of each class, once for every seed.

    Features are whitened by mean and deviation of the chosen images, targets are -1 and 1, and a
    constant feature of RIDGE_BIAS is the bias (big_vision, evaluators/fewshot_lsr.py). The l2 is
    the one of RIDGE_L2 with the most validation images right over all seeds.
    """
    right, found = np.zeros(len(RIDGE_L2)), []
    for seed in seeds:
        chosen = train.at(few_shot_examples(train.labels, shots, seed))
        mean, deviation = chosen.features.mean(0), chosen.features.std(0) + 1e-5

        def whitened(split, mean=mean, deviation=deviation):
            features = (split.features - mean) / deviation
            return np.concatenate([features, np.full((len(features), 1), RIDGE_BIAS)], 1)

        targets = 2 * np.eye(classes)[chosen.labels] - 1
        weights = ridge_weights(whitened(chosen), targets, RIDGE_L2)
        x = whitened(validation)
        right += [((x @ each).argmax(1) == validation.labels).sum() for each in weights]
        x = whitened(test)
        found.append([(x @ each).argmax(1) for each in weights])
    best = int(right.argmax())
    predictions = np.stack([of_seed[best] for of_seed in found])
    return Result(f'l2 = {RIDGE_L2[best]:g}', predictions)


def logistic(
    train: Split, validation: Split, test: Split, values: Sequence[float] = LOGISTIC_C
) -> Result:
    """Returns multinomial logistic regression, fitted by L-BFGS (scikit-learn).

    The inverse penalty C is the one of `values` with the most validation images right; the
    classifier is then fitted to training and validation images. Sources: SimCLR (Chen et al. 2020,
    appendix B.8) and DINOv2's code, whose values of C these are.
    """

    def fit(split, c):
        from sklearn.linear_model import LogisticRegression  # takes a second

        return LogisticRegression(C=c, max_iter=1000).fit(split.features, split.labels)

    right = [
        (fit(train, c).predict(validation.features) == validation.labels).sum() for c in values
    ]
    best = values[int(np.argmax(right))]
    predictions = fit(train.joined(validation), best).predict(test.features)
    return Result(f'C = {best:.3g}', predictions[None])


def neighbour_votes(
    train: Split, features: np.ndarray, classes: int, neighbours: int, block: int = 1024
) -> np.ndarray:
    """Returns the votes float64 [examples, classes] of the nearest training images.

    Near means a large cosine c of the features; each of the `neighbours` votes for its class with
    the weight exp(c / TEMPERATURE) (Wu et al. 2018, arXiv 1805.01978).
    """

    def directions(values):
        values = np.asarray(values, np.float64)
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)

    of_train, votes = directions(train.features), np.zeros((len(features), classes))
    neighbours = min(neighbours, len(of_train))
    for start in range(0, len(features), block):
        rows = slice(start, start + block)
        cosines = directions(features[rows]) @ of_train.T
        near = np.argpartition(-cosines, neighbours - 1, 1)[:, :neighbours]
        weights = np.exp(np.take_along_axis(cosines, near, 1) / TEMPERATURE)
        numbers = np.arange(len(cosines))[:, None]
        np.add.at(votes[rows], (numbers, train.labels[near]), weights)
    return votes


def nearest_neighbours(train: Split, validation: Split, test: Split, classes: int) -> Result:
    """Returns the vote of the k nearest training images; the validation images choose k."""

    def predict(split, features, count):
        return neighbour_votes(split, features, classes, count).argmax(1)

    right = [
        (predict(train, validation.features, count) == validation.labels).sum()
        for count in NEIGHBOURS
    ]
    best = NEIGHBOURS[int(np.argmax(right))]
    predictions = predict(train.joined(validation), test.features, best)
    return Result(f'k = {best}', predictions[None])


def mean_per_class(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over the classes of the fraction of their images that are right."""
    right = predictions == labels
    return float(np.mean([right[labels == number].mean() for number in np.unique(labels)]))
