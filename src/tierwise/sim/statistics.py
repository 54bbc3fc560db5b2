"""Means with confidence intervals: over replications, or over batches of one run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

BATCHES = 30
_STUDENT_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL_975 = 1.959964
_HANGS_TOGETHER = _NORMAL_975 / math.sqrt(BATCHES)  # of independent batches one run in forty exceeds it


class Interval(msgspec.Struct, frozen=True):
    """A mean and its 95 % confidence interval ``mean ± half_width``."""

    mean: float
    half_width: float | None
    method: Literal["replications", "batch means", "paired replications"]
    samples: int
    autocorrelation: float | None = None
    """Of successive batch means, -1 to 1."""
    fixed_phases: bool = False
    """Whether devices draw their phases once a run: then batches of one run all have the same, and the interval says
    nothing about other phases. Replications do."""

    @property
    def hangs_together(self) -> bool:
        """Whether batches follow one another (a start from empty, an overload), so that the interval is too narrow.

        Then run longer, state a warm-up, or use replications.
        """
        return self.autocorrelation is not None and self.autocorrelation > _HANGS_TOGETHER

    def scaled(self, factor: float) -> Interval:
        """The same in another unit."""
        half_width = None if self.half_width is None else self.half_width * factor
        return msgspec.structs.replace(self, mean=self.mean * factor, half_width=half_width)


def student_975(degrees: int) -> float:
    """97.5 % quantile of Student's t (table to 30, then the Cornish-Fisher expansion; error below 0.001)."""
    if degrees <= len(_STUDENT_975):
        return _STUDENT_975[degrees - 1]
    z = _NORMAL_975
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def of_independent(
    values: Sequence[float], method: Literal["replications", "batch means", "paired replications"] = "replications"
) -> Interval:
    """The interval of the mean of independent values; no width for fewer than two."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, None, method, n)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Interval(mean, student_975(n - 1) * deviation / math.sqrt(n), method, n)


def batch_means(values: NDArray[np.float64] | NDArray[np.int64]) -> Interval | None:
    """The interval of the mean of correlated values in order of time, by 30 batches; ``None`` if too few.

    The mean is that of all values, also of those that fill no further batch at the end.
    """
    size = len(values) // BATCHES
    if size < 2:  # noqa: PLR2004 -- a batch of one is no batch
        return None
    means = values[: size * BATCHES].reshape(BATCHES, size).mean(axis=1)
    around = means - means.mean()
    spread = float((around**2).sum())
    successive = float((around[1:] * around[:-1]).sum()) / spread if spread > 0 else 0.0
    interval = of_independent(means.tolist(), "batch means")
    return msgspec.structs.replace(interval, mean=float(values.mean()), autocorrelation=successive)


def quantiles(values: NDArray[np.int64], shares: Sequence[float]) -> list[int]:
    """Order statistics: the least value that ``share`` of all do not exceed. Reorders ``values``."""
    n = len(values)
    positions = [max(0, math.ceil(share * n) - 1) for share in shares]
    values.partition(sorted(set(positions)))
    return [int(values[position]) for position in positions]
