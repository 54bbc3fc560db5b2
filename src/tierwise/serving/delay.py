"""The simulated network between the sensor's site and the cloud: a one-way delay up and another one down."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tierwise.serving.settings import DelaySettings


_MILLISECOND_NS = 1_000_000


class Delay:
    """Draws one-way delays: ``latency_ms`` ± an evenly distributed ``jitter_ms``, never below zero."""

    def __init__(self, settings: DelaySettings, *, seed: int | None = None) -> None:
        self._latency_ns = settings.latency_ms * 1e6
        self._jitter_ns = settings.jitter_ms * 1e6
        self._random = random.Random(seed)  # noqa: S311 -- a network's jitter is no secret

    def draw_ns(self) -> int:
        """One delay in nanoseconds: whole milliseconds, because timers count in those.

        What is told to clients as configured is then what is waited for.
        """
        drawn_ns = self._latency_ns
        if self._jitter_ns:
            drawn_ns += self._random.uniform(-self._jitter_ns, self._jitter_ns)
        return max(0, round(drawn_ns / _MILLISECOND_NS)) * _MILLISECOND_NS
