"""Time. Durations and deadlines are monotonic; only what leaves the process is wall-clock time.

The wall clock can jump, so it is read once, when the process starts; every later wall time is that reading plus
monotonic progress. Timestamps of one process are therefore ordered, and those of processes on one machine
comparable to a few microseconds.
"""

from __future__ import annotations

import time

monotonic_ns = time.monotonic_ns
"""Nanoseconds on a clock that never goes back; only differences mean anything."""

_EPOCH_MINUS_MONOTONIC_NS = time.time_ns() - time.monotonic_ns()


def epoch_us(at_ns: int) -> int:
    """Microseconds since 1970-01-01 UTC of the monotonic instant ``at_ns``."""
    return (at_ns + _EPOCH_MINUS_MONOTONIC_NS) // 1000
