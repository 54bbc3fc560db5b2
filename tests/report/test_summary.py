"""The figures of a trace against values worked out by hand, and what must hold for any trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.traces import device_trace, live_trace

from tierwise.core.trace import TraceRow, read_trace_csv, write_trace_csv
from tierwise.report.summary import TierFacts, as_json, summarise

if TYPE_CHECKING:
    import random
    from pathlib import Path


def row(number: int, tier: str = "edge", **changes: object) -> TraceRow:
    """A request created at 1 s: 100 µs up, 20 µs queue, 80 µs inference, 300 µs down; 500 µs in all."""
    fields = {
        "request_id": f"r{number}", "device_id": "d", "model": "m", "tier": tier, "outcome": "answered",
        "created_us": 1_000_000, "sent_us": 1_000_000, "arrived_us": 1_000_100, "started_us": 1_000_120,
        "finished_us": 1_000_200, "answered_us": 1_000_500, "bytes_up": 60, "bytes_down": 40,
        "label": "a", "truth": "a", "inference_us": 80.0,
    }  # fmt: skip
    return TraceRow(**{**fields, **changes})  # type: ignore[arg-type]  # the tests name the fields


def test_figures_worked_out_by_hand() -> None:
    rows = [
        row(1),
        row(2, answered_us=1_000_700, label="b"),  # 700 µs, wrong
        row(3, outcome="timeout", answered_us=None, label=None, bytes_down=0),
        row(4, outcome="overloaded", label=None, bytes_down=20),
    ]
    edge = summarise(rows).tiers["edge"]

    assert (edge.requests, edge.answered, edge.errors) == (4, 2, 2)
    assert edge.errors_by_outcome == {"overloaded": 1, "timeout": 1}
    assert edge.accuracy == 0.5
    assert edge.bytes_per_request == (100 + 100 + 60 + 80) / 4
    # linear between two values: p50 is the middle, p95 is 95 % of the way
    assert edge.end_to_end_ms.p50 == pytest.approx(0.6)
    assert edge.end_to_end_ms.p95 == pytest.approx(0.5 + 0.95 * 0.2)
    assert edge.inference_ms.p99 == pytest.approx(0.08)
    # 1200 µs in all, 200 of them in the tier
    assert edge.network_share == pytest.approx(1000 / 1200)
    assert edge.network_share_measured == edge.network_share
    assert edge.network_share_configured == 0
    assert edge.breakdown_ms is not None
    assert edge.breakdown_ms.queue == pytest.approx(0.02)
    assert edge.breakdown_ms.inference == pytest.approx(0.08)
    assert edge.breakdown_ms.network == pytest.approx(0.5)
    assert edge.breakdown_ms.total == pytest.approx(0.6)


def test_on_the_sensors_own_board_the_inference_is_all_there_is() -> None:
    facts = {"device": TierFacts("firmware", "model-int8.tflite", "modelled", "a-board", 1584.0)}
    device = as_json(summarise(device_trace(requests=7), facts=facts))["tiers"]["device"]

    assert device["end_to_end_ms"] == device["inference_ms"] == {"p50": 0.015365, "p95": 0.015365, "p99": 0.015365}
    assert device["breakdown_ms"] == {"queue": 0, "inference": 0.015365, "network": 0, "configured": 0}
    assert (device["network_share"], device["bytes_per_request"]) == (0, 0)
    assert device["energy_mj"] == pytest.approx(0.015365e-3 * 41.6, abs=1e-9)
    assert (device["basis"], device["board"], device["instructions"]) == ("modelled", "a-board", 1584)


def test_answers_without_any_time_still_count() -> None:
    device = as_json(summarise(device_trace(requests=8, counted=False)))["tiers"]["device"]

    assert (device["answered"], device["errors"]) == (8, 0)
    assert device["accuracy"] is not None
    assert device["end_to_end_ms"] == device["inference_ms"] == {"p50": None, "p95": None, "p99": None}
    assert device["energy_mj"] is device["breakdown_ms"] is device["network_share"] is None


def test_a_configured_delay_is_never_counted_as_measured() -> None:
    cloud = summarise([row(1, "cloud", answered_us=1_100_500, configured_delay_us=100_000)]).tiers["cloud"]

    assert cloud.configured_delay_ms == 100
    assert cloud.breakdown_ms is not None
    assert cloud.breakdown_ms.network == pytest.approx(0.4)
    assert cloud.network_share == pytest.approx((100_500 - 100) / 100_500)
    assert cloud.network_share_measured == pytest.approx(400 / 100_500)
    assert cloud.network_share_configured == pytest.approx(100_000 / 100_500)


def test_a_tier_that_tells_no_instants_leaves_its_queue_in_the_network() -> None:
    blind = row(1, arrived_us=None, started_us=None, finished_us=None)
    edge = summarise([blind]).tiers["edge"]

    assert edge.network_share == pytest.approx(420 / 500)
    assert edge.breakdown_ms is not None
    assert edge.breakdown_ms.queue == 0
    assert edge.inference_ms.p50 == pytest.approx(0.08)


def test_inference_is_the_difference_of_the_instants_where_it_was_not_told() -> None:
    assert summarise([row(1, inference_us=None)]).tiers["edge"].inference_ms.p50 == pytest.approx(0.08)


def test_agreement_counts_samples_that_every_tier_answered() -> None:
    rows = [
        row(1), row(1, "cloud"),
        row(2), row(2, "cloud", label="b"),
        row(3), row(3, "cloud", outcome="timeout", label=None),
        row(4),
    ]  # fmt: skip
    summary = summarise(rows)

    assert summary.agreement == 0.5
    assert summary.compared == 2
    assert summarise([row(1)]).agreement is None
    assert summarise([row(1), row(1, "cloud", label=None)]).agreement is None


def test_a_tier_without_an_answer_has_no_latency_and_no_accuracy() -> None:
    lost = row(1, outcome="timeout", answered_us=None, label=None, inference_us=None)
    edge = as_json(summarise([lost]))["tiers"]["edge"]

    assert edge["end_to_end_ms"] == {"p50": None, "p95": None, "p99": None}
    assert edge["accuracy"] is None
    assert edge["network_share"] is None
    assert edge["errors"] == 1


def test_tiers_stand_in_order_from_the_sensor_outwards() -> None:
    tiers = summarise([row(1, name) for name in ("fog", "cloud", "device", "edge")]).tiers
    assert list(tiers) == ["device", "edge", "cloud", "fog"]


def test_figures_of_different_models_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="exactly one model"):
        summarise([row(1), row(2, model="other")])
    with pytest.raises(ValueError, match="no rows"):
        summarise([])


def test_json_has_the_documented_form() -> None:
    facts = {"device": TierFacts("firmware", "model-int8.tflite", "modelled")}
    figures = as_json(summarise([*live_trace(requests=20), row(1, "device", model="anomaly-detector")], facts=facts))

    assert {"model", "agreement", "tiers"} <= set(figures)
    assert set(figures["tiers"]) == {"device", "edge", "cloud"}
    documented = {
        "requests", "answered", "errors", "accuracy", "inference_ms", "end_to_end_ms", "bytes_per_request",
        "network_share",
    }  # fmt: skip
    for tier in figures["tiers"].values():
        assert documented <= set(tier)
        assert set(tier["inference_ms"]) == set(tier["end_to_end_ms"]) == {"p50", "p95", "p99"}
    assert figures["tiers"]["device"]["basis"] == "modelled"
    assert figures["tiers"]["edge"]["basis"] == "measured"


def test_a_trace_file_gives_the_same_figures(tmp_path: Path) -> None:
    rows = live_trace(lost=3)
    write_trace_csv(rows, tmp_path / "trace.csv")
    assert summarise(read_trace_csv(tmp_path / "trace.csv")) == summarise(rows)


OUTCOMES = st.sampled_from(["answered", "answered", "answered", "timeout", "overloaded"])


@st.composite
def traces(draw: st.DrawFn) -> list[TraceRow]:
    """Requests with any times, each part up to a minute."""
    spans = st.integers(0, 60_000_000)
    rows = []
    for number in range(draw(st.integers(1, 20))):
        for tier in draw(st.sets(st.sampled_from(["device", "edge", "cloud"]), min_size=1)):
            created, outcome = draw(st.integers(0, 2**50)), draw(OUTCOMES)
            up, queue, inference, down, delay = (draw(spans) for _ in range(5))
            arrived = created + up
            answered = arrived + queue + inference + down + delay if outcome == "answered" else None
            rows.append(
                row(
                    number,
                    tier,
                    outcome=outcome,
                    created_us=created,
                    arrived_us=arrived,
                    started_us=arrived + queue,
                    finished_us=arrived + queue + inference,
                    answered_us=answered,
                    inference_us=float(inference),
                    configured_delay_us=delay,
                    label=draw(st.sampled_from(["a", "b"])),
                )
            )
    return rows


@given(traces(), st.randoms(use_true_random=False))
def test_what_holds_for_any_trace(rows: list[TraceRow], shuffler: random.Random) -> None:
    summary = summarise(rows)
    shuffled = rows.copy()
    shuffler.shuffle(shuffled)

    assert summarise(shuffled) == summary
    assert summary.agreement is None or 0 <= summary.agreement <= 1
    assert sum(tier.requests for tier in summary.tiers.values()) == len(rows)
    for name, tier in summary.tiers.items():
        assert tier.answered + tier.errors == tier.requests
        assert sum(tier.errors_by_outcome.values()) == tier.errors
        times = [
            (item.answered_us - item.created_us) / 1000
            for item in rows
            if item.tier == name and item.answered_us is not None and item.outcome == "answered"
        ]
        latency = tier.end_to_end_ms
        if not times:
            assert latency.p50 is None
            continue
        assert latency.p50 is not None
        assert latency.p95 is not None
        assert latency.p99 is not None
        slack = 1e-9 * max(times)
        assert min(times) - slack <= latency.p50 <= latency.p95 + slack
        assert latency.p95 - slack <= latency.p99 <= max(times) + slack
        assert tier.breakdown_ms is not None
        assert tier.breakdown_ms.total == pytest.approx(sum(times) / len(times))
        if tier.network_share is not None:
            assert tier.network_share_measured is not None
            assert tier.network_share_configured is not None
            assert -1e-9 <= tier.network_share <= 1 + 1e-9
            assert tier.network_share == pytest.approx(tier.network_share_measured + tier.network_share_configured)
