"""From single times to the service time of a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tierwise.scenario.profile import ServiceTime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

PARTS = 100
"""Values that stand for the distribution: the last is the mean of the slowest hundredth."""
_NS_TO_US = 1e-3
_DIGITS = 4
_STUDENT = 2.093
"""97.5 % quantile of Student's t with 19 degrees of freedom, for ``SLICES``."""
SLICES = 20
"""Stretches of a measurement, whose means give the interval: single times hang together."""


def service_time(batch: int, slices_ns: Sequence[ArrayLike], *, cpu_ns: int | None = None) -> ServiceTime:
    """Of batches of one size, from their times in nanoseconds: slice by slice, or all as one.

    ``cpu_ns`` is the processor time of all of them together.
    """
    slices = [np.asarray(times, np.float64) for times in slices_ns]
    times = np.sort(np.concatenate(slices))
    p50, p95, p99 = np.quantile(times, (0.5, 0.95, 0.99), method="inverted_cdf")
    spread = np.std([one.mean() for one in slices], ddof=1) if len(slices) == SLICES else 0.0
    return ServiceTime(
        batch=batch,
        count=len(times),
        mean_us=_us(times.mean()),
        half_width_us=_us(_STUDENT * float(spread) / SLICES**0.5),
        cpu_us=None if cpu_ns is None else _us(cpu_ns / len(times)),
        p50_us=_us(p50),
        p95_us=_us(p95),
        p99_us=_us(p99),
        times_us=[_us(time) for time in equal_parts(times, 1 if times[0] == times[-1] else min(PARTS, len(times)))],
    )


def equal_parts(times: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    """The means of equal parts of times in ascending order, which keep their mean and the order.

    A time may fall into two parts.
    """
    sums = np.concatenate([[0.0], np.cumsum(times)])
    ends = np.interp(np.linspace(0, len(times), parts + 1), np.arange(len(sums)), sums)
    means: NDArray[np.float64] = np.diff(ends) * parts / len(times)
    return np.maximum.accumulate(means)  # of equal times the sums' rounding can leave the later part a little less


def _us(ns: float) -> float:
    """Microseconds with as many digits as a measurement has."""
    return float(f"{ns * _NS_TO_US:.{_DIGITS}g}")
