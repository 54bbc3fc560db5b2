"""Which constants flip which conclusions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenario.examples import MINIMAL
from tests.sim.runs import load
from tierwise.sim import simulate
from tierwise.sim.compare import compare
from tierwise.sim.costs import constants_of
from tierwise.sim.sensitivity import flips, numbers_of, scaled

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.scenario import Scenario
    from tierwise.sim import Summary
    from tierwise.sim.answers import Answers

RADIO = {
    "links.up.radio": "{tx: 300nJ/bit, source: LEAF}",
    "devices.sensors.board": "{active_power: 600mW, source: sheet}",
}


def test_the_radio_constant_decides_where_to_compute(tmp_path: Path) -> None:
    """A kilobyte costs 2.4 mJ to send; five milliseconds of computing at 600 mW cost 3 mJ."""
    device = load(tmp_path, MINIMAL, RADIO | {"placement": "device", "name": "device"})
    edge = load(tmp_path, MINIMAL, RADIO | {"placement": "edge", "name": "edge"})
    found = {(flip.constant, flip.factor): flip for flip in flips(device, edge) if flip.figure == "energy_j"}
    assert set(found) == {
        ("links.up.radio.tx", 2.0),
        ("devices.sensors.board.active_power", 0.5),
        ("models.anomaly.device.service", 0.5),
    }
    flip = found["links.up.radio.tx", 2.0]
    assert (flip.better, flip.better_then, flip.source) == ("edge", "device", "LEAF")


def test_every_number_with_a_source_is_tried(tmp_path: Path) -> None:
    scenario = load(tmp_path, MINIMAL, RADIO)
    value, source = numbers_of(scenario)["links.up.radio.tx"]
    assert value == pytest.approx(3e-7)
    assert source == "LEAF"
    assert not any(path.endswith("accuracy") for path in numbers_of(scenario))
    assert numbers_of(scenario)["models.anomaly.device.service"] == (5e6, "test")
    doubled = scaled(scenario, ["links", "up", "radio", "tx"], 2.0)
    assert numbers_of(doubled)["links.up.radio.tx"][0] == pytest.approx(6e-7)  # type: ignore[arg-type]  # a scenario
    assert scaled(scenario, ["links", "none", "radio", "tx"], 2.0) is scenario


def test_a_service_time_can_decide(tmp_path: Path) -> None:
    """Ten milliseconds there and back against five on the device."""
    slow = {"models.anomaly.device.service": "{uniform: [8ms, 12ms]}"}
    device = load(tmp_path, MINIMAL, slow | {"placement": "device", "name": "device"})
    edge = load(tmp_path, MINIMAL, slow | {"placement": "edge", "name": "edge"})
    found = {(flip.constant, flip.factor, flip.value) for flip in flips(device, edge) if flip.figure == "mean_ms"}
    assert found == {("models.anomaly.device.service", 2.0, 1e7)}


def test_what_is_alike_is_no_conclusion(tmp_path: Path) -> None:
    """Neither costs anything until a price is doubled; carbon is no figure that is compared."""
    priced = {
        "nodes.gateway.price": "{per_hour: 1, source: a}",
        "nodes.cloud.price": "{per_hour: 1, source: b}",
        "carbon": "{intensity: 300g/kWh, source: c}",
    }
    one, other = (load(tmp_path, MINIMAL, priced | {"name": name}) for name in ("one", "other"))
    assert flips(one, other) == []
    runs: list[str] = []

    def run(scenario: Scenario) -> Summary:
        runs.append(scenario.name)
        return simulate(scenario)

    flips(one, other, run)
    assert len(runs) == 2 + 2 * 2 * len(numbers_of(one))
    assert not any(path.startswith("carbon") for path in numbers_of(one))


def test_constants_are_listed_as_the_scenario_writes_them(tmp_path: Path) -> None:
    text = "{service: %s, confidence: {normal: {mean: 0.9, sd: 0.1}}, accuracy: 0.9, source: MLPerf}"
    for service in (
        "5260us",
        "{exponential: 2ms}",
        "{uniform: [1ms, 3ms]}",
        "{normal: {mean: 3ms, sd: 1ms}}",
        "{lognormal: {median: 5ms, sigma: 0.3}}",
        "{pareto: {minimum: 1ms, shape: 2.5}}",
        "{empirical: [1ms, 2ms]}",
    ):
        scenario = load(tmp_path, MINIMAL, {"models.anomaly.edge": text % service})
        listed = {constant.path: constant.value for constant in constants_of(scenario)}["models.anomaly.edge"]
        assert listed["service"] == service
        assert listed["confidence"] == "{normal: {mean: 0.9, sd: 0.1}}"
        doubled = scaled(scenario, ["models", "anomaly", "edge", "service"], 2.0)
        assert doubled.models["anomaly"].edge.service.mean == pytest.approx(  # type: ignore[attr-defined]
            2 * scenario.models["anomaly"].edge.service.mean  # type: ignore[union-attr]
        )
    many = load(tmp_path, MINIMAL, {"models.anomaly.edge": text % f"{{empirical: [{', '.join(['1ms'] * 20)}]}}"})
    written = next(constant.value["service"] for constant in constants_of(many) if constant.path.endswith("edge"))
    assert written == f"{{empirical: [{'1ms, ' * 8}…]}}"


def test_models_answer_once_however_often_a_scenario_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def computed(scenario: Scenario) -> dict[tuple[str, str], Answers]:
        asked.append(scenario.name)
        return {}

    monkeypatch.setattr("tierwise.sim.answers.compute_answers", computed)
    one, other = (load(tmp_path, MINIMAL, {"name": name}) for name in ("one", "other"))
    compare(one, other)
    assert asked == ["one", "other"]
    flips(one, other)
    assert asked == ["one", "other"] * 2
