"""Faults, retries, deadlines, batteries: what happens to single requests, and what is conserved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scenario.examples import MINIMAL
from tests.sim.runs import load, trace_of
from tests.sim.test_engines import PRICED, RICH, assert_in_bounds
from tierwise.sim import simulate
from tierwise.sim.kernel.tables import (
    ANSWERED,
    BATTERY,
    BROKER_RESTART,
    D_DEAD,
    D_SPENT,
    IN_FLIGHT,
    LINK_DOWN,
    LINK_LOSS,
    LINK_QUEUE,
    NODE_DOWN,
    NODE_QUEUE,
    R_ANSWERED,
    R_ARRIVED,
    R_CREATED,
    R_DEVICE,
    R_ENERGY,
    R_FINISHED,
    R_OUTCOME,
    R_RUNS,
    R_SENT,
    R_STARTED,
    R_TIER,
    R_TX,
    TIMEOUT,
)

if TYPE_CHECKING:
    from pathlib import Path

ONE = {"devices.sensors.count": "1", "devices.sensors.traffic": "{pattern: trace, file: times.csv}"}


def at(folder: Path, *times: float) -> dict[str, str]:
    """One device that sends at the given seconds."""
    np.savetxt(folder / "times.csv", times, header="time_s", comments="", fmt="%.6f")
    return ONE


def outcomes(folder: Path, changes: dict[str, str], *times: float) -> list[int]:
    """What becomes of requests made at the given seconds."""
    rows, _ = trace_of(load(folder, MINIMAL, at(folder, *times) | changes), "event")
    return [int(outcome) for outcome in rows[:, R_OUTCOME]]


def test_a_link_that_is_down_loses_what_touches_the_outage(tmp_path: Path) -> None:
    fault = {"faults": "[{fault: link_down, link: up, at: 1s, lasts: 1s}]"}
    # The answer to the second meets the outage; the third is on the air when it begins.
    assert outcomes(tmp_path, fault, 0.5, 0.9936, 0.9995, 1.5, 2.0) == [
        ANSWERED,
        LINK_DOWN,
        LINK_DOWN,
        LINK_DOWN,
        ANSWERED,
    ]


def test_retries_bridge_an_outage(tmp_path: Path) -> None:
    fault = {
        "faults": "[{fault: link_down, link: up, at: 1s, lasts: 1s}]",
        "links.up.retries": "{max: 3, backoff: 200ms, factor: 2}",
    }
    rows, _ = trace_of(load(tmp_path, MINIMAL, at(tmp_path, 1.0) | fault), "event")
    # Tries at 0, +0.2, +0.4, +0.8 s, each after 0.8 ms on the air.
    assert rows[0, R_OUTCOME] == ANSWERED
    assert rows[0, R_TX] == 4
    assert rows[0, R_ARRIVED] == 1_000_000_000 + 4 * 800_000 + 1_400_000_000 + 5_000_000


def test_a_node_that_fails_loses_what_it_holds_and_refuses_what_comes(tmp_path: Path) -> None:
    changes = {
        "faults": "[{fault: node_down, node: gateway, at: 1s, lasts: 1s}]",
        "nodes.gateway.service": "300ms",
        "links.up.bandwidth": "null",
        "links.up.latency": "0",
    }
    got = outcomes(tmp_path, changes, 0.5, 0.75, 0.76, 1.5, 2.0)
    assert got == [ANSWERED, NODE_DOWN, NODE_DOWN, NODE_DOWN, ANSWERED]


def test_a_node_that_fails_loses_what_it_executes_at_once(tmp_path: Path) -> None:
    changes = {"faults": "[{fault: node_down, node: gateway, at: 9s, lasts: 2s}]", "nodes.gateway.service": "3s"}
    assert outcomes(tmp_path, changes, 8.0, 8.1) == [NODE_DOWN, NODE_DOWN]  # the run ends at 10 s, the service at 11 s
    late = changes | {"devices.sensors.timeout": "1200ms"}
    assert outcomes(tmp_path, late, 7.0, 8.0) == [TIMEOUT, NODE_DOWN]


def test_who_gives_up_before_a_loss_shows_has_given_up(tmp_path: Path) -> None:
    # Each message is on the air for a second; the second one is lost at 2 s, the device waits until 1.6 s.
    changes = {
        "faults": "[{fault: link_down, link: up, at: 1.2s, lasts: 1s}]",
        "links.up.bandwidth": "8kbit/s",
        "devices.sensors.timeout": "1500ms",
    }
    assert outcomes(tmp_path, changes, 0, 0.1) == [ANSWERED, TIMEOUT]
    patient = changes | {"devices.sensors.timeout": "3s"}
    assert outcomes(tmp_path, patient, 0, 0.1) == [ANSWERED, LINK_DOWN]


def test_what_is_too_late_for_the_edge_goes_no_further(tmp_path: Path) -> None:
    changes = {"placement": "{cascade: [edge, cloud], threshold: 1, timeout: 100ms}", "nodes.cloud.service": "1s"}
    summary = simulate(load(tmp_path, MINIMAL, at(tmp_path, 0.5) | changes))
    assert summary.by_tier["edge"].answered == summary.nodes["cloud"].served == summary.answered == 1
    assert summary.links["wan"]["down"].delivered == 1
    assert summary.links["up"]["down"].messages == 1  # the edge's answer alone


def test_after_a_deadline_the_next_link_has_all_its_tries(tmp_path: Path) -> None:
    changes = {
        "placement": "{cascade: [edge, cloud], threshold: 1, timeout: 400ms}",
        "links.wan.retries": "{max: 1, backoff: 1ms}",
        "links.up.retries": "{max: 1, backoff: 300ms}",
        "faults": "[{fault: link_down, link: wan, at: 0s, lasts: 10s}, "
        "{fault: link_down, link: up, at: 0.8s, lasts: 200ms}]",
    }
    rows, _ = trace_of(load(tmp_path, MINIMAL, at(tmp_path, 0.5) | changes), "event")
    assert rows[0, R_OUTCOME] == ANSWERED
    answer_sent = 500_000_000 + 800_000 + 5_000_000 + 700_000 + 400_000_000
    assert rows[0, R_ANSWERED] == answer_sent + 80_000 + 300_000_000 + 80_000 + 5_000_000


def test_a_broker_restart_loses_messages_and_keeps_work(tmp_path: Path) -> None:
    changes = {
        "faults": "[{fault: broker_restart, node: gateway, at: 1s, lasts: 1s}]",
        "nodes.gateway.service": "300ms",
    }
    assert outcomes(tmp_path, changes, 0.9, 1.5, 2.1) == [ANSWERED, BROKER_RESTART, ANSWERED]


def test_a_degraded_link_is_slower_and_later(tmp_path: Path) -> None:
    degraded = "{fault: link_degraded, link: up, at: 1s, lasts: 1s, bandwidth_factor: 0.5, extra_latency: 7ms}"
    scenario = load(tmp_path, MINIMAL, at(tmp_path, 0.5, 1.5) | {"faults": f"[{degraded}]"})
    rows, _ = trace_of(scenario, "event")
    latency = rows[:, R_ANSWERED] - rows[:, R_CREATED]
    assert latency[1] - latency[0] == 800_000 + 80_000 + 2 * 7_000_000


def test_queue_limits_refuse(tmp_path: Path) -> None:
    link = {"links.up.queue": "1", "links.up.bandwidth": "8kbit/s"}  # a second on the air
    assert outcomes(tmp_path, link, 0, 0.1, 0.2, 1.05)[1:3] == [ANSWERED, LINK_QUEUE]
    node = {"nodes.gateway.queue": "1", "nodes.gateway.service": "1s"}
    assert outcomes(tmp_path, node, 0, 0.1, 0.2, 1.05) == [ANSWERED, ANSWERED, NODE_QUEUE, ANSWERED]


def test_a_device_gives_up_after_its_timeout(tmp_path: Path) -> None:
    changes = {"devices.sensors.timeout": "500ms", "nodes.gateway.service": "400ms"}
    rows, plan = trace_of(load(tmp_path, MINIMAL, at(tmp_path, 0, 0.05, 2) | changes), "event")
    assert rows[:, R_OUTCOME].tolist() == [ANSWERED, TIMEOUT, ANSWERED]
    assert rows[1, R_ANSWERED] == -1
    assert rows[1, R_STARTED] > 0
    assert rows[1, R_FINISHED] == -1
    assert simulate(load(tmp_path, MINIMAL, at(tmp_path, 0, 0.05, 2) | changes)).nodes["gateway"].served == 3
    assert plan.names == ["sensors"]


def test_fallback_asks_the_next_tier_when_the_first_is_silent(tmp_path: Path) -> None:
    changes = {
        "placement": "{fallback: [cloud, device], timeout: 200ms}",
        "faults": "[{fault: link_down, link: wan, at: 1s, lasts: 1s}]",
    }
    rows, _ = trace_of(load(tmp_path, MINIMAL, at(tmp_path, 0.5, 1.5) | changes), "event")
    assert rows[:, R_TIER].tolist() == [2, 0]
    assert rows[:, R_RUNS].tolist() == [0, 1]
    assert rows[1, R_ANSWERED] - rows[1, R_CREATED] == 200_000_000 + 5_000_000


def test_a_late_answer_is_ignored_after_the_fallback(tmp_path: Path) -> None:
    changes = {"placement": "{fallback: [cloud, device], timeout: 200ms}", "nodes.cloud.service": "1s"}
    summary = simulate(load(tmp_path, MINIMAL, at(tmp_path, 0.5) | changes))
    assert summary.answered == summary.requests == 1
    assert summary.by_tier["device"].answered == 1
    assert summary.nodes["cloud"].served == 1
    assert summary.links["up"]["down"].delivered == 1


def test_a_cascade_keeps_its_answer_when_the_escalation_fails(tmp_path: Path) -> None:
    changes = {
        "placement": "{cascade: [edge, cloud], threshold: 1, timeout: 100ms}",
        "faults": "[{fault: node_down, node: cloud, at: 0, lasts: 1s}]",
    }
    rows, _ = trace_of(load(tmp_path, MINIMAL, at(tmp_path, 0.5, 1.5) | changes), "event")
    assert rows[:, R_TIER].tolist() == [1, 2]
    up, service, down = 800_000 + 5_000_000, 700_000, 80_000 + 5_000_000
    assert rows[0, R_ANSWERED] - rows[0, R_CREATED] == up + service + 100_000_000 + down


def test_a_cascade_without_a_timeout_loses_the_answer(tmp_path: Path) -> None:
    changes = {
        "placement": "{cascade: [edge, cloud], threshold: 1}",
        "faults": "[{fault: node_down, node: cloud, at: 0, lasts: 1s}]",
    }
    assert outcomes(tmp_path, changes, 0.5, 1.5) == [NODE_DOWN, ANSWERED]


def test_a_device_without_energy_is_silent(tmp_path: Path) -> None:
    changes = {
        "devices.sensors.board": "{active_power: 1W, idle_power: 0mW, source: test}",
        "devices.sensors.battery": "{capacity: 12mJ, source: test}",
        "placement": "device",
    }
    scenario = load(tmp_path, MINIMAL, at(tmp_path, 1, 2, 3, 4, 5) | changes)
    summary = simulate(scenario)
    assert summary.requests == 3  # 5 mJ each: the third ends when its last 2 mJ do
    assert summary.dropped == {"battery": 1}
    assert summary.silent_devices == 1
    assert summary.requests_not_made == 2
    assert summary.energy_j.device_active == pytest.approx(0.012)


def test_an_answer_to_a_dead_device_is_lost(tmp_path: Path) -> None:
    changes = {"faults": "[{fault: battery_out, devices: sensors, at: 1s}]", "nodes.gateway.service": "300ms"}
    assert outcomes(tmp_path, changes, 0.5, 0.9, 1.5) == [ANSWERED, BATTERY]


def test_bursty_loss_comes_in_runs(tmp_path: Path) -> None:
    """Share lost = loss_bad * to_bad / (to_bad + to_good); runs of losses last 1 / to_good on average."""
    changes = {
        "links.up.loss": "{to_bad: 0.02, to_good: 0.2}",
        "devices.sensors.traffic": "{pattern: periodic, period: 10ms}",
        "run.duration": "200s",
    }
    rows, _ = trace_of(load(tmp_path, MINIMAL, changes | {"links.up.shared": "false"}), "event")
    own = rows[rows[:, R_DEVICE] == 0]
    lost_up = (own[:, R_OUTCOME] == LINK_LOSS) & (own[:, R_ARRIVED] < 0)
    assert lost_up.mean() == pytest.approx(0.02 / 0.22, rel=0.15)
    starts = np.flatnonzero(np.diff(lost_up.astype(int)) == 1).size
    assert lost_up.sum() / starts == pytest.approx(5, rel=0.15)


def test_closed_loops_wait_for_their_answers(tmp_path: Path) -> None:
    changes = {"devices.sensors.traffic": "{pattern: single_stream, queries: 5}", "devices.sensors.count": "1"}
    rows, _ = trace_of(load(tmp_path, MINIMAL, changes), "event")
    assert len(rows) == 5
    assert (rows[1:, R_CREATED] == rows[:-1, R_ANSWERED]).all()
    changes["devices.sensors.traffic"] = "{pattern: multi_stream, samples: 3, queries: 4}"
    rows, _ = trace_of(load(tmp_path, MINIMAL, changes), "event")
    assert len(rows) == 12
    assert len(np.unique(rows[:, R_CREATED])) == 4


def test_batches_share_a_worker(tmp_path: Path) -> None:
    changes = {
        "devices.sensors.traffic": "{pattern: periodic, period: 5s, phase: same}",
        "nodes.gateway.batch": "{max_size: 4, max_wait: 50ms, marginal: 50%}",
        "nodes.gateway.service": "10ms",
        "links.up.bandwidth": "null",
        "run.duration": "5s",
    }
    rows, _ = trace_of(load(tmp_path, MINIMAL, changes), "event")
    service = (rows[:, R_FINISHED] - rows[:, R_STARTED]) / 1e6
    assert service.tolist() == [25] * 4 + [25] * 4 + [15] * 2
    # The worker is free at 50 ms; the last two have waited long enough at 55 ms.
    assert (rows[:, R_STARTED] / 1e6).tolist() == [5] * 4 + [30] * 4 + [55] * 2


def test_a_new_device_changes_no_other_devices_trace(tmp_path: Path) -> None:
    changes = {"links.up.shared": "false", "nodes.gateway.workers": "4096", "devices.cameras.count": "3"}
    few, _ = trace_of(load(tmp_path, RICH, changes | {"placement": "edge"}), "event")
    many, _ = trace_of(load(tmp_path, RICH, changes | {"placement": "edge", "devices.cameras.count": "4"}), "event")
    assert len(many) > len(few)
    assert (many[many[:, R_DEVICE] < 63][:, :9] == few[:, :9]).all()


CHAOS = {
    "nodes.gateway.service": ("{exponential: 1ms}", "{exponential: 300ms}"),
    "links.up.bandwidth": ("10Mbit/s", "200kbit/s"),
    "nodes.gateway.batch": ("{max_size: 3, max_wait: 5ms}", "null"),
    "nodes.gateway.queue": ("0", "4", "null"),
    "links.up.queue": ("0", "2", "null"),
    "links.up.retries": ("{max: 2, backoff: 20ms}", "null"),
    "links.wan.loss": ("{to_bad: 0.2, to_good: 0.2}", "0.3"),
    "devices.cameras.timeout": ("40ms", "700ms"),
    "devices.cameras.traffic": ("{pattern: multi_stream, samples: 3}", "{pattern: burst, period: 200ms, size: 6}"),
    "devices.sensors.battery": ("{capacity: 1mJ, source: test}", "{capacity: 4mJ, source: test}", "null"),
    "placement.cameras": ("{fallback: [cloud, edge], timeout: 30ms}", "edge if queue_edge < 2 else cloud", "cloud"),
    "placement.sensors": ("{cascade: [device, edge, cloud], threshold: 0.8, timeout: 25ms}", "edge"),
    "faults": (
        "[{fault: node_down, node: gateway, every: 400ms, lasts: 100ms}]",
        "[{fault: link_down, link: wan, at: 1s, lasts: 300ms}, {fault: battery_out, devices: cameras, at: 1s}]",
        "[{fault: broker_restart, node: cloud, at: 500ms, lasts: 400ms}]",
        "[]",
    ),
}  # fmt: skip


@settings(max_examples=60)
@given(st.data())
def test_nothing_is_lost_without_a_trace(tmp_path: Path, data: st.DataObject) -> None:
    """Requests = answered + dropped + in flight; instants are in order; links and nodes balance."""
    changes = {where: data.draw(st.sampled_from(choices)) for where, choices in CHAOS.items()}
    changes |= PRICED | {"run.duration": "2s", "run.seed": str(data.draw(st.integers(0, 10**6)))}
    scenario = load(tmp_path, RICH, changes)
    summary = simulate(scenario)
    assert summary.requests == summary.answered + summary.in_flight + sum(summary.dropped.values()) > 0
    assert_in_bounds(scenario, summary)
    rows, plan = trace_of(scenario, "event")
    battery, board = scenario.devices["sensors"].battery, scenario.board_of("sensors")
    if battery is not None and board is not None:
        own = plan.devices[:60]
        drawn = own[:, D_SPENT] + board.idle_power * np.minimum(own[:, D_DEAD], scenario.run.duration)
        assert (drawn <= battery.capacity * 1e9 * (1 + 1e-6) + 2).all()
        assert (drawn[own[:, D_DEAD] < scenario.run.duration] >= battery.capacity * 1e9 * (1 - 1e-6) - 2).all()
    assert len(rows) == summary.requests
    assert len(np.unique(rows[:, :2], axis=0)) == len(rows)
    answered = rows[rows[:, R_OUTCOME] == ANSWERED]
    assert (answered[:, R_ANSWERED] >= answered[:, R_FINISHED]).all()
    assert (answered[:, R_FINISHED] >= answered[:, R_STARTED]).all()
    assert (answered[:, R_STARTED] >= answered[:, R_ARRIVED]).all()
    assert (rows[rows[:, R_OUTCOME] == IN_FLIGHT][:, R_ANSWERED] == -1).all()
    assert (rows[:, R_ANSWERED] < scenario.run.duration).all()
    assert ((rows[:, R_SENT] >= rows[:, R_CREATED]) | (rows[:, R_SENT] < 0)).all()
    assert (rows[:, R_ENERGY] >= 0).all()
    assert simulate(scenario).trace_sha256 == summary.trace_sha256
