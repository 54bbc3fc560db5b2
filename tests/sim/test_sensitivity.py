"""Which constants flip which conclusions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenario.examples import MINIMAL
from tests.sim.runs import load
from tierwise.sim import simulate
from tierwise.sim.compare import compare, with_own_answers
from tierwise.sim.costs import constants_of
from tierwise.sim.results.comparison import Sensitivity, flip_grid, sensitivity_told
from tierwise.sim.sensitivity import NEITHER, Flip, flips, numbers_of, scaled, tried

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.scenario import Scenario
    from tierwise.sim import Summary
    from tierwise.sim.answers import Answers

RADIO = {
    "links.up.radio": "{tx: 300nJ/bit, source: LEAF}",
    "nodes.gateway.power": "{idle: 0W, busy: 0W, source: left out}",
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
    value, source = numbers_of(scenario)["links", "up", "radio", "tx"]
    assert value == pytest.approx(3e-7)
    assert source == "LEAF"
    assert not any(path[-1] == "accuracy" for path in numbers_of(scenario))
    assert numbers_of(scenario)["models", "anomaly", "device", "service"] == (5e6, "test")
    doubled = scaled(scenario, ("links", "up", "radio", "tx"), 2.0)
    assert numbers_of(doubled)["links", "up", "radio", "tx"][0] == pytest.approx(6e-7)
    with pytest.raises(LookupError):
        scaled(scenario, ("links", "none", "radio", "tx"), 2.0)
    with pytest.raises(AttributeError):
        scaled(scenario, ("links", "up", "radio", "colour"), 2.0)


def test_a_name_with_a_dot_is_varied_too(tmp_path: Path) -> None:
    """Ten milliseconds there and back, and the service, against five on the device."""
    dotted = MINIMAL.replace("gateway", '"gate.way"').replace("0.7ms", "20ms").replace("service: 5ms", "service: 22ms")
    device = load(tmp_path, dotted, {"placement": "device", "name": "device"})
    edge = load(tmp_path, dotted, {"name": "edge"})
    assert "nodes.gate.way.service" in tried(device, edge)
    turned = [flip for flip in flips(device, edge) if flip.constant == "nodes.gate.way.service"]
    assert [(flip.factor, flip.figure, flip.better_then) for flip in turned] == [(0.5, "mean_ms", "edge")]


NOISY = {
    "devices.sensors": "{count: 1, traffic: {pattern: poisson, rate: 2/s}, request: 1kB}",
    "links.up.latency": "0s",
    "nodes.gateway.service": "{exponential: 10ms}",
    "run.replications": "3",
}


def test_both_meet_the_comparisons_dice(tmp_path: Path) -> None:
    """They differ in their own seeds, and a little in what they do: only common dice tell which is better."""
    x = load(tmp_path, MINIMAL, NOISY | {"name": "x", "links.up.latency": "300us"})
    runs: list[tuple[str, int, int]] = []

    def run(scenario: Scenario, seed: int) -> Summary:
        runs.append((scenario.name, seed, scenario.run.replications))
        return simulate(scenario, seed=seed)

    for own in range(20, 23):
        y = load(tmp_path, MINIMAL, NOISY | {"name": "y", "run.seed": str(own)})
        compared = compare(x, y, seed=5)
        assert compared.figures["mean_ms"].significant
        assert compared.figures["mean_ms"].difference.mean < 0
        assert {flip.better for flip in flips(x, y, seed=5, compared=compared)} <= {"y"}
    flips(x, y, seed=5, run=run)
    assert {seed for _, seed, _ in runs} == {5}
    once = with_own_answers(x)(x, 5)
    assert not once.replications


def test_what_the_comparison_leaves_open_cannot_turn_round(tmp_path: Path) -> None:
    """Other dice by another name of the group: one pair of runs says which is faster, five do not."""
    x = load(tmp_path, MINIMAL, NOISY | {"name": "x"})
    other = MINIMAL.replace("sensors", "gauges")
    changes = {name.replace("sensors", "gauges"): value for name, value in NOISY.items()}
    y = load(tmp_path, other, changes | {"name": "y", "links.up.latency": "1500us"})
    compared = compare(x, y, seed=1)
    assert not compared.figures["mean_ms"].significant
    assert [flip for flip in flips(x, y, seed=1) if flip.figure == "mean_ms"]
    assert flips(x, y, seed=1, compared=compared) == []


def test_no_node_is_tried_that_draws_less_for_working(tmp_path: Path) -> None:
    scenario = load(tmp_path, MINIMAL, {"nodes.gateway.power": "{idle: 4W, busy: 6W, source: t}"})
    seen: list[tuple[float, float]] = []

    def run(one: Scenario, seed: int) -> Summary:
        power = one.nodes["gateway"].power
        assert power is not None
        seen.append((power.idle, power.busy))
        return simulate(one, seed=seed)

    flips(scenario, scenario, run=run)
    assert set(seen) == {(4, 6), (2, 6), (6, 6), (4, 4), (4, 12)}
    assert simulate(load(tmp_path, MINIMAL, {"nodes.gateway.power": "{idle: 4W, busy: 4W, source: t}"})).energy_j.total


def test_a_service_time_can_decide(tmp_path: Path) -> None:
    """Ten milliseconds there and back, and a little more, against ten on the device."""
    slow = {"models.anomaly.device.service": "{uniform: [8ms, 12ms]}"}
    device = load(tmp_path, MINIMAL, slow | {"placement": "device", "name": "device"})
    edge = load(tmp_path, MINIMAL, slow | {"placement": "edge", "name": "edge"})
    found = {(flip.constant, flip.factor, flip.value) for flip in flips(device, edge) if flip.figure == "mean_ms"}
    assert found == {("models.anomaly.device.service", 2.0, 1e7), ("links.up.latency", 0.5, 5e6)}


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

    def run(scenario: Scenario, seed: int) -> Summary:
        runs.append(scenario.name)
        return simulate(scenario, seed=seed)

    flips(one, other, run=run)
    assert len(runs) == 2 + 2 * 2 * len(tried(one, other))
    assert not any(path[0] == "carbon" for path in numbers_of(one))


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
        doubled = scaled(scenario, ("models", "anomaly", "edge", "service"), 2.0)
        assert doubled.models["anomaly"].edge.service.mean == pytest.approx(  # type: ignore[union-attr]
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


PLANT = """\
tierwise: 1
run: {duration: 20s, warm_up: 5s}
devices:
  sensors: {count: 200, request: 1kB, answer: 100B, timeout: 1s, traffic: {pattern: periodic, period: 1s}}
