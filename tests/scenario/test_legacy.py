"""The earlier three-section form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.runs import trace_of
from tierwise.scenario import Scenario, ScenarioError, load_scenario
from tierwise.scenario.document import parse_document
from tierwise.scenario.loader import build_scenario
from tierwise.scenario.topology import route
from tierwise.sim import simulate
from tierwise.sim.plan import build_plan

if TYPE_CHECKING:
    from pathlib import Path

LEGACY = """\
simulation:
  duration_s: 10
  seed: 42
  time_quantum_us: 1000
network:
  model: latency
  default_latency_us: 10000
  default_loss_rate: 0.0
  links:
    - {src: sensor1, dst: gateway, latency_us: 5000, loss_rate: 0.1}
nodes:
  - {id: sensor1, type: sensor, implementation: python_model, config: {sensor_type: vibration, sample_rate_hz: 4}}
  - {id: sensor2, type: sensor, port: 5002}
  - {id: gateway, type: gateway, port: 5003}
ml_inference:
  placement: cloud
  edge_config: {model_path: models/a.onnx, broker_host: localhost, broker_port: 1883}
  cloud_config: {model_path: models/a.pt, latency_ms: 50, threshold: 0.7}
"""
# The shapes of the earlier simulator's own files, stage by stage.
BASELINE = """\
simulation: {duration_s: 10, seed: 42, time_quantum_us: 1000}
nodes:
  - {id: sensor1, type: sensor_model, port: 5001}
  - {id: sensor2, type: sensor_model, port: 5002}
  - {id: sensor3, type: sensor_model, port: 5003}
  - {id: gateway, type: gateway_model, port: 5004}
"""
EMULATED = """\
simulation: {duration_s: 10.0, seed: 42, time_quantum_us: 1000000}
network:
  model: latency
  default_latency_us: 10000
  links:
    - {src: sensor_device, dst: gateway, latency_us: 5000}
    - {src: gateway, dst: cloud, latency_us: 30000}
nodes:
  - {id: sensor_device, type: renode, implementation: renode_inprocess, platform: p.repl, firmware: f.elf,
     monitor_port: 9999, working_dir: /tmp/x, seed: 42}
  - {id: gateway, type: gateway, implementation: python_model, port: 5001}
  - {id: cloud, type: cloud, implementation: python_model, port: 5002}
ml_inference: {placement: cloud}
"""
ALONE = """\
simulation: {duration_s: 2.0, seed: 42, time_quantum_us: 1000000}
nodes:
  - {id: sensor_device, type: renode, implementation: renode_inprocess, monitor_port: 9999}
"""
BROKERED = """\
simulation: {duration_s: 60, seed: 42, time_quantum_us: 1000}
ml_inference:
  placement: cloud
  cloud_config: {model_path: m.pt, broker_host: localhost, broker_port: 1883, latency_ms: 50, threshold: 0.5}
nodes:
  - {id: broker1, type: mqtt_broker, implementation: docker, port: 5003, docker: {ports: {1883: 1883}}}
  - {id: sensor1, type: sensor, port: 5001, config: {sensor_type: vibration, sample_rate_hz: 10, noise_level: 0.1}}
  - {id: gateway1, type: gateway, port: 5002, config: {forward_to_cloud: true}}
network:
  model: latency
  default_latency_us: 1000
  links:
    - {src: sensor1, dst: gateway1, latency_us: 500}
    - {src: gateway1, dst: broker1, latency_us: 100}
