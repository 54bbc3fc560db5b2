"""A queue that grows until the end is an objective missed and is told, not a run in which nothing was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from tests.sim.runs import load
from tierwise.report.grid import Cell
from tierwise.sim import Summary, simulate
from tierwise.sim.results import tables
from tierwise.sim.results.words import overloads, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.scenario import Scenario
METERS = """\
tierwise: 1
run: {duration: 100s, seed: 7}
devices:
  meters: {count: 10, request: 1000B, answer: 100B, traffic: {pattern: periodic, period: 1s}}
links:
  lora: {from: meters, to: gateway, bandwidth: 800kbit/s}
nodes:
  gateway: {tier: edge, service: 1ms}
models:
  m: {edge: {accuracy: 0.9, source: test}}
placement: edge
"""


def run(
    folder: Path, changes: dict[str, str], engine: Literal["auto", "event", "vector"] = "auto"
) -> tuple[Scenario, Summary]:
    scenario = load(folder, METERS, changes)
    return scenario, simulate(scenario, engine=engine)


@pytest.mark.parametrize("engine", ["event", "vector"])
def test_an_overloaded_node_misses_the_share_answered(tmp_path: Path, engine: Literal["event", "vector"]) -> None:
    # Ten requests a second come, two can be served: what is never lost is never answered either.
    scenario, summary = run(tmp_path, {"nodes.gateway.service": "500ms", "slo.answered": "90%"}, engine)
    assert summary.dropped == {}
    assert summary.answered_share == pytest.approx(0.2, abs=0.15)
    assert summary.slo == {"answered": False}
    (told,) = overloads(scenario, summary)
    assert told.startswith("Node gateway is overloaded: 8")
    assert told in verdict(scenario, summary)


def test_an_overloaded_link_is_told_to_be_shared(tmp_path: Path) -> None:
    scenario, summary = run(tmp_path, {"links.lora.bandwidth": "8kbit/s"})
    assert [told.partition(" is ")[0] for told in overloads(scenario, summary)] == ["Link lora up"]
    assert "shared: false" in verdict(scenario, summary)
    _, alone = run(tmp_path, {"links.lora.bandwidth": "8kbit/s", "links.lora.shared": "false"})
    assert alone.answered > 5 * summary.answered


def test_a_latency_objective_counts_those_that_waited_longer_than_it(tmp_path: Path) -> None:
    # The first second's requests are answered within it, all others wait: the median of the answers alone would do.
    burst = {
        "devices.meters.traffic": "{pattern: burst, period: 100s, size: 10, phase: same}",
        "nodes.gateway.service": "1s",
        "run.duration": "20s",
    }
    _, summary = run(tmp_path, burst | {"slo.p50": "12s"})
    assert summary.end_to_end_ms is not None
    assert summary.end_to_end_ms.p50 < 12_000
    assert summary.slo == {"p50": False}


def test_what_was_just_made_is_not_held_against_a_run(tmp_path: Path) -> None:
    scenario, summary = run(tmp_path, {"links.lora.latency": "900ms", "slo.answered": "100%", "slo.p99": "2s"})
    assert summary.in_flight > 0
    assert summary.answered_share == 1
    assert summary.slo == {"p99": True, "answered": True}
    assert overloads(scenario, summary) == []


@pytest.mark.parametrize("engine", ["event", "vector"])
def test_a_run_shorter_than_an_objective_does_not_judge_it(tmp_path: Path, engine: Literal["event", "vector"]) -> None:
    # 200 of 1,000 are answered, and nobody waits for as long as the objective allows: neither met nor missed.
    changes = {"nodes.gateway.service": "500ms", "slo.answered": "90%", "slo.p99": "200s"}
    scenario, summary = run(tmp_path, changes, engine)
    assert summary.slo == {"p99": None, "answered": None}
    assert summary.answered_share is None
    assert summary.not_judged == {"p99": summary.in_flight, "answered": summary.in_flight}
    told = verdict(scenario, summary)
    assert "Not judged: p99" in told
    assert f"{summary.in_flight} requests that were under way at the end are not judged." in told
    assert " met: " not in told
    grid = tables.objectives(scenario, summary)
    assert grid is not None
    assert [row[-1].text for row in grid.rows if isinstance(row[-1], Cell)] == ["not judged", "not judged"]


def test_an_objective_that_most_could_not_reach_yet_is_not_judged(tmp_path: Path) -> None:
    # Those of the first ten seconds had the time, and are answered; all others wait for less.
    _, summary = run(tmp_path, {"nodes.gateway.service": "500ms", "slo.p50": "90s"})
    assert summary.slo == {"p50": None}
    _, patient = run(tmp_path, {"nodes.gateway.service": "500ms", "slo.p50": "40s"})
    assert patient.slo == {"p50": False}


def test_what_is_not_judged_is_told_beside_what_is_met(tmp_path: Path) -> None:
    scenario, summary = run(tmp_path, {"links.lora.latency": "900ms", "slo.p99": "2s", "slo.accuracy": "80%"})
    assert summary.slo == {"p99": True, "accuracy": True}
    assert summary.not_judged == {"p99": summary.in_flight}
    assert f"{summary.in_flight} requests that were under way at the end are not judged." in verdict(scenario, summary)


def test_a_run_without_requests_judges_nothing_that_needs_one(tmp_path: Path) -> None:
    changes = {"devices.meters.traffic": "{pattern: poisson, rate: 1/s, start: 99.9999s}", "devices.meters.count": "1"}
    scenario, summary = run(tmp_path, changes | {"slo.p99": "1s", "slo.answered": "90%", "slo.accuracy": "80%"})
    assert summary.requests == 0
    assert set(summary.slo.values()) == {None}
    assert "Not judged: " in verdict(scenario, summary)
