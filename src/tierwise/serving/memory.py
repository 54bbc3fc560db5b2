"""The memory of this process, and what it may have at most."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_UNLIMITED = 1 << 60
"""cgroup v1 writes a number near 2^63 where there is no limit."""


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> float | None:
    """Memory of this process that is in RAM; ``None`` where the machine does not tell."""
    try:
        return float(statm.read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None  # not Linux: the figure is left out, as documented


def peak_bytes(status: Path = Path("/proc/self/status")) -> int | None:
    """Most memory of this process that ever was in RAM; ``None`` where the machine does not tell."""
    try:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None  # not Linux: the figure is left out, as documented


def limit_bytes(files: tuple[Path, ...] = _LIMIT_FILES) -> float | None:
    """Memory limit of the container (cgroup v2 or v1); ``None`` where there is none."""
    for file in files:
        try:
            limit = float(file.read_text())
        except (OSError, ValueError):  # not this version of cgroups, or "max"
            continue
        return limit if limit < _UNLIMITED else None
    return None


def limit_family(limit: float | None) -> GaugeMetricFamily:
    """The limit as a metric."""
    return GaugeMetricFamily("tierwise_memory_limit_bytes", "Memory limit of the container.", value=limit)


class MemoryLimit(Collector):
    """The container's memory limit. Left out where there is none."""

    def collect(self) -> Iterator[Metric]:
        """Reads the limit at every scrape: it can be changed while a container runs."""
        limit = limit_bytes()
        if limit is not None:
            yield limit_family(limit)