"""


def loaded(text: str, folder: Path) -> Scenario:
    return build_scenario(parse_document(text, "f"), folder, "f")


def way_ms(scenario: Scenario, device: str, tier: str) -> float:
    """One way from a device to the node that answers it."""
    group = next(name for name, group in scenario.devices.items() if device in (group.names or [name]))
    way = route(scenario, group, tier)
    assert way is not None
    return sum(scenario.links[name].latency.mean for name in way[0]) / 1e6


def problems(folder: Path, text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        loaded(text, folder)
    return str(caught.value)


def test_it_loads_and_its_placement_decides(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(LEGACY)
    scenario = load_scenario(path)
    assert scenario.run.duration == 10 * 10**9
    assert scenario.run.seed == 42
    assert scenario.rule("sensor1") == "cloud"
    assert way_ms(scenario, "sensor1", "edge") == 5
    assert way_ms(scenario, "sensor2", "edge") == 10
    assert way_ms(scenario, "sensor1", "cloud") == 55
    assert [link.loss for link in scenario.links.values()] == [0.1, 0, 0]
    assert scenario.models["model"].threshold == 0.7
    traffic = scenario.traffic_of("sensor1")
    assert traffic.pattern == "periodic"
    assert traffic.period == 250_000_000


def test_direct_networks_have_no_delay_and_the_edge_is_the_default(tmp_path: Path) -> None:
    scenario = loaded(BASELINE, tmp_path)
    assert build_plan(scenario).names == ["sensor1", "sensor2", "sensor3"]
    assert way_ms(scenario, "sensor2", "edge") == 0
    summary = simulate(scenario)
    assert summary.by_tier["edge"].answered == summary.requests == 30


def test_emulated_sensors_and_clouds_of_the_file(tmp_path: Path) -> None:
    scenario = loaded(EMULATED, tmp_path)
    assert way_ms(scenario, "sensor_device", "edge") == 5
    assert way_ms(scenario, "sensor_device", "cloud") == 35
    assert simulate(scenario).by_tier["cloud"].answered == 10


def test_a_gateway_and_a_cloud_are_there_in_any_case(tmp_path: Path) -> None:
    assert simulate(loaded(ALONE, tmp_path)).by_tier["edge"].answered == 2
    clash = loaded(ALONE.replace("sensor_device", "gateway"), tmp_path)
    assert set(clash.nodes) == {"gateway-2", "cloud"}


def test_a_broker_serves_nobody_wherever_it_stands(tmp_path: Path) -> None:
    for placement, tier, ms in (("cloud", "cloud", 50.6), ("edge", "edge", 0.5)):
        scenario = loaded(BROKERED.replace("placement: cloud", f"placement: {placement}"), tmp_path)
        assert set(scenario.nodes) == {"gateway1", "cloud"}
        assert way_ms(scenario, "sensor1", tier) == pytest.approx(ms)
        summary = simulate(scenario)
        assert summary.by_tier[tier].answered > 590
        assert summary.nodes["gateway1"].served == (summary.requests if tier == "edge" else 0)


def test_a_way_over_a_broker_takes_the_time_of_both_links(tmp_path: Path) -> None:
    text = BROKERED.replace("dst: gateway1, latency_us: 500", "dst: broker1, latency_us: 700, loss_rate: 0.5")
    text = text.replace("latency_us: 100}", "latency_us: 100, loss_rate: 0.5}")
    scenario = loaded(text, tmp_path)
    assert way_ms(scenario, "sensor1", "edge") == pytest.approx(0.8)
    assert scenario.links["sensors-gateway1-800us-0.75"].loss == 0.75


def test_the_gateway_is_the_one_that_the_sensors_links_name(tmp_path: Path) -> None:
    text = LEGACY.replace("- {id: sensor2, ", "- {id: other, type: gateway}\n  - {id: sensor2, ").replace(
        "placement: cloud", "placement: edge"
    )
    summary = simulate(loaded(text, tmp_path))
    assert (summary.nodes["other"].served, summary.nodes["gateway"].served > 30) == (10, True)


def test_a_sensor_may_name_a_cloud(tmp_path: Path) -> None:
    text = EMULATED.replace("{src: gateway, dst: cloud", "{src: sensor_device, dst: cloud")
    assert way_ms(loaded(text, tmp_path), "sensor_device", "cloud") == 30
    late = text.replace("{placement: cloud}", "{placement: cloud, cloud_config: {latency_ms: 7}}")
    assert way_ms(loaded(late, tmp_path), "sensor_device", "cloud") == 37


def fleet(count: int, *, linked: bool) -> str:
    """A file of ``count`` equal sensors, as a script would write it."""
    sensors = "\n".join(f"  - {{id: sensor{n}, type: sensor, port: {5001 + n}}}" for n in range(count))
    links = "".join(f"    - {{src: sensor{n}, dst: gateway, latency_us: 5000, loss_rate: 0.1}}\n" for n in range(count))
    network = "network:\n  model: latency\n  default_loss_rate: 0.1\n  default_latency_us: 5000\n"
    stated = f"  links:\n{links}" if linked else ""
    nodes = f"nodes:\n{sensors}\n  - {{id: gateway, type: gateway}}\n"
    return f"simulation: {{duration_s: 5, seed: 1}}\n{network}{stated}{nodes}"


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("count", [10, 100, 1000])
def test_the_earlier_workloads_run(tmp_path: Path, count: int, *, linked: bool) -> None:
    scenario = loaded(fleet(count, linked=linked), tmp_path)
    summary = simulate(scenario)
    assert summary.requests == 5 * count
    assert summary.answered + sum(summary.dropped.values()) + summary.in_flight == summary.requests
    assert build_plan(scenario).names == [f"sensor{n}" for n in range(count)]


def test_one_more_sensor_changes_nothing_for_the_others(tmp_path: Path) -> None:
    few, _ = trace_of(loaded(fleet(3, linked=True), tmp_path), "event")
    more, _ = trace_of(loaded(fleet(4, linked=True), tmp_path), "event")
    assert (few == more[more[:, 0] < 3])[:, :8].all()


def test_sensors_with_links_of_their_own_each_run(tmp_path: Path) -> None:
    text = fleet(20, linked=True)
    for n in range(20):
        text = text.replace(
            f"src: sensor{n}, dst: gateway, latency_us: 5000", f"src: sensor{n}, dst: gateway, latency_us: {n + 1}"
        )
    scenario = loaded(text, tmp_path)
    assert way_ms(scenario, "sensor7", "edge") == 0.008
    assert simulate(scenario).requests == 100


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("duration_s: 10", "duration: 10", "f:2:3: simulation.duration: unknown key (did you mean `duration_s`?)"),
        ("duration_s: 10", "duration: 10", "f:2:3: simulation: `duration_s` is missing"),
        ("duration_s: 10", "duration_s: 0", "f:2:15: simulation.duration_s: must lie between 1e-06 and 1e+09 (got 0)"),
        ("duration_s: 10", "duration_s: long", "f:2:15: simulation.duration_s: expected a number (got 'long')"),
        ("seed: 42", "seed: 1.5", "f:3:9: simulation.seed: expected a whole number (got 1.5)"),
        ("seed: 42", "seed: .inf", "f:3:9: simulation.seed: must lie between 0 and"),
        ("simulation:", "simulaton:", "f:1:1: simulaton: unknown key (did you mean `simulation`?)"),
        ("model: latency", "model: fast", "f:6:10: network.model: expected one of direct, latency (got 'fast')"),
        ("model: latency", "model: direct", "network.links: a direct network has no links; say `model: latency`"),
        ("src: sensor1", "src: sensor9", "f:10:7: network.links[0]: there is no node 'sensor9'"),
        ("loss_rate: 0.1", "loss_rate: 7", "network.links[0].loss_rate: must lie between 0 and 1 (got 7)"),
        ("default_loss_rate: 0.0", "default_loss_rate: -1", "f:8:22: network.default_loss_rate: must lie between 0"),
        ("id: sensor2, type: sensor", "id: sensor2, type: toaster", "nodes[1].type: expected one of sensor, sensor_mo"),
        ("id: sensor2", "id: sensor1", "nodes[1].id: 'sensor1' is there twice"),
        ("sample_rate_hz: 4", "sample_rate_hz: 0", "nodes[0].config.sample_rate_hz: must lie between 1e-06"),
        ("dst: gateway,", "dst: sensor2,", "f:10:7: network.links[0]: no request would take this link"),
        (
            "    - {src",
            "    - {src: gateway, dst: sensor1}\n    - {src",
            "f:11:7: network.links[1]: sensor1 and gateway have a link already, of other figures",
        ),
        ("placement: cloud", "placement: fog", "ml_inference.placement: expected one of edge, cloud (got 'fog')"),
        ("threshold: 0.7", "threshold: 2", "ml_inference.cloud_config.threshold: must lie between 0 and 1 (got 2)"),
        ("type: sensor", "type: gateway", "nodes: no node is a sensor"),
        ("nodes:", "nodes: 1\nnode:", "f:11:8: nodes: expected a list (got 1)"),
        ("ml_inference:", "ml_inference: 1\nother:", "f:15:15: ml_inference: expected a mapping (got 1)"),
    ],
)  # fmt: skip
def test_each_mistake_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in LEGACY
    assert expected in problems(tmp_path, LEGACY.replace(old, new))


def test_its_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = LEGACY.replace("duration_s: 10", "duration_s: -1").replace("src: sensor1", "src: sensor9")
    told = problems(tmp_path, text.replace("placement: cloud", "placement: fog"))
    for where in ("simulation.duration_s", "network.links[0]", "ml_inference.placement"):
        assert where in told


@settings(max_examples=60)
@given(st.data())
def test_what_is_wrong_is_told_in_its_own_words(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever numbers and names stand there, no message speaks of the present form's sections."""
    text = data.draw(st.sampled_from([LEGACY, BASELINE, EMULATED, BROKERED]))
    junk = st.one_of(st.integers(-5, 10**20), st.floats(), st.sampled_from(["gateway", "sensor1", "cloud", "x", "[]"]))
    for key in ("duration_s", "seed", "latency_us", "loss_rate", "id", "type", "src", "dst", "sample_rate_hz"):
        if data.draw(st.booleans()) and f"{key}: " in text:
            before, _, after = text.partition(f"{key}: ")
            end = min(after.find(mark) for mark in (",", "}", "\n") if mark in after)
            text = f"{before}{key}: {data.draw(junk)}{after[end:]}"
    try:
        loaded(text, tmp_path)
    except ScenarioError as error:
        for problem in error.problems:
            assert problem.path.split(".")[0].split("[")[0] in {"simulation", "network", "nodes", "ml_inference"}, (
                problem
            )
