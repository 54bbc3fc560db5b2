"""Points of an interval: exactly the documented names, rates and percentiles that add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tierwise.serving.cpu import CpuFrequency
from tierwise.serving.influx_points import MEASUREMENTS, IntervalPoints, machine_points
from tierwise.serving.metrics import ServiceMetrics

FIELDS = {measurement.name: measurement for measurement in MEASUREMENTS}


def observed() -> tuple[ServiceMetrics, IntervalPoints]:
    points = IntervalPoints(service_id="edge-1")
    metrics = ServiceMetrics("edge", points.add)
    meter = metrics.meter("m", "1", "mqtt")
    for milliseconds in range(1, 101):
        meter.executed(milliseconds * 10_000, 1_000_000, 1)
        meter.finished("ok", milliseconds * 1_000_000, 300, 100)
    meter.finished("invalid_input", 1_000_000, 50, 80)
    metrics.count()
    return metrics, points


def test_rates_totals_and_percentiles_of_an_interval() -> None:
    _, points = observed()
    taken = {point.measurement: point for point in points.end(interval_s=2.0, timestamp_ns=5)()}
    assert taken["tierwise_bandwidth"].fields == {
        "request_bytes_per_second": 15_025.0,
        "response_bytes_per_second": 5_040.0,
        "request_bytes_total": 30_050.0,
        "response_bytes_total": 10_080.0,
    }
    requests = taken["tierwise_requests"].fields
    assert (requests["requests_per_second"], requests["errors_per_second"]) == (50.5, 0.5)
    assert (requests["requests_total"], requests["errors_total"], requests["count"]) == (101, 1, 101)
    assert requests["p50_seconds"] == pytest.approx(0.050)
    inference = taken["tierwise_inference"].fields
    assert inference["count"] == 100
    for name in ("mean_seconds", "p50_seconds", "p95_seconds", "p99_seconds"):
        assert inference[name] == pytest.approx(0.001)
    assert taken["tierwise_queue"].fields["mean_seconds"] == pytest.approx(505e-6)
    for point in taken.values():
        assert point.timestamp_ns == 5
        assert point.tags == {
            "service_id": "edge-1", "model": "m", "version": "1", "tier": "edge", "transport": "mqtt"
        }  # fmt: skip


def test_the_next_interval_begins_at_zero_and_totals_go_on() -> None:
    _, points = observed()
    points.end(interval_s=1.0, timestamp_ns=1)
    taken = {point.measurement: point.fields for point in points.end(interval_s=1.0, timestamp_ns=2)()}
    assert taken["tierwise_inference"] == {"count": 0.0}
    assert taken["tierwise_requests"]["requests_per_second"] == 0
    assert taken["tierwise_requests"]["requests_total"] == 101
    assert taken["tierwise_bandwidth"]["request_bytes_total"] == 30_050


def test_a_hundred_thousand_requests_keep_memory_bounded_and_counts_exact() -> None:
    points = IntervalPoints(service_id="edge-1")
    meter = ServiceMetrics("edge", points.add).meter("m", "1", "mqtt")
    for _ in range(100_000):
        meter.executed(1000, 2000, 1)
        meter.finished("ok", 4000, 10, 10)
    meter.count()
    (interval,) = points._intervals.values()
    assert len(interval.requests.kept) == 64
    taken = {point.measurement: point.fields for point in points.end(interval_s=1.0, timestamp_ns=1)()}
    assert taken["tierwise_requests"]["count"] == 100_000
    assert taken["tierwise_inference"]["mean_seconds"] == pytest.approx(2e-6)


def test_the_machine_tells_clock_and_memory(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("cpu MHz : 1500\ncpu MHz : 2400\n")
    points = machine_points(CpuFrequency(tmp_path, cpuinfo), service_id="edge-1", tier="edge", timestamp_ns=9)
    clocks = {point.tags["cpu"]: point.fields["frequency_hertz"] for point in points if "cpu" in point.tags}
    assert clocks == {"0": 1.5e9, "1": 2.4e9}
    (memory,) = [point for point in points if point.measurement == "tierwise_memory"]
    status = Path("/proc/self/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024
    assert memory.fields["resident_bytes"] == pytest.approx(resident, rel=0.1)


def test_what_is_written_is_what_is_documented(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("cpu MHz : 1500\n")
    _, points = observed()
    written = [
        *points.end(interval_s=1.0, timestamp_ns=1)(),
        *machine_points(CpuFrequency(tmp_path, cpuinfo), service_id="s", tier="edge", timestamp_ns=1),
    ]
    assert {point.measurement for point in written} == FIELDS.keys()
    for point in written:
        assert set(point.tags) == set(FIELDS[point.measurement].tags)
        assert point.fields.keys() == FIELDS[point.measurement].fields.keys()