links:
  wifi: {from: sensors, to: gateway, latency: 3ms, bandwidth: 20Mbit/s}
  wan: {from: gateway, to: cloud, latency: {lognormal: {median: 40ms, sigma: 0.4}}}
nodes: {gateway: {tier: edge, service: 4ms}, cloud: {tier: cloud, workers: 4, service: 2ms}}
models: {anomaly: {edge: {accuracy: 0.95, source: measured}, cloud: {accuracy: 0.99, source: measured}}}
placement: edge
"""


def test_a_doubled_service_time_that_drowns_the_gateway_is_found(tmp_path: Path) -> None:
    """8 ms for 200 requests a second are more than a second a second: whatever still arrives is no advantage."""
    edge = load(tmp_path, PLANT, {"name": "edge"})
    cloud = load(tmp_path, PLANT, {"name": "cloud", "placement": "cloud"})
    assert set(tried(edge, cloud)) == {
        "links.wan.latency", "links.wifi.bandwidth", "links.wifi.latency", "nodes.cloud.service",
        "nodes.gateway.service",
    }  # fmt: skip
    told: list[tuple[int, int]] = []
    found = flips(edge, cloud, on_progress=lambda done, of: told.append((done, of)))
    assert [(flip.constant, flip.factor, flip.figure, flip.better, flip.better_then) for flip in found] == [
        ("nodes.gateway.service", 2.0, "answered_share", NEITHER, "cloud")
    ]
    assert told == [(number, 10) for number in range(1, 11)]
    drowned = [
        load(tmp_path, PLANT, {"nodes.gateway.service": "8ms", "name": n, "placement": n}) for n in ("edge", "cloud")
    ]
    rescued = {(flip.constant, flip.factor, flip.figure, flip.better_then) for flip in flips(drowned[0], drowned[1])}
    assert ("nodes.gateway.service", 0.5, "mean_ms", "edge") in rescued


def test_what_was_tried_is_named(tmp_path: Path) -> None:
    edge = load(tmp_path, PLANT, {"name": "edge"})
    told = sensitivity_told(Sensitivity(tried(edge, edge), []))
    assert told.startswith("Tried, each halved and doubled in both: links.wan.latency, links.wifi.bandwidth, ")
    assert "None of them changes" in told
    assert "no constant to vary" in sensitivity_told(Sensitivity([], []))
    bare = PLANT.replace("latency: 3ms, bandwidth: 20Mbit/s", "loss: 1%").replace(
        "latency: {lognormal: {median: 40ms, sigma: 0.4}}", "loss: 0"
    )
    none = load(tmp_path, bare.replace("4ms", "0s").replace("2ms", "0s"))
    assert tried(none, none) == []


def test_energy_that_is_not_stated_decides_nothing(tmp_path: Path) -> None:
    powered = {"nodes.gateway.power": "{idle: 2W, busy: 6W, source: t}"}
    edge = load(tmp_path, PLANT, powered | {"name": "edge"})
    cloud = load(tmp_path, PLANT, {"name": "cloud", "placement": "cloud"})
    assert not [flip for flip in flips(edge, cloud) if flip.figure == "energy_j"]


def test_a_constant_that_turns_it_round_is_shown_in_its_unit() -> None:
    shown = {"nodes.a.service": 4e6, "links.a.bandwidth": 2e7, "nodes.a.power.idle": 2.5, "nodes.a.price.per_hour": 0.5}
    grid = flip_grid([Flip(path, value, "", 2.0, "mean_ms", "a", "b") for path, value in shown.items()])
    assert [row[1].text for row in grid.cells()] == ["4ms", "20 Mbit/s", "2.5 W", "0.5"]
