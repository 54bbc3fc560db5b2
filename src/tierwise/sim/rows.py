"""Requests in columns. A column that is the same for all is one number, so that uniform fleets cost little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Column = "NDArray[np.int64] | int"


@dataclass
class Rows:
    """``size`` requests; each column is an int64 array of that length or one number."""

    size: int
    columns: list[NDArray[np.int64] | int]

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        """A column as an array."""
        column = self.columns[index]
        return np.full(self.size, column, np.int64) if isinstance(column, int) else column

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Rows:
        """Some of them, in the given order."""
        columns = [column if isinstance(column, int) else column[which] for column in self.columns]
        if isinstance(which, slice):
            size = len(range(*which.indices(self.size)))
        else:
            size = int(np.count_nonzero(which)) if which.dtype == np.bool_ else len(which)
        return Rows(size, columns)

    def copy(self) -> Rows:
        """The same columns under a new list, so that they can be replaced."""
        return Rows(self.size, list(self.columns))


def from_matrix(matrix: NDArray[np.int64]) -> Rows:
    """Rows of a matrix with one line a request, copied."""
    return Rows(len(matrix), [column.copy() for column in matrix.T])


def _is(column: NDArray[np.int64] | int, number: int) -> bool:
    return isinstance(column, int) and column == number


def joined(parts: Sequence[Rows]) -> Rows:
    """All of them, one after the other."""
    parts = [part for part in parts if part.size] or list(parts[:1])
    if len(parts) == 1:
        return parts[0]
    columns: list[NDArray[np.int64] | int] = []
    for index, first in enumerate(parts[0].columns):
        same = isinstance(first, int) and all(_is(part.columns[index], first) for part in parts)
        if same:
            columns.append(first)
        else:
            columns.append(np.concatenate([part[index] for part in parts]))
    return Rows(sum(part.size for part in parts), columns)


def order_of(time: NDArray[np.int64], device: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.intp] | None:
    """The permutation that sorts by (time, device, k); ``None`` where they are in order. Ties are rare, so cheap."""
    if _in_order(time, device, k):
        return None
    order = np.argsort(time, kind="stable")
    if _in_order(time[order], device[order], k[order]):
        return order
    return np.lexsort((k, device, time))


def _in_order(time: NDArray[np.int64], device: NDArray[np.int64], k: NDArray[np.int64]) -> bool:
    gaps = np.diff(time)
    if not (gaps >= 0).all():
        return False
    ties = np.flatnonzero(gaps == 0)
    first, second = device[ties], device[ties + 1]
    return bool(((first < second) | ((first == second) & (k[ties] < k[ties + 1]))).all())
