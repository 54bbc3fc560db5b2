"""Two executions of one semantics: the same trace, row by row."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.components import need
from tests.scenario.examples import MINIMAL
from tests.sim.runs import load, trace_of
from tierwise.core.errors import ConfigurationError
from tierwise.sim import simulate
from tierwise.sim.compiled import COMPILES
from tierwise.sim.event import EventEngine
from tierwise.sim.kernel.tables import (
    ANSWERED,
    C_EVENTS,
    IN_FLIGHT,
    L_DELIVERED,
    L_MESSAGES,
    R_ANSWERED,
    R_CREATED,
    R_DEVICE,
    R_OUTCOME,
)
from tierwise.sim.plan import build_plan
from tierwise.sim.vector import why_not_vectorised

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.scenario import Scenario
    from tierwise.sim import Summary

RICH = """\
tierwise: 1
run: {duration: 20s, seed: 7}
devices:
  sensors:
    count: 60
    traffic: {pattern: poisson, rate: 4/s}
    request: 1kB
    answer: 100B
    board: {active_power: 30mW, idle_power: 1mW, source: test}
  cameras:
    count: 7
    traffic: {pattern: burst, period: 1s, size: 5, phase: same}
    request: 5kB
    answer: 100B
links:
  up:
    from: [sensors, cameras]
    to: gateway
    latency: {lognormal: {median: 5ms, sigma: 0.5}}
    jitter: {normal: {mean: 2ms, sd: 2ms}}
    bandwidth: 10Mbit/s
    loss: 2%
    radio: {tx: 50nJ/bit, rx: 10nJ/bit, tx_power: 10mW, source: test}
  wan: {from: gateway, to: cloud, latency: 20ms, bandwidth: 5Mbit/s, loss: 1%}
nodes:
  gateway: {tier: edge, workers: 2, service: {exponential: 1ms}}
  cloud: {tier: cloud, service: {uniform: [0.2ms, 4ms]}}
models:
  m:
    device:
      service: {pareto: {minimum: 5ms, shape: 2.5}}
      accuracy: 0.8
      confidence: {right: {uniform: [0.5, 1]}, wrong: {uniform: [0, 1]}}
      source: test
    edge: {accuracy: 0.9, source: test}
placement:
  sensors: {cascade: [device, edge, cloud], threshold: 0.6}
  cameras: {cascade: [edge, cloud], threshold: 0.3}
