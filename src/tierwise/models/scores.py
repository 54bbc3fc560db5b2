"""How good predictions are: accuracy, F1, area under the ROC curve, agreement with a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def classes_of(outputs: NDArray[np.floating], threshold: float | None) -> NDArray[np.int64]:
    """Class index of each row of outputs [n, k]: at or above the threshold, or the largest."""
    if threshold is not None:
        return (outputs[:, 0] >= threshold).astype(np.int64)
    largest: NDArray[np.int64] = outputs.argmax(axis=1)
    return largest


def accuracy(outputs: NDArray[np.floating], labels: NDArray[np.int64], threshold: float | None) -> float:
    """The share of rows [n, k] that are of the class that their label says."""
    return float(np.mean(classes_of(outputs, threshold) == labels))


def scores(outputs: NDArray[np.floating], labels: NDArray[np.int64], threshold: float | None) -> dict[str, float]:
    """``accuracy`` and ``f1`` (of class 1, or the mean over classes), and ``auc`` where there are two classes."""
    classes = classes_of(outputs, threshold)
    result = {"accuracy": accuracy(outputs, labels, threshold)}
    if threshold is None:
        return result | {"f1": float(np.mean([_f1(classes == k, labels == k) for k in range(outputs.shape[1])]))}
    return result | {"f1": _f1(classes == 1, labels == 1), "auc": auc(outputs[:, 0], labels)}


def against(
    outputs: NDArray[np.floating], reference: NDArray[np.floating], threshold: float | None
) -> dict[str, float]:
    """``agreement`` (share of equal classes) with a reference and ``max_abs_error``, in output units."""
    same = classes_of(outputs, threshold) == classes_of(reference, threshold)
    return {"agreement": float(np.mean(same)), "max_abs_error": float(np.max(np.abs(outputs - reference)))}


def auc(values: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Area under the ROC curve: how likely a positive scores above a negative, ties counting half (Mann-Whitney)."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    positive = int(np.sum(labels == 1))
    negative = len(labels) - positive
    wins = float(np.sum(rank[labels == 1])) - positive * (positive + 1) / 2
    return wins / (positive * negative)


def _f1(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    both = int(np.sum(found & true))
    total = int(np.sum(found)) + int(np.sum(true))
    return 2 * both / total if total else 0.0
