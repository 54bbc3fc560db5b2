"""Latency and throughput of the last interval, for the periodic log line."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.clocks import monotonic_ns
from tierwise.serving.metrics import OK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.serving.metrics import Figures

KEPT = 65_536
"""Durations that are kept for the percentiles of one interval: about the latest so many."""


class Stats:
    """Adds up what the meters count until the next line."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._since_ns = monotonic_ns()
        self._codes: Counter[str] = Counter()
        self._request_ns = _Latest()
        self._inference_ns = _Latest()

    def add(self, figures: Figures) -> None:
        """Takes what a meter has counted."""
        self._codes += figures.codes
        self._request_ns.append(figures.request_ns)
        self._inference_ns.append(figures.inference_ns)

    def take(self) -> dict[str, Any]:
        """The figures since the last call. The meters must have been told to ``count`` before."""
        seconds = max((monotonic_ns() - self._since_ns) / 1e9, 1e-9)
        count = self._codes.total()
        figures: dict[str, Any] = {
            "interval_s": round(seconds, 3),
            "requests": count,
            "errors": count - self._codes[OK],
            "requests_per_s": round(count / seconds, 3),
            "request_ms": self._request_ns.percentiles_ms(),
            "inference_ms": self._inference_ns.percentiles_ms(),
        }
        self._reset()
        return figures


class _Latest:
    """The latest durations, in the arrays in which they came."""

    def __init__(self) -> None:
        self._arrays: deque[NDArray[np.float64]] = deque()
        self._size = 0

    def append(self, durations_ns: NDArray[np.float64]) -> None:
        self._arrays.append(durations_ns)
        self._size += durations_ns.size
        while self._size - self._arrays[0].size >= KEPT:
            self._size -= self._arrays.popleft().size

    def percentiles_ms(self) -> dict[str, float] | None:
        if not self._size:
            return None
        found = np.percentile(np.concatenate(self._arrays) / 1e6, (50, 95, 99)).tolist()
        return {name: round(value, 4) for name, value in zip(("p50", "p95", "p99"), found, strict=True)}