faults: [{fault: clock_drift, devices: cameras, drift: 100ppm}]
"""
SAME = "{pattern: periodic, period: 1s, phase: same}"
IDEAL = {"links.up.latency": "0", "links.up.jitter": "0", "links.wan.latency": "0", "links.up.bandwidth": "null"}


OVERLOADED = (
    {"nodes.gateway.service": "2s", "nodes.gateway.workers": "1"},
    {"nodes.gateway.service": "{exponential: 90ms}", "nodes.gateway.workers": "3"},
    {"links.up.bandwidth": "40kbit/s", "links.up.bandwidth_down": "8kbit/s"},
    {"links.up.bandwidth": "20kbit/s", "links.up.shared": "false", "links.up.duty_cycle": "0.7"},
    {"models.m.device.service": "{uniform: [1s, 9s]}", "placement": "device"},
    {"links.up.bandwidth": "9Mbit/s", "links.up.bandwidth_down": "1kbit/s", "links.up.latency": "{uniform: [0, 9s]}"},
)
PRICED = {
    "nodes.gateway.power": "{idle: 1W, busy: 11W, source: test}",
    "nodes.gateway.price": "{per_hour: 2, per_request: 0.01, source: test}",
    "links.up.price": "{per_gb: 7, source: test}",
}


def assert_same(scenario: Scenario) -> None:
    """Both engines give the same rows and the same summary, whole."""
    events, _ = trace_of(scenario, "event")
    vectors, _ = trace_of(scenario, "vector")
    assert events.shape == vectors.shape
    assert (events == vectors).all(), np.argwhere(events != vectors)[:5]
    one, other = (
        msgspec.structs.replace(simulate(scenario, engine=engine), engine="", wall_s=0.0)
        for engine in ("event", "vector")
    )
    assert msgspec.to_builtins(one) == msgspec.to_builtins(other)
    assert_in_bounds(scenario, one)


def assert_in_bounds(scenario: Scenario, summary: Summary) -> None:
    """Nothing is busier than always, takes more than its greatest power, or comes from nowhere."""
    seconds = scenario.run.duration * 1e-9
    for ways in summary.links.values():
        for link in ways.values():
            assert link.offered == link.messages + link.refused
            assert link.messages == link.delivered + link.lost + link.cut + link.in_flight
            assert link.in_flight >= 0
            assert 0 <= link.utilisation <= 1
    for name, node in summary.nodes.items():
        assert node.offered == node.served + node.refused + node.cut + node.running_at_end + node.waiting_at_end
        assert node.running_at_end >= 0
        assert 0 <= node.utilisation <= 1
        power = scenario.nodes[name].power
        if power is not None:
            assert power.idle * seconds <= summary.energy_j.nodes[name] <= power.busy * seconds * (1 + 1e-12)
    for name, group in scenario.devices.items():
        if group.battery is not None and len(scenario.devices) == 1:
            drawn = summary.energy_j.device_active + summary.energy_j.device_idle
            assert drawn <= group.battery.capacity * group.count * (1 + 1e-6), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"placement.cameras": "cloud", "nodes.gateway.workers": "1"},
        {"links.up.shared": "false", "links.up.duty_cycle": "0.5"},
        {"links.up.bandwidth_down": "1Mbit/s", "links.up.overhead": "40B"},
        {**IDEAL, "nodes.gateway.service": "1ms", "devices.sensors.traffic": SAME},
        {**IDEAL, "nodes.gateway.service": "0", "nodes.cloud.service": "0"},
        {"placement": "device"},
        {"devices.sensors.traffic": "{pattern: offline, samples: 50, start: 1s}"},
        {"devices.sensors.traffic": "{pattern: periodic, period: 100ms, jitter: {exponential: 200ms}, stop: 15s}"},
        {"devices.sensors.traffic": "{pattern: server, rate: 3/s, start: 2s}", "run.duration": "7s"},
        {"nodes.gateway.service": "{empirical: [1ms, 1ms, 9ms]}", "nodes.cloud.workers": "3"},
        {"nodes.gateway.service": "{empirical: [0, 9ms]}", "links.wan.bandwidth": "1Mbit/s"},
        {"nodes.gateway.service": "{normal: {mean: 4ms, sd: 4ms}}", "links.up.bandwidth_down": "1Mbit/s"},
    ],
)  # fmt: skip
def test_both_engines_give_the_same_trace(tmp_path: Path, changes: dict[str, str]) -> None:
    assert_same(load(tmp_path, RICH, changes))


@pytest.mark.parametrize("changes", OVERLOADED)
def test_both_engines_give_the_same_summary_of_an_overload(tmp_path: Path, changes: dict[str, str]) -> None:
    scenario = load(tmp_path, RICH, PRICED | {"run.duration": "10s"} | changes)
    assert_same(scenario)
    assert simulate(scenario).in_flight > 50


@settings(max_examples=40)
@given(st.data())
def test_both_engines_give_the_same_trace_of_random_scenarios(tmp_path: Path, data: st.DataObject) -> None:
    def one_of(*choices: str) -> str:
        return data.draw(st.sampled_from(choices))

    duration = one_of("0", "1ms", "{exponential: 2ms}", "{uniform: [0, 5ms]}", "{normal: {mean: 1ms, sd: 1ms}}")
    changes = {
        "run.seed": str(data.draw(st.integers(0, 2**62))),
        "run.duration": one_of("1s", "3s"),
        "devices.sensors.count": one_of("1", "13"),
        "devices.sensors.traffic": one_of(
            "{pattern: periodic, period: 10ms, phase: same}",
            "{pattern: poisson, rate: 90/s}",
            "{pattern: burst, period: 100ms, size: 9, spacing: 1us}",
        ),
        "links.up.latency": duration,
        "links.up.bandwidth": one_of("null", "1Mbit/s", "100Mbit/s"),
        "links.up.shared": one_of("true", "false"),
        "links.wan.latency": one_of("0", "3ms"),
        "nodes.gateway.workers": one_of("1", "2", "5"),
        "nodes.gateway.service": one_of("0", "1ms", "{exponential: 1ms}", "{normal: {mean: 1ms, sd: 1ms}}"),
        "placement.sensors": one_of(
            "device", "edge", "cloud", "{cascade: [device, cloud], threshold: 0.5}",
            "{cascade: [edge, cloud], threshold: 0.5}", "{cascade: [device, edge, cloud], threshold: 0.9}",
        ),
    }  # fmt: skip
    overload = data.draw(st.sampled_from(({}, *OVERLOADED)))
    assert_same(load(tmp_path, RICH, PRICED | changes | overload))


def test_two_packets_in_the_same_nanosecond_keep_their_order(tmp_path: Path) -> None:
    """All devices send at once over a slow link: the k-th arrives after k transmissions, in order of the devices."""
    same = {"devices.sensors.traffic": "{pattern: periodic, period: 5s, phase: same}", "nodes.gateway.service": "0"}
    for engine in ("event", "vector"):
        rows, _ = trace_of(load(tmp_path, MINIMAL, same), engine)
        first = rows[:10]
        assert first[:, R_CREATED].tolist() == [0] * 10
        assert first[:, R_DEVICE].tolist() == list(range(10))
        latency = first[:, R_ANSWERED]
        assert latency.tolist() == [(k + 1) * 800_000 + 5_000_000 + 80_000 + 5_000_000 for k in range(10)]


def test_what_needs_events_says_why(tmp_path: Path) -> None:
    changes = {
        "nodes.gateway.batch": "{max_size: 4}",
        "nodes.gateway.queue": "5",
        "links.up.loss": "{to_bad: 0.1, to_good: 0.5}",
        "links.up.retries": "{max: 2}",
        "links.up.queue": "3",
        "links.up.shaper": "{rate: 1Mbit/s, burst: 2kB}",
        "devices.sensors.timeout": "1s",
        "placement": "edge if queue_edge < 3 else cloud",
        "faults": "[{fault: node_down, node: cloud, at: 1s, lasts: 1s}]",
    }
    scenario = load(tmp_path, MINIMAL, changes)
    assert why_not_vectorised(scenario) == [
        "links.up: bursty loss",
        "links.up: retries",
        "links.up: a queue limit",
        "links.up: a shaper",
        "nodes.gateway: batching",
        "nodes.gateway: a queue limit",
        "devices.sensors: a timeout",
        "devices.sensors: a placement that looks at the state",
        "faults: node_down",
    ]
    assert simulate(scenario).engine == "event"
    with pytest.raises(ConfigurationError, match=r"the vectorised engine cannot run test: links\.up: bursty loss"):
        simulate(scenario, engine="vector")


def test_links_that_lead_round_need_events(tmp_path: Path) -> None:
    """One group goes over `up` and `wan`, the other over `wan` and then `up`."""
    changes = {
        "devices.others": "{traffic: {pattern: periodic, period: 1s}}",
        "links.up.from": "[sensors, cloud]",
        "links.wan.from": "[others, gateway]",
        "placement": "{sensors: cloud, others: edge}",
    }
    scenario = load(tmp_path, MINIMAL, changes)
    assert why_not_vectorised(scenario) == []
    summary = simulate(scenario)
    assert summary.engine == "event"
    assert set(summary.by_tier) == {"edge", "cloud"}
    with pytest.raises(ConfigurationError, match="some lead back to where others come from"):
        simulate(scenario, engine="vector")


def test_cost_grows_with_requests_not_with_idle_time_or_devices(tmp_path: Path) -> None:
    """A thousand times the time between the same number of requests gives the same number of events."""
    events = []
    for period, duration, devices in (("1s", "10s", 10), ("1000s", "10000s", 10), ("1000s", "1000s", 100)):
        changes = {
            "devices.sensors.traffic": f"{{pattern: periodic, period: {period}}}",
            "run.duration": duration,
            "devices.sensors.count": str(devices),
        }
        engine = EventEngine(build_plan(load(tmp_path, MINIMAL, changes)))
        assert sum(rows.size for _, rows in engine.run()) == 100
        events.append(int(engine.machine.clock[C_EVENTS]))
    assert max(events) <= 300
    assert min(events) > 290  # three a request; what the end cuts off has fewer


def test_requests_cut_off_by_the_end_are_in_flight(tmp_path: Path) -> None:
    rows, _ = trace_of(load(tmp_path, MINIMAL, {"links.up.latency": "3s"}), "vector")
    assert set(rows[:, R_OUTCOME].tolist()) == {ANSWERED, IN_FLIGHT}
    late = rows[rows[:, R_OUTCOME] == IN_FLIGHT]
    assert (late[:, R_ANSWERED] == -1).all()
    assert (late[:, R_CREATED] > 3_900_000_000).all()


PROGRAM = """
import sys
from pathlib import Path
from tests.sim.runs import load
from tests.sim.test_engines import RICH
from tierwise.sim import simulate
from tierwise.sim.event import EventEngine
batched = {"nodes.gateway.batch": "{max_size: 4, max_wait: 2ms, marginal: 0.2}", "run.duration": "3s",
           "links.up.retries": "{max: 3, backoff: 5ms, factor: 1.5}",
           "links.wan.loss": "{to_bad: 0.05, to_good: 0.3}", "devices.sensors.count": "20",
           "devices.cameras.timeout": "300ms", "faults": "[{fault: node_down, node: cloud, at: 1s, lasts: 300ms}]"}
print(simulate(load(Path("."), RICH, batched)).trace_sha256)
"""
GOLDEN = "2f47e551d98dcf6243bf39595cfef863dd85b51af20bda2d672740a12ee24482"


def digest_in_a_process(**environment: str) -> str:
    """The trace's hash as another process gets it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_trace_is_the_same_in_any_process_compiled_or_not() -> None:
    assert digest_in_a_process(PYTHONHASHSEED="1") == GOLDEN
    assert digest_in_a_process(PYTHONHASHSEED="2", NUMBA_DISABLE_JIT="1") == GOLDEN


def test_numba_is_there_in_ci() -> None:
    need(package="numba")
    assert COMPILES


def test_links_count_what_they_deliver(tmp_path: Path) -> None:
    _, plan = trace_of(load(tmp_path), "event")
    assert plan.ints[plan.links["up", 0], L_DELIVERED] == plan.ints[plan.links["up", 0], L_MESSAGES] > 0
