"""How good the answers were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tierwise.sim.truth import samples_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan
    from tierwise.sim.rows import Rows


class Quality(msgspec.Struct, frozen=True):
    """Of answers whose truth is known. Without computed answers only the accuracy is."""

    judged: int
    accuracy: float | None
    f1: float | None = None
    """Of the class 1 where there are two classes, else the mean over classes."""
    recall: float | None = None
    precision: float | None = None


class ClassCounts:
    """Confusions of one tier: judged and right answers, and counts by (truth, label) where they were computed."""

    def __init__(self) -> None:
        self.judged = 0
        self.right = 0
        self.confusion = np.zeros((0, 0), np.int64)

    def add(
        self,
        plan: Plan,
        rows: Rows,
        model: str,
        tier: str,
        right_answers: Callable[[Plan, Rows, str, str], NDArray[np.bool_] | None],
    ) -> None:
        """Judges the answers of a model on a tier."""
        answers = plan.answers.get((model, tier))
        if answers is None:
            right = right_answers(plan, rows, model, tier)
            if right is not None:
                self.judged += rows.size
                self.right += int(right.sum())
            return
        sample = samples_of(plan, rows, len(answers.truth))
        truth, label = answers.truth[sample], answers.labels[sample]
        self.judged += rows.size
        self.right += int((truth == label).sum())
        size = int(max(answers.truth.max(), answers.labels.max())) + 1
        self._widen(size)
        np.add.at(self.confusion, (truth, label), 1)

    def _widen(self, size: int) -> None:
        if size > len(self.confusion):
            wider = np.zeros((size, size), np.int64)
            wider[: len(self.confusion), : len(self.confusion)] = self.confusion
            self.confusion = wider


def quality_of(counts: Sequence[ClassCounts]) -> Quality:
    """Quality of all that was counted."""
    judged = sum(one.judged for one in counts)
    if not judged:
        return Quality(0, None)
    accuracy = sum(one.right for one in counts) / judged
    size = max(len(one.confusion) for one in counts)
    if size == 0:
        return Quality(judged, accuracy)
    confusion = np.zeros((size, size), np.int64)
    for one in counts:
        confusion[: len(one.confusion), : len(one.confusion)] += one.confusion
    hits = np.diag(confusion).astype(float)
    recall = hits / np.maximum(1, confusion.sum(axis=1))
    precision = hits / np.maximum(1, confusion.sum(axis=0))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    binary = size <= 2  # noqa: PLR2004 -- two classes: one of them is what is looked for
    figures = [float(of[-1] if binary else of.mean()) for of in (f1, recall, precision)]
    return Quality(judged, accuracy, *figures)
