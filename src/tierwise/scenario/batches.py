"""How long batches take, where somebody has measured it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tierwise.scenario.distributions import Distribution, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    Times = tuple[float, ...]


@dataclass(frozen=True)
class ByBatch(Distribution):
    """Measured times of batches of several sizes. As a distribution it is that of a batch of one."""

    measured: tuple[tuple[int, Times], ...]
    """(size, equally likely times in ascending order, nanoseconds) by size, the first of which is 1."""

    @property
    def is_constant(self) -> bool:
        return all(times[0] == times[-1] for _, times in self.measured)

    @property
    def largest(self) -> int:
        """The largest batch that was measured."""
        return self.measured[-1][0]

    def of(self, size: int) -> Distribution:
        """Of batches of one size, which is at most ``largest``; quantile by quantile between those measured."""
        sizes = [measured for measured, _ in self.measured]
        above = bisect_left(sizes, size)
        after, slower = self.measured[above]
        if after == size:
            return _distribution(slower)
        before, faster = self.measured[above - 1]
        part = (size - before) / (after - before)
        count = max(len(faster), len(slower))
        pairs = zip(_spread(faster, count), _spread(slower, count), strict=True)
        return _distribution([low + part * (high - low) for low, high in pairs])

    def scaled(self, factor: float) -> ByBatch:
        """That of the times multiplied by ``factor``."""
        return by_batch([(size, tuple(factor * time for time in times)) for size, times in self.measured])


def by_batch(measured: Sequence[tuple[int, Times]]) -> ByBatch:
    """From (size, equally likely times in ascending order) by size, the first of which is 1."""
    one = _distribution(measured[0][1])
    return ByBatch(one.kind, one.parameters, tuple(measured))


def _distribution(times: Sequence[float]) -> Distribution:
    kind: Kind = "constant" if times[0] == times[-1] else "empirical"
    return Distribution(kind, tuple(times[:1] if kind == "constant" else times))


def _spread(times: Times, count: int) -> Times:
    """The quantiles at the middles of ``count`` equal parts."""
    return tuple(times[(2 * part + 1) * len(times) // (2 * count)] for part in range(count))
