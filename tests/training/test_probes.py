"""Probes of features, beside the same computed step by step in NumPy and by scikit-learn."""

import numpy as np
import pytest

from resnet_rs.training import probes
from resnet_rs.training.probes import Split


def clusters(count, classes=3, features=6, spread=0.6, seed=0):
    """Features around a centre of each class, and labels in turn."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(classes, features))
    labels = np.arange(count) % classes
    noise = random.normal(size=(count, features))
    return Split((centres[labels] + spread * noise).astype(np.float32), labels)


@pytest.mark.parametrize('examples, features', [(40, 6), (5, 30)])
def test_ridge_regression_is_the_closed_form(examples, features):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(examples, features)), random.normal(size=(examples, 4))
    l2 = (0.25, 16.0)
    found = probes.ridge_weights(x, y, l2)
    for weights, each in zip(found, l2, strict=True):
        expected = np.linalg.solve(x.T @ x + each * np.eye(features), x.T @ y)
        np.testing.assert_allclose(weights, expected, atol=1e-10)


def test_few_shot_predictions_are_those_of_the_formula():
    """big_vision: whitened by the shots, a bias feature of 100, targets -1 and 1, an argmax."""
    train, validation, test = clusters(60), clusters(30, seed=1), clusters(40, seed=2)
    found = probes.few_shot(train, validation, test, 3, 2, range(3))
    l2 = float(found.chosen.removeprefix('l2 = '))
    assert l2 in probes.RIDGE_L2 and found.predictions.shape == (3, 40)
    right = {each: 0 for each in probes.RIDGE_L2}
    for seed in range(3):
        chosen = probes.few_shot_examples(train.labels, 2, seed)
        assert np.bincount(train.labels[chosen]).tolist() == [2, 2, 2]
        x, mean = train.features[chosen].astype(np.float64), train.features[chosen].mean(0)
        deviation = train.features[chosen].std(0) + 1e-5
        x = np.column_stack([(x - mean) / deviation, np.full(6, 100.0)])
        y = np.where(train.labels[chosen][:, None] == np.arange(3), 1.0, -1.0)
        for each in probes.RIDGE_L2:
            weights = np.linalg.solve(x.T @ x + each * np.eye(7), x.T @ y)
            scores = [
                np.column_stack([(s.features - mean) / deviation, np.full(len(s.labels), 100.0)])
                @ weights
                for s in (validation, test)
            ]
            right[each] += (scores[0].argmax(1) == validation.labels).sum()
            if each == l2:
                np.testing.assert_array_equal(found.predictions[seed], scores[1].argmax(1))
    assert right[l2] == max(right.values())


def test_more_shots_contain_fewer():
    labels = np.arange(50) % 5
    few, many = (set(probes.few_shot_examples(labels, shots, 0).tolist()) for shots in (2, 6))
    assert few < many and few != set(probes.few_shot_examples(labels, 2, 1).tolist())


def test_logistic_regression_is_refitted_with_the_chosen_penalty():
    from sklearn.linear_model import LogisticRegression

    train, validation, test = clusters(45), clusters(30, seed=1), clusters(40, seed=2)
    values = (1e-3, 1e-1, 10.0)
    found = probes.logistic(train, validation, test, values)
    scores = [
        LogisticRegression(C=c, max_iter=1000)
        .fit(train.features, train.labels)
        .score(validation.features, validation.labels)
        for c in values
    ]
    c = values[int(np.argmax(scores))]
    assert found.chosen == f'C = {c:.3g}'
    both = train.joined(validation)
    model = LogisticRegression(C=c, max_iter=1000).fit(both.features, both.labels)
    np.testing.assert_array_equal(found.predictions[0], model.predict(test.features))
    assert len(probes.LOGISTIC_C) == 45
    np.testing.assert_allclose([probes.LOGISTIC_C[0], probes.LOGISTIC_C[-1]], [1e-6, 1e5])


def test_neighbours_vote_with_the_exponential_of_their_cosine():
    train, test = clusters(25), clusters(7, seed=1)
    votes = probes.neighbour_votes(train, test.features, 3, 4, block=3)
    for row, feature in enumerate(test.features.astype(np.float64)):
        norms = np.linalg.norm(train.features, axis=1) * np.linalg.norm(feature)
        cosines = train.features.astype(np.float64) @ feature / norms
        expected = np.zeros(3)
        for near in np.argsort(-cosines)[:4]:
            expected[train.labels[near]] += np.exp(cosines[near] / 0.07)
        np.testing.assert_allclose(votes[row], expected, rtol=1e-5)
    found = probes.nearest_neighbours(train, clusters(20, seed=3), test, 3)
    assert found.chosen.startswith('k = ')


def test_a_part_is_held_out_and_classes_count_alike():
    kept, held = probes.held_out(np.zeros(50), 0.1)
    assert len(held) == 5 and sorted([*kept, *held]) == list(range(50))
    predictions, labels = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 2])
    assert probes.mean_per_class(predictions, labels) == 0.5
