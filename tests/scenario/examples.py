"""A small valid scenario for the tests, and a way to write variants of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierwise.scenario import Scenario, load_scenario

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL = """\
tierwise: 1
run: {duration: 10s, seed: 7}
devices:
  sensors:
    count: 10
    traffic: {pattern: periodic, period: 1s}
    request: 1kB
    answer: 100B
links:
  up: {from: sensors, to: gateway, latency: 5ms, bandwidth: 10Mbit/s}
  wan: {from: gateway, to: cloud, latency: 20ms}
nodes:
  gateway: {tier: edge, service: 0.7ms}
  cloud: {tier: cloud, service: 0.2ms}
models:
  anomaly:
    device: {service: 5ms, accuracy: 0.9, source: test}
    edge: {accuracy: 0.95, source: test}
    cloud: {accuracy: 0.99, source: test}
placement: edge
"""
PROFILE = """\
tierwise_profile: 1
model: anomaly
version: 1.0.0
artifact:
  file: anomaly.onnx
  sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
  size_bytes: 2000
  dtype: float32
runtime: onnx
machine: {processor: a processor, cores: 2, threads: 1, libraries: {onnxruntime: 1.31.1}}
accuracy: 0.9
samples: 100
energy_uj: 70
service:
  - {batch: 1, count: 9, mean_us: 2000, p50_us: 2000, p95_us: 3000, p99_us: 3000, times_us: [1000, 2000, 3000]}
  - {batch: 4, count: 9, mean_us: 4000, p50_us: 4000, p95_us: 7000, p99_us: 7000, times_us: [1000, 4000, 7000]}
source: measured in a test
"""


def scenario(folder: Path, text: str = MINIMAL, **overrides: str) -> Scenario:
    """Writes a scenario and loads it; in the names of overrides ``__`` stands for a dot."""
    path = folder / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path, {key.replace("__", "."): value for key, value in overrides.items()})
