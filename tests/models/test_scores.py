"""Accuracy, F1, area under the curve, agreement."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from tierwise.models.scores import against, auc, classes_of, scores


def test_binary_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    outputs = np.round(np.clip(rng.normal(0.3 + 0.4 * labels, 0.3), 0, 1), 2)[:, None]  # rounded: with ties
    found = scores(outputs, labels, 0.5)
    predicted = outputs[:, 0] >= 0.5
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found["f1"] == pytest.approx(metrics.f1_score(labels, predicted))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(labels, outputs[:, 0]))


def test_multiclass_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 300)
    outputs = rng.random((300, 4)) + np.eye(4)[labels] * 0.5
    found = scores(outputs, labels, None)
    assert set(found) == {"accuracy", "f1"}
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, outputs.argmax(axis=1)))
    assert found["f1"] == pytest.approx(metrics.f1_score(labels, outputs.argmax(axis=1), average="macro"))


def test_a_class_that_is_neither_there_nor_found_scores_zero() -> None:
    assert scores(np.array([[1.0, 0.0]]), np.array([0]), None) == {"accuracy": 1.0, "f1": 0.5}


def test_area_under_the_curve_at_its_ends() -> None:
    labels = np.array([0, 0, 1, 1])
    assert auc(np.array([0.1, 0.2, 0.3, 0.4]), labels) == 1.0
    assert auc(np.array([0.4, 0.3, 0.2, 0.1]), labels) == 0.0
    assert auc(np.full(4, 0.5), labels) == 0.5


def test_the_threshold_belongs_to_the_upper_class() -> None:
    assert classes_of(np.array([[0.49], [0.5], [0.51]]), 0.5).tolist() == [0, 1, 1]


def test_difference_from_a_reference() -> None:
    outputs, reference = np.array([[0.4], [0.6], [0.9]]), np.array([[0.45], [0.45], [0.9]])
    found = against(outputs, reference, 0.5)
    assert found["agreement"] == pytest.approx(2 / 3)
    assert found["max_abs_error"] == pytest.approx(0.15)
