"""Metrics: names and labels of the contract, counts that add up, text that Prometheus reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from prometheus_client.parser import text_string_to_metric_families

from tierwise.serving.cpu import CpuFrequency
from tierwise.serving.histogram import Histogram
from tierwise.serving.metrics import ServiceMetrics
from tierwise.serving.stats import Stats

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.serving.metrics import Figures

LABELS = {"model": "m", "version": "1", "tier": "edge", "transport": "mqtt"}


def figures(metrics: ServiceMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    metrics.count()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_names_and_labels_are_those_of_the_contract() -> None:
    metrics = ServiceMetrics("edge", lambda _: None)
    meter = metrics.meter("m", "1", "mqtt")
    meter.executed(2_000_000, 500_000, 1)
    meter.finished("ok", 3_000_000, 300, 120)
    meter.finished("invalid_input", 1_000_000, 20, 90)
    told = figures(metrics)
    assert told["tierwise_requests_total", frozenset({**LABELS, "code": "ok"}.items())] == 1
    assert told["tierwise_requests_total", frozenset({**LABELS, "code": "invalid_input"}.items())] == 1
    assert told["tierwise_requests_in_progress", frozenset(LABELS.items())] == 0
    for name, total, count in (
        ("request_duration_seconds", 0.004, 2),
        ("queue_duration_seconds", 0.002, 1),
        ("inference_duration_seconds", 0.0005, 1),
        ("request_size_bytes", 320, 2),
        ("response_size_bytes", 210, 2),
        ("batch_size", 1, 1),
    ):
        assert told[f"tierwise_{name}_count", frozenset(LABELS.items())] == count
        assert abs(told[f"tierwise_{name}_sum", frozenset(LABELS.items())] - total) < 1e-12
    names = {name for name, _ in told}
    assert "tierwise_build_info" in names
    assert "process_resident_memory_bytes" in names


def test_a_value_on_a_bound_belongs_to_that_bucket() -> None:
    metrics = ServiceMetrics("edge", lambda _: None)
    metrics.meter("m", "1", "mqtt").executed(1_000_000, 1_000_000, 1)
    told = figures(metrics)
    assert told["tierwise_queue_duration_seconds_bucket", frozenset({**LABELS, "le": "0.001"}.items())] == 1
    assert told["tierwise_queue_duration_seconds_bucket", frozenset({**LABELS, "le": "0.0005"}.items())] == 0


@given(hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(0, 100)))
def test_buckets_count_what_is_not_above_them(values: NDArray[np.float64]) -> None:
    histogram = Histogram((0.5, 1.0, 10.0))
    histogram.extend(values)
    expected = [("0.5", 0.5), ("1.0", 1.0), ("10.0", 10.0), ("+Inf", np.inf)]
    assert list(histogram.buckets()) == [(text, int((values <= bound).sum())) for text, bound in expected]


def test_a_thousand_observations_are_counted_without_being_asked() -> None:
    heard: list[Figures] = []
    metrics = ServiceMetrics("edge", heard.append)
    meter = metrics.meter("m", "1", "mqtt")
    for _ in range(1024):
        meter.finished("ok", 1, 1, 1)
    assert heard[0].codes == {"ok": 1024}


def test_the_json_form_has_the_same_figures() -> None:
    metrics = ServiceMetrics("edge", lambda _: None)
    metrics.meter("m", "1", "http").finished("ok", 1, 1, 1)
    metrics.count()
    family = metrics.json()["tierwise_requests"]
    assert family["type"] == "counter"
    assert family["samples"][0]["value"] == 1


def test_the_clock_comes_from_sysfs_or_cpuinfo_and_is_left_out_where_neither_tells(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    assert list(CpuFrequency(nothing, nothing).collect()) == []
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor: 0\ncpu MHz\t\t: 2400.5\n")
    (family,) = CpuFrequency(nothing, cpuinfo).collect()
    assert family.samples[0].value == 2_400_500_000
    governor = tmp_path / "cpu3" / "cpufreq"
    governor.mkdir(parents=True)
    (governor / "scaling_cur_freq").write_text("1800000\n")
    (family,) = CpuFrequency(tmp_path, cpuinfo).collect()
    assert family.samples[0].labels == {"cpu": "3"}
    assert family.samples[0].value == 1_800_000_000


def test_the_periodic_line_tells_latency_and_throughput_and_begins_anew() -> None:
    stats = Stats()
    metrics = ServiceMetrics("edge", stats.add)
    meter = metrics.meter("m", "1", "mqtt")
    for milliseconds in range(1, 101):
        meter.executed(0, 1_000_000, 1)
        meter.finished("ok", milliseconds * 1_000_000, 1, 1)
    meter.finished("invalid_input", 1_000_000, 1, 1)
    metrics.count()
    line = stats.take()
    assert (line["requests"], line["errors"]) == (101, 1)
    assert 49 <= line["request_ms"]["p50"] <= 51
    assert line["inference_ms"] == {"p50": 1.0, "p95": 1.0, "p99": 1.0}
    assert line["requests_per_s"] > 0
    assert stats.take()["requests"] == 0


def test_percentiles_are_of_requests_however_often_someone_looks() -> None:
    stats = Stats()
    metrics = ServiceMetrics("edge", stats.add)
    meter = metrics.meter("m", "1", "mqtt")
    for milliseconds in [1000] * 36 + [1] * 64:
        meter.finished("ok", milliseconds * 1_000_000, 1, 1)
        metrics.count()
    line = stats.take()
    assert line["requests"] == 100
    assert line["request_ms"]["p99"] == 1000.0


def test_a_refused_request_is_counted_and_falsifies_no_duration() -> None:
    metrics = ServiceMetrics("edge", lambda _: None)
    metrics.meter("m", "1", "http").refused("too_large")
    told = figures(metrics)
    labels = {**LABELS, "transport": "http"}
    assert told["tierwise_requests_total", frozenset({**labels, "code": "too_large"}.items())] == 1
    assert told["tierwise_request_duration_seconds_count", frozenset(labels.items())] == 0


def test_requests_that_were_not_read_to_their_end_count_as_errors_everywhere() -> None:
    heard: list[Figures] = []
    metrics = ServiceMetrics("edge", heard.append)
    meter = metrics.meter("m", "1", "http")
    meter.refused("too_large")
    metrics.count()
    assert meter.codes == {"too_large": 1}
    assert [figures.codes for figures in heard] == [{"too_large": 1}]
    assert len(heard[0].requests) == 0
