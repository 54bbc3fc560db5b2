"""Every field of the scenario language changes the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from tests.scenario.examples import PROFILE
from tests.sim.runs import load
from tierwise.scenario import scenario_schema
from tierwise.sim import Summary, simulate
from tierwise.sim.answers import compute_answers

if TYPE_CHECKING:
    from pathlib import Path

BASE = """\
tierwise: 1
run: {duration: 6s, seed: 7}
boards: {small: {active_power: 30mW, idle_power: 1mW, memory: 1MB, source: sheet}}
traffic: {often: {pattern: poisson, rate: 20/s}}
devices:
  sensors: {count: 5, traffic: often, request: 1kB, answer: 100B, board: small}
links:
  up: {from: sensors, to: gateway, latency: 5ms, bandwidth: 1Mbit/s}
  wan: {from: gateway, to: cloud, latency: 20ms, bandwidth: 1Mbit/s}
nodes:
  gateway: {tier: edge, service: 3ms}
  cloud: {tier: cloud}
models:
  m:
    device: {service: 5ms, accuracy: 0.8, size: 10kB, source: test}
    edge: {accuracy: 0.9, source: test}
    cloud: {service: 1ms, accuracy: 0.95, source: test}
placement: {cascade: [device, edge, cloud], threshold: 0.5}
"""
SENSORS, UP, GATEWAY, DEVICE = "devices.sensors", "links.up", "nodes.gateway", "models.m.device"
LOSSY = {f"{UP}.loss": "0.3"}
PERIODIC = {f"{SENSORS}.traffic": "{pattern: periodic, period: 50ms}"}
BURST = {f"{SENSORS}.traffic": "{pattern: burst, period: 1s, size: 4}"}
SINGLE = {f"{SENSORS}.traffic": "{pattern: single_stream}"}
MULTI = {f"{SENSORS}.traffic": "{pattern: multi_stream}"}
OFFLINE = {f"{SENSORS}.traffic": "{pattern: offline, samples: 50}"}
SERVER = {f"{SENSORS}.traffic": "{pattern: server, rate: 5/s}"}
REPLAY = {f"{SENSORS}.traffic": "{pattern: trace, file: times.csv}"}
RADIO = {f"{UP}.radio": "{tx: 50nJ/bit, rx: 10nJ/bit, tx_power: 1mW, rx_power: 1mW, wake: 1mJ, source: a}"}
BATCH = {f"{GATEWAY}.batch": "{max_size: 8, max_wait: 20ms, marginal: 10%}"}
BURSTY = {f"{UP}.loss": "{to_bad: 0.1, to_good: 0.4, loss_good: 0.01, loss_bad: 0.8}"}
POWER = {f"{GATEWAY}.power": "{idle: 1W, busy: 2W, source: a}"}
PRICE = {f"{GATEWAY}.price": "{per_hour: 1, per_request: 0.1, source: a}"}
FALLBACK = {"placement": "{fallback: [cloud, device], timeout: 60ms}"}
RETRY = LOSSY | {f"{UP}.retries": "{max: 2, backoff: 10ms, factor: 2}"}


def fault(**fields: str) -> dict[str, str]:
    """One fault."""
    return {"faults": "[{" + ", ".join(f"{name}: {value}" for name, value in fields.items()) + "}]"}


DOWN = {"fault": "node_down", "node": "gateway", "at": "1s", "lasts": "1s"}
CUT = {"fault": "link_down", "link": "up", "at": "1s", "lasts": "1s"}
DEGRADED = {"fault": "link_degraded", "link": "up", "at": "1s", "lasts": "3s", "bandwidth_factor": "0.5"}
RESTART = {"fault": "broker_restart", "node": "gateway", "at": "1s", "lasts": "1s"}

# field → (changes that are made first, the change of the field)
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "Run.duration": ({}, {"run.duration": "7s"}),
    "Run.seed": ({}, {"run.seed": "8"}),
    "Run.warm_up": ({}, {"run.warm_up": "1s"}),
    "Run.replications": ({}, {"run.replications": "3"}),
    "Scenario.run": ({}, {"run": "{duration: 1s}"}),
    "Scenario.boards": ({}, {"boards.small": "{active_power: 1W, source: a}"}),
    "Scenario.traffic": ({}, {"traffic.often.rate": "9/s"}),
    "Scenario.devices": ({}, {SENSORS: "{traffic: often}"}),
    "Scenario.links": ({}, {UP: "{from: sensors, to: gateway}"}),
    "Scenario.nodes": ({}, {GATEWAY: "{tier: edge, service: 1ms}"}),
    "Scenario.models": ({}, {"models.m.cloud": "{service: 9ms, source: a}"}),
    "Scenario.placement": ({}, {"placement": "edge"}),
    "Scenario.faults": ({}, fault(**DOWN)),
    "Scenario.slo": ({}, {"slo": "{p99: 1ms}"}),
    "Scenario.carbon": ({}, {"carbon": "{intensity: 300g/kWh, source: a}"}),
    "Board.active_power": ({}, {"boards.small.active_power": "60mW"}),
    "Board.idle_power": ({}, {"boards.small.idle_power": "2mW"}),
    "Board.source": ({}, {"boards.small.source": "b"}),
    "Battery.capacity": (
        {f"{SENSORS}.battery": "{capacity: 10mJ, source: a}"}, {f"{SENSORS}.battery.capacity": "5mJ"},
    ),
    "Battery.source": ({f"{SENSORS}.battery": "{capacity: 1J, source: a}"}, {f"{SENSORS}.battery.source": "b"}),
    "Devices.names": ({}, {f"{SENSORS}.names": "[a, b, c, d, e]"}),
    "Devices.count": ({}, {f"{SENSORS}.count": "6"}),
    "Devices.traffic": ({}, PERIODIC),
    "Devices.model": (
        {"models.n": "{device: {service: 1ms, source: a}, edge: {source: a}, cloud: {service: 1ms, source: a}}",
         f"{SENSORS}.model": "m"},
        {f"{SENSORS}.model": "n"},
    ),
    "Devices.board": ({}, {f"{SENSORS}.board": "{active_power: 1W, source: a}"}),
    "Devices.battery": ({}, {f"{SENSORS}.battery": "{capacity: 5mJ, source: a}"}),
    "Devices.features": ({f"{SENSORS}.request": "null"}, {f"{SENSORS}.features": "500"}),
    "Devices.request": ({}, {f"{SENSORS}.request": "2kB"}),
    "Devices.answer": ({}, {f"{SENSORS}.answer": "2kB"}),
    "Devices.timeout": ({}, {f"{SENSORS}.timeout": "40ms"}),
    "Link.from": ({}, {f"{UP}.from": "[sensors]", "links.way": "{from: sensors, to: cloud}"}),
    "Link.to": ({}, {f"{UP}.to": "cloud", "placement": "{cascade: [device, cloud], threshold: 0.5}"}),
    "Link.shared": ({}, {f"{UP}.shared": "false"}),
    "Link.latency": ({}, {f"{UP}.latency": "6ms"}),
    "Link.jitter": ({}, {f"{UP}.jitter": "{exponential: 1ms}"}),
    "Link.bandwidth": ({}, {f"{UP}.bandwidth": "2Mbit/s"}),
    "Link.bandwidth_down": ({}, {f"{UP}.bandwidth_down": "100kbit/s"}),
    "Link.overhead": ({}, {f"{UP}.overhead": "60B"}),
    "Link.queue": ({}, {f"{UP}.queue": "1"}),
    "Link.loss": ({}, LOSSY),
    "Link.retries": (LOSSY, {f"{UP}.retries": "{max: 1}"}),
    "Link.duty_cycle": ({f"{UP}.shared": "false"}, {f"{UP}.duty_cycle": "10%"}),
    "Link.shaper": ({}, {f"{UP}.shaper": "{rate: 100kbit/s, burst: 1kB}"}),
    "Link.radio": ({}, RADIO),
    "Link.price": ({}, {f"{UP}.price": "{per_gb: 3, source: a}"}),
    "LinkPrice.per_gb": ({f"{UP}.price": "{per_gb: 3, source: a}"}, {f"{UP}.price.per_gb": "4"}),
    "LinkPrice.source": ({f"{UP}.price": "{per_gb: 3, source: a}"}, {f"{UP}.price.source": "b"}),
    "Retries.max": (RETRY, {f"{UP}.retries.max": "3"}),
    "Retries.backoff": (RETRY, {f"{UP}.retries.backoff": "30ms"}),
    "Retries.factor": (RETRY, {f"{UP}.retries.factor": "4"}),
    "GilbertElliott.to_bad": (BURSTY, {f"{UP}.loss.to_bad": "0.3"}),
    "GilbertElliott.to_good": (BURSTY, {f"{UP}.loss.to_good": "0.1"}),
    "GilbertElliott.loss_good": (BURSTY, {f"{UP}.loss.loss_good": "0.3"}),
    "GilbertElliott.loss_bad": (BURSTY, {f"{UP}.loss.loss_bad": "0.1"}),
    "Shaper.rate": ({f"{UP}.shaper": "{rate: 100kbit/s, burst: 1kB}"}, {f"{UP}.shaper.rate": "200kbit/s"}),
    "Shaper.burst": ({f"{UP}.shaper": "{rate: 100kbit/s, burst: 1kB}"}, {f"{UP}.shaper.burst": "9kB"}),
    "Radio.tx": (RADIO, {f"{UP}.radio.tx": "60nJ/bit"}),
    "Radio.rx": (RADIO, {f"{UP}.radio.rx": "60nJ/bit"}),
    "Radio.tx_power": (RADIO, {f"{UP}.radio.tx_power": "90mW"}),
    "Radio.rx_power": (RADIO, {f"{UP}.radio.rx_power": "90mW"}),
    "Radio.idle_power": (RADIO, {f"{UP}.radio.idle_power": "1mW"}),
    "Radio.wake": (RADIO, {f"{UP}.radio.wake": "2mJ"}),
    "Radio.source": (RADIO, {f"{UP}.radio.source": "b"}),
    "Node.tier": (
        {"placement": "{cascade: [device, edge], threshold: 0.5}"},
        {"nodes.cloud.tier": "edge", UP + ".to": "cloud", "nodes.cloud.service": "1ms"},
    ),
    "Node.workers": ({f"{GATEWAY}.service": "20ms"}, {f"{GATEWAY}.workers": "2"}),
    "Node.service": ({}, {f"{GATEWAY}.service": "4ms"}),
    "Node.batch": ({f"{GATEWAY}.service": "20ms"}, BATCH),
    "Node.queue": ({f"{GATEWAY}.service": "40ms"}, {f"{GATEWAY}.queue": "1"}),
    "Node.power": ({}, POWER),
    "Node.price": ({}, PRICE),
    "Batch.max_size": (BATCH, {f"{GATEWAY}.batch.max_size": "2"}),
    "Batch.max_wait": (BATCH, {f"{GATEWAY}.batch.max_wait": "2ms"}),
    "Batch.marginal": (BATCH, {f"{GATEWAY}.batch.marginal": "90%"}),
    "NodePower.idle": (POWER, {f"{GATEWAY}.power.idle": "1.5W"}),
    "NodePower.busy": (POWER, {f"{GATEWAY}.power.busy": "3W"}),
    "NodePower.source": (POWER, {f"{GATEWAY}.power.source": "b"}),
    "NodePrice.per_hour": (PRICE, {f"{GATEWAY}.price.per_hour": "2"}),
    "NodePrice.per_request": (PRICE, {f"{GATEWAY}.price.per_request": "2"}),
    "NodePrice.source": (PRICE, {f"{GATEWAY}.price.source": "b"}),
    "Model.device": ({}, {DEVICE: "{service: 7ms, source: a}"}),
    "Model.edge": ({}, {"models.m.edge": "{accuracy: 0.2, source: a}"}),
    "Model.cloud": ({}, {"models.m.cloud": "{service: 9ms, source: a}"}),
    "Artifact.profile": ({}, {DEVICE: "{profile: measured.yaml}"}),
    "Artifact.service": ({}, {f"{DEVICE}.service": "6ms"}),
    "Artifact.energy": ({}, {f"{DEVICE}.energy": "9mJ"}),
    "Artifact.accuracy": ({}, {f"{DEVICE}.accuracy": "0.5"}),
    "Artifact.confidence": ({}, {f"{DEVICE}.confidence": "{uniform: [0.4, 1]}"}),
    "Artifact.source": ({}, {f"{DEVICE}.source": "b"}),
    "Confidence.right": (
        {f"{DEVICE}.confidence": "{right: {uniform: [0, 1]}, wrong: 0.1}"},
        {f"{DEVICE}.confidence.right": "0.9"},
    ),
    "Confidence.wrong": (
        {f"{DEVICE}.confidence": "{right: {uniform: [0, 1]}, wrong: 0.1}"},
        {f"{DEVICE}.confidence.wrong": "0.9"},
    ),
    "Cascade.cascade": ({}, {"placement.cascade": "[device, cloud]"}),
    "Cascade.threshold": ({}, {"placement.threshold": "0.6"}),
    "Cascade.timeout": ({}, {"placement.timeout": "15ms"}),
    "Fallback.fallback": (FALLBACK, {"placement.fallback": "[edge, device]"}),
    "Fallback.timeout": (FALLBACK, {"placement.timeout": "50ms"}),
    "Expression.expression": (
        {"placement": "edge if queue_edge < 1 else cloud"}, {"placement": "edge if queue_edge < 3 else cloud"},
    ),
    "Periodic.pattern": ({}, PERIODIC),
    "Periodic.period": (PERIODIC, {f"{SENSORS}.traffic.period": "60ms"}),
    "Periodic.phase": (PERIODIC, {f"{SENSORS}.traffic.phase": "same"}),
    "Periodic.jitter": (PERIODIC, {f"{SENSORS}.traffic.jitter": "{uniform: [0, 9ms]}"}),
    "Periodic.start": (PERIODIC, {f"{SENSORS}.traffic.start": "1s"}),
    "Periodic.stop": (PERIODIC, {f"{SENSORS}.traffic.stop": "4s"}),
    "Poisson.pattern": (SERVER, {f"{SENSORS}.traffic": "{pattern: poisson, rate: 6/s}"}),
    "Poisson.rate": ({}, {"traffic.often.rate": "21/s"}),
    "Poisson.start": ({}, {"traffic.often.start": "1s"}),
    "Poisson.stop": ({}, {"traffic.often.stop": "4s"}),
    "Burst.pattern": ({}, BURST),
    "Burst.period": (BURST, {f"{SENSORS}.traffic.period": "2s"}),
    "Burst.size": (BURST, {f"{SENSORS}.traffic.size": "5"}),
    "Burst.spacing": (BURST, {f"{SENSORS}.traffic.spacing": "1ms"}),
    "Burst.phase": (BURST, {f"{SENSORS}.traffic.phase": "same"}),
    "Burst.jitter": (BURST, {f"{SENSORS}.traffic.jitter": "{uniform: [0, 9ms]}"}),
    "Burst.start": (BURST, {f"{SENSORS}.traffic.start": "1500ms"}),
    "Burst.stop": (BURST, {f"{SENSORS}.traffic.stop": "4s"}),
    "SingleStream.pattern": ({}, SINGLE),
    "SingleStream.queries": (SINGLE, {f"{SENSORS}.traffic.queries": "3"}),
    "SingleStream.start": (SINGLE, {f"{SENSORS}.traffic.start": "1s"}),
    "SingleStream.stop": (SINGLE, {f"{SENSORS}.traffic.stop": "4s"}),
    "MultiStream.pattern": ({}, MULTI),
    "MultiStream.samples": (MULTI, {f"{SENSORS}.traffic.samples": "3"}),
    "MultiStream.queries": (MULTI, {f"{SENSORS}.traffic.queries": "3"}),
    "MultiStream.start": (MULTI, {f"{SENSORS}.traffic.start": "1s"}),
    "MultiStream.stop": (MULTI, {f"{SENSORS}.traffic.stop": "4s"}),
    "Server.pattern": ({}, SERVER),
    "Server.rate": (SERVER, {f"{SENSORS}.traffic.rate": "6/s"}),
    "Server.start": (SERVER, {f"{SENSORS}.traffic.start": "1s"}),
    "Server.stop": (SERVER, {f"{SENSORS}.traffic.stop": "4s"}),
    "Offline.pattern": ({}, OFFLINE),
    "Offline.samples": (OFFLINE, {f"{SENSORS}.traffic.samples": "40"}),
    "Offline.start": (OFFLINE, {f"{SENSORS}.traffic.start": "1s"}),
    "Replay.pattern": ({}, REPLAY),
    "Replay.file": (REPLAY, {f"{SENSORS}.traffic.file": "others.csv"}),
    "Replay.start": (REPLAY, {f"{SENSORS}.traffic.start": "1s"}),
    "Replay.stop": (REPLAY, {f"{SENSORS}.traffic.stop": "1500ms"}),
    "NodeDown.fault": ({}, fault(**DOWN)),
    "NodeDown.node": (fault(**DOWN), {"faults.0.node": "cloud"}),
    "NodeDown.at": (fault(**DOWN), {"faults.0.at": "2s"}),
    "NodeDown.every": (fault(**DOWN), {"faults.0.every": "1s", "faults.0.at": "null"}),
    "NodeDown.lasts": (fault(**DOWN), {"faults.0.lasts": "2s"}),
    "LinkDown.fault": ({}, fault(**CUT)),
    "LinkDown.link": (fault(**CUT), {"faults.0.link": "wan"}),
    "LinkDown.at": (fault(**CUT), {"faults.0.at": "2s"}),
    "LinkDown.every": (fault(**CUT), {"faults.0.every": "1s", "faults.0.at": "null"}),
    "LinkDown.lasts": (fault(**CUT), {"faults.0.lasts": "2s"}),
    "LinkDegraded.fault": ({}, fault(**DEGRADED)),
    "LinkDegraded.link": (fault(**DEGRADED), {"faults.0.link": "wan"}),
    "LinkDegraded.at": (fault(**DEGRADED), {"faults.0.at": "2s"}),
    "LinkDegraded.every": (fault(**DEGRADED), {"faults.0.every": "1s", "faults.0.at": "null"}),
    "LinkDegraded.lasts": (fault(**DEGRADED), {"faults.0.lasts": "1s"}),
    "LinkDegraded.bandwidth_factor": (fault(**DEGRADED), {"faults.0.bandwidth_factor": "0.2"}),
    "LinkDegraded.extra_latency": (fault(**DEGRADED), {"faults.0.extra_latency": "9ms"}),
    "LinkDegraded.extra_loss": (fault(**DEGRADED), {"faults.0.extra_loss": "0.5"}),
    "BrokerRestart.fault": (fault(**DOWN), fault(**RESTART)),
    "BrokerRestart.node": (fault(**RESTART), {"faults.0.node": "cloud"}),
    "BrokerRestart.at": (fault(**RESTART), {"faults.0.at": "2s"}),
    "BrokerRestart.every": (fault(**RESTART), {"faults.0.every": "1s", "faults.0.at": "null"}),
    "BrokerRestart.lasts": (fault(**RESTART), {"faults.0.lasts": "2s"}),
    "BatteryOut.fault": ({}, fault(fault="battery_out", devices="sensors", at="1s")),
    "BatteryOut.devices": (
        {"devices.others": "{traffic: often}", "links.more": "{from: others, to: gateway}"}
        | fault(fault="battery_out", devices="sensors", at="1s"), {"faults.0.devices": "others"},
    ),
    "BatteryOut.at": (fault(fault="battery_out", devices="sensors", at="1s"), {"faults.0.at": "2s"}),
    "BatteryOut.share": (fault(fault="battery_out", devices="sensors", at="1s"), {"faults.0.share": "40%"}),
    "ClockDrift.fault": ({}, fault(fault="clock_drift", devices="sensors", drift="100ppm")),
    "ClockDrift.devices": (
        {"devices.others": "{traffic: often}", "links.more": "{from: others, to: gateway}"}
        | fault(fault="clock_drift", devices="sensors", drift="900ppm"), {"faults.0.devices": "others"},
    ),
    "ClockDrift.drift": (fault(fault="clock_drift", devices="sensors", drift="9ppm"), {"faults.0.drift": "-9ppm"}),
    "Objectives.p50": ({}, {"slo.p50": "1ms"}),
    "Objectives.p95": ({}, {"slo.p95": "1ms"}),
    "Objectives.p99": ({}, {"slo.p99": "1ms"}),
    "Objectives.answered": ({}, {"slo.answered": "1"}),
    "Objectives.accuracy": ({}, {"slo.accuracy": "1"}),
    "Objectives.cost_per_hour": ({}, {"slo.cost_per_hour": "1"}),
    "Carbon.intensity": (
        {"carbon": "{intensity: 300g/kWh, source: a}"}, {"carbon.intensity": "400g/kWh"},
    ),
    "Carbon.source": ({"carbon": "{intensity: 300g/kWh, source: a}"}, {"carbon.source": "b"}),
}  # fmt: skip

# Tested elsewhere: where, and why not here.
ELSEWHERE = {
    "Scenario.tierwise", "Board.memory", "Artifact.size",  # tests/scenario: they make a scenario valid or not
    "Scenario.name", "Scenario.description",  # tests/cli: shown
    "Scenario.outputs", "Outputs.trace", "Outputs.bucket",  # test_outputs.py: the files
    "Custom.policy", "Custom.options", "Custom.timeout",  # test_policies.py
    "Artifact.artifact", "Artifact.runtime", "Model.data", "Model.threshold",  # test_answers.py
    "Dataset.file", "Dataset.features", "Dataset.labels",  # test_answers.py
    "External.pattern", "External.command", "External.address", "External.config",  # test_cosim.py
    "External.timeout", "External.step",
}  # fmt: skip


def outcome(folder: Path, changes: dict[str, str], *, constants: bool = False) -> dict[str, Any]:
    """The summary without what merely repeats the input."""
    scenario = load(folder, BASE, changes)
    summary: Summary = simulate(scenario, answers=compute_answers(scenario))
    found: dict[str, Any] = msgspec.to_builtins(summary)
    for name in ("wall_s", "seed", "simulated_s", *(() if constants else ("constants",))):
        del found[name]
    return found


@pytest.mark.parametrize("field", CASES)
def test_the_field_changes_the_result(tmp_path: Path, field: str) -> None:
    np.savetxt(tmp_path / "times.csv", [0.5, 1.0, 1.7], header="time_s", comments="")
    np.savetxt(tmp_path / "others.csv", [0.5, 1.0, 1.8], header="time_s", comments="")
    (tmp_path / "measured.yaml").write_text(PROFILE)
    first, change = CASES[field]
    constants = field.endswith(".source")
    before = outcome(tmp_path, first, constants=constants)
    assert outcome(tmp_path, first | change, constants=constants) != before


def test_every_field_is_tested() -> None:
    schema = scenario_schema()
    fields = {f"Scenario.{name}" for name in schema["properties"]}
    for part, definition in schema["$defs"].items():
        fields |= {f"{part}.{name}" for name in definition.get("properties", {})}
    assert fields == CASES.keys() | ELSEWHERE
