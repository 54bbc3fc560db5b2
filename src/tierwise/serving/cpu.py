"""The clock of the machine's cores, as a metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric


def frequency_family(clocks: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    """The clocks as a metric."""
    family = GaugeMetricFamily("tierwise_cpu_frequency_hertz", "Clock of a core.", labels=["cpu"])
    for cpu, hertz in clocks:
        family.add_metric([cpu], hertz)
    return family


class CpuFrequency(Collector):
    """Current clock of each core. Left out where the machine does not tell (some virtual machines and ARM boards)."""

    def __init__(self, sysfs: Path = Path("/sys/devices/system/cpu"), cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
        self._sysfs = sysfs
        self._cpuinfo = cpuinfo

    def collect(self) -> Iterator[Metric]:
        """Reads the clocks at every scrape."""
        clocks = self.read()
        if clocks:
            yield frequency_family(clocks)

    def read(self) -> list[tuple[str, float]]:
        """Number and clock in hertz of each core; empty where the machine does not tell."""
        governed = sorted(self._sysfs.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        try:
            if governed:
                return [(path.parts[-3].removeprefix("cpu"), float(path.read_text()) * 1e3) for path in governed]
            lines = [line for line in self._cpuinfo.read_text().splitlines() if line.startswith("cpu MHz")]
            return [(str(cpu), float(line.partition(":")[2]) * 1e6) for cpu, line in enumerate(lines)]
        except (OSError, ValueError):
            return []  # a machine that does not tell: the metric is left out, as documented
