"""A histogram that is filled with arrays: observations are gathered first and counted many at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class Histogram:
    """Counts values by upper bound. ``bounds`` ascend; a value equal to a bound belongs to it, as Prometheus has it."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = np.array(bounds, np.float64)
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self.sum = 0.0

    def extend(self, values: NDArray[Any]) -> None:
        """Counts all values, float64[n]."""
        self._counts += np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        self.sum += float(values.sum())

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Upper bound as Prometheus writes it, and how many values are not above it."""
        cumulative = np.cumsum(self._counts).tolist()
        for bound, count in zip([*self._bounds.tolist(), float("inf")], cumulative, strict=True):
            yield ("+Inf" if bound == float("inf") else repr(bound)), count
