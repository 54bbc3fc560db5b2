"""The example scenarios give their golden outputs. ``python -m tests.sim.test_examples`` writes them anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tierwise.scenario import load_scenario
from tierwise.sim import Summary, simulate
from tierwise.sim.vector import why_not_vectorised

EXAMPLES = Path(__file__).parents[2] / "examples" / "scenarios"
GOLDEN = EXAMPLES / "golden.json"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


def run(name: str) -> Summary:
    return simulate(load_scenario(EXAMPLES / f"{name}.yaml"))


def golden(summary: Summary) -> dict[str, Any]:
    """What is kept of a run."""
    latency = summary.end_to_end_ms
    return {
        "engine": summary.engine,
        "requests": summary.requests,
        "answered": summary.answered,
        "in_flight": summary.in_flight,
        "dropped": summary.dropped,
        "by_tier": {name: tier.answered for name, tier in summary.by_tier.items()},
        "p50_ms": None if latency is None else round(latency.p50, 6),
        "p99_ms": None if latency is None else round(latency.p99, 6),
        "accuracy": None if summary.accuracy is None else round(summary.accuracy, 9),
        "energy_j": round(summary.energy_j.total, 6),
        "cost": round(summary.cost.total, 9),
        "slo": summary.slo,
        "trace_sha256": summary.trace_sha256,
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_example_gives_its_golden_output(name: str) -> None:
    assert golden(run(name)) == json.loads(GOLDEN.read_text(encoding="utf-8"))[name]


def test_there_are_at_least_six() -> None:
    assert len(NAMES) >= 6


def test_what_the_descriptions_promise_is_so() -> None:
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))
    factory = expected["factory-vibration"]
    assert factory["by_tier"]["edge"] < factory["answered"] / 3
    assert factory["p50_ms"] < 10
    assert all(factory["slo"].values())
    cameras = expected["city-cameras"]
    assert cameras["by_tier"]["cloud"] / cameras["answered"] == pytest.approx(0.2, abs=0.01)
    assert run("city-cameras").nodes["district"].mean_batch > 2
    assert run("nb-iot-batteries").silent_devices > 0
    wan = expected["flaky-wan"]
    assert wan["answered"] + wan["in_flight"] == wan["requests"]
    assert wan["by_tier"]["edge"] > 1000
    few = simulate(load_scenario(EXAMPLES / "fleet-growth.yaml", {"devices.sensors.count": "1000"}))
    assert few.by_tier["edge"].answered > 0.95 * few.answered
    assert expected["fleet-growth"]["by_tier"]["cloud"] > 0.15 * expected["fleet-growth"]["answered"]
    profiled = run("anomaly-profiled")
    assert profiled.by_tier["edge"].breakdown_ms is not None
    assert profiled.by_tier["edge"].breakdown_ms.inference < 0.02 * expected["anomaly-profiled"]["p50_ms"]
    device = simulate(load_scenario(EXAMPLES / "anomaly-profiled.yaml", {"placement": "device"}))
    assert device.energy_j.device_active < profiled.energy_j.device_active / 1000


def test_the_earlier_forms_placement_does_something() -> None:
    path = EXAMPLES / "earlier-form.yaml"
    cloud, edge = simulate(load_scenario(path)), simulate(load_scenario(path, {"ml_inference.placement": "edge"}))
    assert set(cloud.by_tier) == {"cloud"}
    assert set(edge.by_tier) == {"edge"}
    assert cloud.end_to_end_ms is not None
    assert edge.end_to_end_ms is not None
    assert cloud.end_to_end_ms.p50 - edge.end_to_end_ms.p50 == pytest.approx(100)
    assert not why_not_vectorised(load_scenario(path))


if __name__ == "__main__":
    found = {name: golden(run(name)) for name in NAMES}
    GOLDEN.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
