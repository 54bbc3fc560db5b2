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

KEPT_LOOKS = 64
"""Arrays of durations that are kept for the percentiles of one interval: the latest, up to some 65,000 requests."""


class Stats:
    """Adds up what the meters count until the next line."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._since_ns = monotonic_ns()
        self._codes: Counter[str] = Counter()
        self._request_ns: deque[NDArray[np.float64]] = deque(maxlen=KEPT_LOOKS)
        self._inference_ns: deque[NDArray[np.float64]] = deque(maxlen=KEPT_LOOKS)

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
            "request_ms": _percentiles_ms(self._request_ns),
            "inference_ms": _percentiles_ms(self._inference_ns),
        }
        self._reset()
        return figures


def _percentiles_ms(durations_ns: deque[NDArray[np.float64]]) -> dict[str, float] | None:
    values = np.concatenate([np.empty(0), *durations_ns]) / 1e6
    if not values.size:
        return None
    found = np.percentile(values, (50, 95, 99)).tolist()
    return {name: round(value, 4) for name, value in zip(("p50", "p95", "p99"), found, strict=True)}
