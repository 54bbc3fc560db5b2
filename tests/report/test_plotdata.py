"""What the plots show is what the trace says, however long it is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.traces import live_trace

from tierwise.report.plotdata import MAX_CURVE_POINTS, MAX_TIMELINE_POINTS, confusion, plot_data
from tierwise.report.summary import end_to_end_us


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=60))
def test_every_latency_is_in_a_bin_and_under_the_curve(latencies_us: list[int]) -> None:
    template = live_trace(requests=1)[0]
    rows = [
        msgspec.structs.replace(template, request_id=str(number), answered_us=template.created_us + time)
        for number, time in enumerate(latencies_us)
    ]
    data = plot_data(rows)
    [tier] = data.tiers

    assert sum(tier.share_by_bin) == pytest.approx(100, rel=1e-4)
    assert len(data.bins_ms) == len(tier.share_by_bin) + 1
    assert tier.cumulative.y[-1] == 100
    assert tier.cumulative.x == sorted(tier.cumulative.x)
    assert tier.cumulative.y == sorted(tier.cumulative.y)
    assert tier.cumulative.x[-1] == pytest.approx(max(1, *latencies_us, 0) / 1000, rel=1e-5)


def test_a_long_trace_keeps_its_outliers() -> None:
    rows = [row for row in live_trace(requests=20_000) if row.tier == "edge"]
    worst = rows[12_345] = msgspec.structs.replace(rows[12_345], answered_us=rows[12_345].created_us + 987_654)
    [tier] = plot_data(rows).tiers

    assert len(tier.timeline.x) <= MAX_TIMELINE_POINTS
    assert len(tier.cumulative.x) <= MAX_CURVE_POINTS
    assert max(tier.timeline.y) == max(tier.cumulative.x) == 987.654
    position = tier.timeline.y.index(987.654)
    assert tier.timeline.x[position] == pytest.approx((worst.created_us - rows[0].created_us) / 1e6, abs=1e-3)


def test_failures_are_on_the_time_axis_only() -> None:
    rows = live_trace(requests=50, lost=10)
    edge, cloud = plot_data(rows).tiers
    assert (edge.name, cloud.name) == ("edge", "cloud")
    assert len(edge.lost_s) == 10
    assert len(edge.timeline.x) == 40
    assert cloud.lost_s == []
    assert max(edge.lost_s) == pytest.approx(49 * 0.02)


def test_the_timeline_is_the_trace() -> None:
    rows = [row for row in live_trace(requests=30) if row.tier == "cloud"]
    [tier] = plot_data(rows).tiers
    assert tier.timeline.y == pytest.approx([(end_to_end_us(row) or 0) / 1000 for row in rows], rel=1e-5)
    assert tier.timeline.x == pytest.approx([number * 0.02 for number in range(30)])


def test_confusion_counts_truth_against_label() -> None:
    base = live_trace(requests=1)[0]
    pairs = [("2", "2"), ("2", "10"), ("10", "10"), ("10", "10"), (None, "2"), ("2", None)]
    matrix = confusion(msgspec.structs.replace(base, truth=truth, label=label) for truth, label in pairs)
    assert matrix is not None
    assert matrix.classes == ["2", "10"]
    assert matrix.counts == [[1, 1], [0, 2]]
    assert confusion([]) is None
