"""The earlier three-section form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tierwise.scenario import ScenarioError, load_scenario

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
  edge_config: {model_path: models/a.onnx, broker_host: localhost, broker_port: 1883, threshold: 0.7}
  cloud_config: {model_path: models/a.pt, latency_ms: 50}
"""


def test_it_loads_and_its_placement_decides(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(LEGACY)
    scenario = load_scenario(path)
    assert scenario.run.duration == 10 * 10**9
    assert scenario.run.seed == 42
    assert scenario.rule("sensor1") == "cloud"
    assert scenario.links["sensor1-gateway"].latency.mean == 5_000_000
    assert scenario.links["sensor1-gateway"].loss == 0.1
    assert scenario.links["sensor2-gateway"].latency.mean == 10_000_000
    assert scenario.links["gateway-cloud"].latency.mean == 50_000_000
    assert scenario.models["model"].threshold == 0.7
    traffic = scenario.traffic_of("sensor1")
    assert traffic.pattern == "periodic"
    assert traffic.period == 250_000_000


def test_direct_networks_have_no_delay_and_the_edge_is_the_default(tmp_path: Path) -> None:
    text = LEGACY[: LEGACY.index("ml_inference")].replace("model: latency", "model: direct")
    path = tmp_path / "old.yaml"
    path.write_text(text)
    scenario = load_scenario(path)
    assert scenario.links["sensor1-gateway"].latency.mean == 0
    assert scenario.rule("sensor2") == "edge"


def test_its_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = LEGACY.replace("duration_s: 10", "duration: 10").replace("src: sensor1", "src: sensor9")
    text = text.replace("placement: cloud", "placement: fog").replace("id: sensor2", "id: sensor1")
    path = tmp_path / "old.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    told = str(caught.value).replace(str(path), "f")
    for expected in (
        "f:2:3: simulation.duration: unknown key",
        "f:2:3: simulation: `duration_s` is missing",
        "network.links[0]: there is no node 'sensor9'",
        "nodes[1].id: 'sensor1' is there twice",
        "ml_inference.placement: expected edge or cloud (got 'fog')",
    ):
        assert expected in told
