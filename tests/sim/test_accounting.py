"""What is booked: the part that lies within the run, before a failure, and within what a battery holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import pytest

from tests.scenario.examples import MINIMAL
from tests.sim.runs import load, trace_of
from tests.sim.test_faults import at
from tierwise.core.errors import ConfigurationError
from tierwise.sim import simulate
from tierwise.sim.event import EventEngine
from tierwise.sim.kernel.tables import (
    BATTERY,
    C_DEVICE_SHIFT,
    D_DEAD,
    R_ANSWERED,
    R_CREATED,
    R_ENERGY,
    R_FINISHED,
    R_OUTCOME,
    R_RUNS,
    R_SENT,
    R_STARTED,
    R_TX,
    R_UP,
)
from tierwise.sim.numerics import number_of_send
from tierwise.sim.plan import build_plan
from tierwise.sim.ranks import order_shifts
from tierwise.sim.results import words as told
from tierwise.sim.statistics import Interval, batch_means

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.sim import Summary

Engine = Literal["event", "vector"]
ENGINES: tuple[Engine, ...] = ("event", "vector")
SLOW_LINK = {
    "links.up.bandwidth": "1kbit/s",
    "links.up.radio": "{tx: 1mJ/bit, source: test}",
    "links.up.price": "{per_gb: 1, source: test}",
}
POWER = {"nodes.gateway.power": "{idle: 1W, busy: 11W, source: test}"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_link_carries_no_more_than_the_time_allows(tmp_path: Path, engine: Engine) -> None:
    """Ten messages of 8 s in 10 s: one has been sent, and a quarter of the next."""
    times = at(tmp_path, *range(10))
    summary = simulate(load(tmp_path, MINIMAL, times | SLOW_LINK), engine=engine)
    up = summary.links["up"]["up"]
    assert (up.offered, up.messages, up.delivered, up.in_flight) == (10, 10, 1, 9)
    assert up.utilisation == 1.0
    assert up.bytes == 1250
    assert up.mean_wait_ms == pytest.approx((0 + 7000) / 2)
    assert summary.energy_j.device_active == pytest.approx(1250 * 8 * 0.001)
    assert summary.cost.links["up"] == pytest.approx((1250 + summary.links["up"]["down"].bytes) / 1e9)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_node_is_busy_no_longer_than_the_run(tmp_path: Path, engine: Engine) -> None:
    changes = at(tmp_path, *range(10)) | POWER | {"nodes.gateway.service": "60s", "links.up.bandwidth": "null"}
    summary = simulate(load(tmp_path, MINIMAL, changes | {"links.up.latency": "0"}), engine=engine)
    node = summary.nodes["gateway"]
    assert (node.offered, node.served, node.running_at_end, node.waiting_at_end) == (10, 0, 1, 9)
    assert (node.utilisation, node.mean_batch, node.mean_wait_ms) == (1.0, 1.0, 0.0)
    assert summary.energy_j.nodes["gateway"] == pytest.approx(110)
    assert node.mean_queue == pytest.approx(sum(range(1, 10)) / 10)  # the last came at 9 s, the second at 1 s


@pytest.mark.parametrize("engine", ENGINES)
def test_an_inference_that_the_end_cuts_costs_its_part(tmp_path: Path, engine: Engine) -> None:
    changes = at(tmp_path, 8) | {"models.anomaly.device": "{service: 4s, energy: 6J, source: test}"}
    rows, _ = trace_of(load(tmp_path, MINIMAL, changes | {"placement": "device"}), engine)
    assert rows[0, R_ENERGY] == 3_000_000_000
    assert rows[0, R_RUNS] == 1
    changes |= at(tmp_path, 4, 8, 8.5)
    rows, _ = trace_of(load(tmp_path, MINIMAL, changes | {"placement": "device"}), engine)
    assert rows[:, R_ENERGY].tolist() == [6_000_000_000, 3_000_000_000, 0]
    assert rows[:, R_RUNS].tolist() == [1, 1, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loss_after_the_end_is_not_known(tmp_path: Path, engine: Engine) -> None:
    changes = at(tmp_path, 0, 5) | {"links.up.bandwidth": "1kbit/s", "links.up.loss": "1"}
    summary = simulate(load(tmp_path, MINIMAL, changes), engine=engine)
    assert summary.dropped == {"link_loss": 1}
    assert summary.in_flight == 1
    assert (summary.links["up"]["up"].lost, summary.links["up"]["up"].in_flight) == (1, 1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_failed_node_was_busy_until_it_failed(tmp_path: Path, workers: str) -> None:
    changes = at(tmp_path, 0.5, 4, 4.1) | POWER | {
        "nodes.gateway.service": "1s",
        "nodes.gateway.workers": workers,
        "links.up.bandwidth": "null",
        "links.up.latency": "0",
        "faults": "[{fault: node_down, node: gateway, at: 1s, lasts: 1s}, "
        "{fault: node_down, node: gateway, at: 1500ms, lasts: 2s}]",
    }  # fmt: skip
    summary = simulate(load(tmp_path, MINIMAL, changes))
    node = summary.nodes["gateway"]
    assert (node.served, node.cut) == (2, 1)
    assert node.utilisation * 10 * int(workers) == pytest.approx(0.5 + 2)
    assert summary.energy_j.nodes["gateway"] == pytest.approx(10 + 10 * 2.5 / int(workers))


def test_waiting_for_what_a_failure_takes_counts_in_the_queue(tmp_path: Path) -> None:
    changes = at(tmp_path, 0, 0.2) | {
        "nodes.gateway.service": "9s",
        "links.up.bandwidth": "null",
        "links.up.latency": "0",
        "faults": "[{fault: node_down, node: gateway, at: 1s, lasts: 1s}]",
    }
    assert simulate(load(tmp_path, MINIMAL, changes)).nodes["gateway"].mean_queue == pytest.approx(0.08)


def test_energy_after_giving_up_is_energy(tmp_path: Path) -> None:
    """The answer still comes, and receiving it costs."""
    changes = at(tmp_path, 1) | {
        "devices.sensors.timeout": "100ms",
        "nodes.gateway.service": "1s",
        "links.up.radio": "{tx: 1nJ/bit, rx: 1mJ/bit, source: test}",
    }
    summary = simulate(load(tmp_path, MINIMAL, changes))
    assert summary.dropped == {"timeout": 1}
    assert summary.energy_j.device_active == pytest.approx(100 * 8 * 0.001 + 8000e-9)


# Batteries

IDLE = {
    "devices.sensors.board": "{active_power: 1W, idle_power: 1mW, source: test}",
    "devices.sensors.battery": "{capacity: 1J, source: test}",
    "run.duration": "2h",
}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_radio_that_idles_draws_as_a_board_does(tmp_path: Path, engine: Engine) -> None:
    silent = {"devices.sensors.traffic.start": "9s", "devices.sensors.count": "2"}
    radio = {"links.up.radio": "{idle_power: 3mW, source: test}"}
    board = {"devices.sensors.board": "{active_power: 1W, idle_power: 1mW, source: test}"}
    energy = [
        simulate(load(tmp_path, MINIMAL, silent | more), engine=engine).energy_j.device_idle
        for more in (radio, board, radio | board)
    ]
    assert energy == pytest.approx([2 * 0.03, 2 * 0.01, 2 * 0.04])


def test_an_idle_radio_empties_a_battery(tmp_path: Path) -> None:
    radio = {"links.up.radio": "{idle_power: 1W, source: test}"}
    battery = {
        "devices.sensors.board": "{active_power: 1W, source: test}",
        "devices.sensors.battery": "{capacity: 5J, source: test}",
    }
    summary = simulate(load(tmp_path, MINIMAL, radio | battery))
    assert summary.silent_devices == 10
    assert summary.energy_j.device_idle == pytest.approx(50)


def idle_run(folder: Path, changes: dict[str, str], *times: float) -> Summary:
    """One device that idles at 1 mW from a battery of 1 J."""
    return simulate(load(folder, MINIMAL, at(folder, *times) | IDLE | changes))


@pytest.mark.parametrize("times", [(3600.0,), (7000.0,)])
def test_a_battery_ends_when_it_is_empty(tmp_path: Path, times: tuple[float, ...]) -> None:
    """1 J at 1 mW is 1000 s, whenever the device would next make a request."""
    summary = idle_run(tmp_path, {}, *times)
    assert summary.energy_j.device_idle == pytest.approx(1.0)
    assert (summary.silent_devices, summary.requests, summary.requests_not_made) == (1, 0, 1)


def test_a_device_that_asks_nothing_dies_too(tmp_path: Path) -> None:
    summary = idle_run(tmp_path, {"devices.sensors.traffic.stop": "1s"}, 3.0)
    assert (summary.silent_devices, summary.requests, summary.requests_not_made) == (1, 0, 0)
    assert summary.energy_j.device_idle == pytest.approx(1.0)


def test_idling_and_work_empty_a_battery_together(tmp_path: Path) -> None:
    """0.5 J after 500 s; the inference then draws 0.999 W more than idling, and lasts 0.5 s."""
    changes = {"placement": "device", "models.anomaly.device": "{service: 2s, accuracy: 1, source: test}"}
    rows, plan = trace_of(load(tmp_path, MINIMAL, at(tmp_path, 500) | IDLE | changes), "event")
    assert rows[0, R_OUTCOME] == BATTERY
    assert (rows[0, R_STARTED], rows[0, R_FINISHED]) == (500_000_000_000, -1)
    assert rows[0, R_ENERGY] == pytest.approx(0.999 * 0.5e9)
    summary = idle_run(tmp_path, changes, 500.0)
    assert summary.energy_j.total == pytest.approx(1.0, rel=1e-6)
    assert summary.silent_devices == 1
    assert plan.names == ["sensors"]


@pytest.mark.parametrize(("service", "duty", "watts"), [("2s", "1", 1.05), ("200ms", "0.1", 0.5)])
def test_what_waits_for_the_processor_or_the_sender_draws_nothing_yet(
    tmp_path: Path, service: str, duty: str, watts: float
) -> None:
    """Two requests a second, 1 W while computing and 1 W for 0.1 s of sending, from 20 J.

    Inferences of 2 s queue up: 1 W of them and a message every 2 s. Or the messages do, at one a second: 0.1 W, beside
    0.4 W of inferences.
    """
    changes = at(tmp_path, *(0.5 * number for number in range(120))) | {
        "run.duration": "60s",
        "placement": "{cascade: [device, edge], threshold: 1}",
        "models.anomaly.device": f"{{service: {service}, accuracy: 1, source: test}}",
        "devices.sensors.board": "{active_power: 1W, source: test}",
        "devices.sensors.battery": "{capacity: 20J, source: test}",
        "links.up.shared": "false",
        "links.up.bandwidth": "80kbit/s",
        "links.up.bandwidth_down": "1Gbit/s",
        "links.up.duty_cycle": duty,
        "links.up.radio": "{tx_power: 1W, source: test}",
    }
    scenario = load(tmp_path, MINIMAL, changes)
    rows, plan = trace_of(scenario, "event")
    dead = int(plan.devices[0, D_DEAD]) * 1e-9
    assert dead == pytest.approx(20 / watts, abs=1)
    assert rows[:, R_ENERGY].sum() == pytest.approx(20e9)
    summary = simulate(scenario)
    up = summary.links["up"]["up"]
    assert summary.energy_j.total == pytest.approx(20)
    assert up.bytes == rows[:, R_UP].sum() <= 1000 * math.ceil(dead)  # nothing is sent after the battery's end
    assert (rows[:, R_SENT] > 0).sum() == up.offered
    assert up.messages == up.delivered + up.lost + up.cut
    assert up.mean_wait_ms == pytest.approx(0 if duty == "1" else 250 * dead, rel=0.05)


def test_rounding_ends_no_battery_before_its_last_use(tmp_path: Path) -> None:
    """1 mJ goes to the air in some 8 us, 125 nJ in each nanosecond; idling at 1 mW takes a microsecond for one."""
    for microjoule in range(900, 1000, 10):
        changes = at(tmp_path, 0.0, 0.000001) | {
            "run.duration": "1s",
            "placement": "{cascade: [device, edge], threshold: 1}",
            "models.anomaly.device": "{service: 0, accuracy: 1, source: test}",
            "devices.sensors.board": "{active_power: 1mW, idle_power: 1mW, source: test}",
            "devices.sensors.battery": f"{{capacity: {microjoule}uJ, source: test}}",
            "links.up.bandwidth": "1Gbit/s",
            "links.up.radio": "{wake: 1mJ, source: test}",
        }
        scenario = load(tmp_path, MINIMAL, changes)
        _, plan = trace_of(scenario, "event")
        assert plan.devices[0, D_DEAD] >= 1_000
        assert simulate(scenario).energy_j.device_idle > 0


def test_silent_devices_are_devices(tmp_path: Path) -> None:
    changes = IDLE | {"devices.sensors.traffic": "{pattern: periodic, period: 10s, phase: same}"}
    summary = simulate(load(tmp_path, MINIMAL, changes))
    assert summary.silent_devices == 10
    assert summary.requests == 10 * 100
    assert summary.requests_not_made == 10 * 620
    assert summary.energy_j.device_idle == pytest.approx(10)


def test_a_dead_device_sends_nothing(tmp_path: Path) -> None:
    """It would compute from 0.9 s to 1.5 s and escalate then; at 1 s its battery is taken out."""
    changes = {
        "placement": "{cascade: [device, edge], threshold: 1}",
        "models.anomaly.device": "{service: 600ms, accuracy: 1, source: test}",
        "faults": "[{fault: battery_out, devices: sensors, at: 1s}]",
    }
    summary = simulate(load(tmp_path, MINIMAL, at(tmp_path, 0.9) | changes))
    assert summary.dropped == {"battery": 1}
    assert summary.links["up"]["up"].offered == summary.nodes["gateway"].offered == 0
    # A message on the air is cut: 0.8 of its 1 s.
    slow = {"links.up.bandwidth": "8kbit/s", "faults": changes["faults"]}
    summary = simulate(load(tmp_path, MINIMAL, at(tmp_path, 0.2) | slow))
    up = summary.links["up"]["up"]
    assert (up.cut, up.bytes) == (1, 800)
    assert up.utilisation == pytest.approx(0.08)
    # Nor does a retry come from it.
    retry = {"links.up.loss": "1", "links.up.retries": "{max: 9, backoff: 100ms}", "faults": changes["faults"]}
    rows, _ = trace_of(load(tmp_path, MINIMAL, at(tmp_path, 0.5) | retry), "event")
    assert rows[0, R_OUTCOME] == BATTERY
    assert rows[0, R_TX] == 3  # after 0, 0.1 and 0.3 s; the next would be at 0.7 s


# Batches


def test_only_requests_of_one_model_are_executed_together(tmp_path: Path) -> None:
    text = MINIMAL.replace("placement: edge", "  other: {edge: {service: 10ms, source: test}}\nplacement: edge")
    changes = {
        "devices": "{a: {count: 2, model: anomaly, traffic: {pattern: offline, samples: 1}},"
        " b: {count: 2, model: other, traffic: {pattern: offline, samples: 1}}}",
        "links.up": "{from: [a, b], to: gateway}",
        "models.anomaly.edge": "{service: 10ms, source: test}",
        "nodes.gateway": "{tier: edge, batch: {max_size: 4, max_wait: 1s, marginal: 10%}}",
    }
    rows, _ = trace_of(load(tmp_path, text, changes), "event")
    assert (rows[:, R_STARTED] / 1e6).tolist() == [0, 0, 1000, 1000]
    assert (rows[:, R_FINISHED] / 1e6).tolist() == [11, 11, 1011, 1011]
    rows, _ = trace_of(load(tmp_path, text, changes | {"nodes.gateway.service": "20ms"}), "event")
    assert (rows[:, R_FINISHED] / 1e6).tolist() == [22, 22, 1022, 1022]


def test_a_batch_takes_its_firsts_draw_and_a_share_of_the_others(tmp_path: Path) -> None:
    """The same request draws the same service in any company, so that compared runs meet the same dice."""
    changes = {
        "devices.sensors.traffic": "{pattern: offline, samples: 1}",
        "devices.sensors.count": "8",
        "nodes.gateway.service": "{exponential: 10ms}",
        "links.up.bandwidth": "null",
    }
    alone, _ = trace_of(load(tmp_path, MINIMAL, changes), "event")
    batch = {"nodes.gateway.batch": "{max_size: 4, max_wait: 1s, marginal: 50%}"}
    together, _ = trace_of(load(tmp_path, MINIMAL, changes | batch), "event")
    own = alone[:, R_FINISHED] - alone[:, R_STARTED]
    service = together[:, R_FINISHED] - together[:, R_STARTED]
    for first in (0, 4):
        assert service[first] == math.floor(own[first] + own[first + 1 : first + 4].sum() / 2 + 0.5)


@pytest.mark.parametrize(("marginal", "square"), [(0.0, 2.0), (1.0, 4.0 + 4.0 * 4.0), (0.5, 1.0 + 3 * 0.25 + 2.5**2)])
def test_a_batch_varies_as_its_members_do(tmp_path: Path, marginal: float, square: float) -> None:
    """E[S^2] = Var + E^2 of a batch of four: of exponential draws of mean 1 the variance is 1 + 3 * marginal^2."""
    changes = {
        "devices.sensors.traffic": "{pattern: offline, samples: 4000}",
        "nodes.gateway.service": "{exponential: 1ms}",
        "nodes.gateway.batch": f"{{max_size: 4, marginal: {marginal}}}",
        "links.up.bandwidth": "null",
        "run.duration": "100s",
    }
    rows, _ = trace_of(load(tmp_path, MINIMAL, changes), "event")
    ends, sizes = np.unique(rows[:, R_FINISHED], return_counts=True)
    order = np.argsort(rows[:, R_FINISHED], kind="stable")
    starts = rows[order][np.searchsorted(rows[order, R_FINISHED], ends), R_STARTED]
    services = (ends - starts)[sizes == 4] / 1e6
    interval = batch_means(services**2)
    assert interval is not None
    assert interval.half_width is not None
    assert abs(interval.mean - square) < 2 * interval.half_width < 0.25 * square


def test_a_queue_limit_counts_while_all_workers_are_busy(tmp_path: Path) -> None:
    """An idle worker's batch may form beside it; then one may wait."""
    changes = {
        "devices.sensors.traffic": "{pattern: offline, samples: 1}",
        "nodes.gateway": "{tier: edge, service: 1s, queue: 1, batch: {max_size: 8, max_wait: 1s}}",
        "links.up.bandwidth": "null",
    }
    node = simulate(load(tmp_path, MINIMAL, changes)).nodes["gateway"]
    assert (node.offered, node.served, node.refused) == (10, 9, 1)


# Closed loops


def test_a_closed_loop_misses_what_was_lost_at_its_timeout(tmp_path: Path) -> None:
    changes = {
        "devices.sensors": "{request: 1kB, timeout: 300ms, traffic: {pattern: single_stream}}",
        "links.up.loss": "1",
    }
    rows, _ = trace_of(load(tmp_path, MINIMAL, changes), "event")
    assert rows[:5, R_CREATED].tolist() == [number * 300_000_000 for number in range(5)]
    assert len(rows) == 34


def test_a_query_waits_for_its_last_sample(tmp_path: Path) -> None:
    changes = {
        "devices.sensors.count": "1",
        "devices.sensors.traffic": "{pattern: multi_stream, samples: 3, queries: 4}",
        "nodes.gateway.service": "10ms",
        "devices.sensors.timeout": "1s",
    }
    rows, _ = trace_of(load(tmp_path, MINIMAL, changes), "event")
    last = (rows[:, R_ANSWERED] - rows[:, R_CREATED]).reshape(4, 3).max(axis=1)
    assert (rows[3::3, R_CREATED] == rows[0:-3:3, R_CREATED] + last[:-1]).all()
    queries = simulate(load(tmp_path, MINIMAL, changes)).queries["sensors"]
    assert (queries.queries, queries.answered) == (4, 4)
    assert queries.end_to_end_ms is not None
    assert queries.end_to_end_ms.mean == pytest.approx(last.mean() / 1e6)
    # A query with a sample that was lost is not answered, and the next comes when that is missed.
    lossy = changes | {"links.up.loss": "20%", "devices.sensors.traffic.queries": "null"}
    rows, _ = trace_of(load(tmp_path, MINIMAL, lossy), "event")
    missed = rows[rows[:, R_ANSWERED] < 0]
    assert len(missed) > 3
    following = set(rows[:, R_CREATED].tolist())
    assert all(created + 10**9 in following for created in missed[:-3, R_CREATED].tolist())
    queries = simulate(load(tmp_path, MINIMAL, lossy)).queries["sensors"]
    assert 0 < queries.answered < queries.queries == len(following)


# Numbers and orders


def test_fault_windows_cost_no_more_the_more_there_are(tmp_path: Path) -> None:
    """Twenty thousand windows behind a deep queue: each message looks at a few of them only."""
    changes = {
        "run.duration": "20000s",
        "devices.sensors.traffic": "{pattern: offline, samples: 2000}",
        "links.up.bandwidth": "8kbit/s",
        "faults": "[{fault: link_degraded, link: up, every: 500ms, lasts: 500ms, extra_latency: 1ms},"
        " {fault: link_degraded, link: up, at: 0, lasts: 20000s, extra_latency: 2ms}]",
    }
    summary = simulate(load(tmp_path, MINIMAL, changes))
    assert summary.wall_s < 15  # two hundred million looks otherwise
    assert summary.answered > 19_000


def test_overlapping_faults_act_together(tmp_path: Path) -> None:
    changes = {
        "faults": "[{fault: link_degraded, link: up, at: 1s, lasts: 4s, extra_latency: 7ms, bandwidth_factor: 0.5},"
        " {fault: link_degraded, link: up, at: 2s, lasts: 1s, extra_latency: 20ms, bandwidth_factor: 0.5},"
        " {fault: link_down, link: up, at: 2500ms, lasts: 100ms}]",
    }
    rows, _ = trace_of(load(tmp_path, MINIMAL, at(tmp_path, 0.5, 1.5, 2.2, 2.55, 2.8, 4, 6) | changes), "event")
    late = rows[:, R_ANSWERED] - rows[:, R_CREATED] - (rows[0, R_ANSWERED] - rows[0, R_CREATED])
    air = 880_000
    once, twice = air + 2 * 7_000_000, 3 * air + 2 * 27_000_000
    assert late[[0, 1, 2, 4, 5, 6]].tolist() == [0, once, twice, twice, once, 0]
    assert rows[3, R_ANSWERED] == -1


def test_equal_deadlines_give_up_rather_than_ask_elsewhere(tmp_path: Path) -> None:
    """With more stations than the deadlines' rank used to allow."""
    links = {f"links.hop{number}": f"{{from: hop{number}, to: hop{number + 1}}}" for number in range(70)}
    nodes = {f"nodes.hop{number}": "{tier: edge, service: 0}" for number in range(70)}
    changes = links | nodes | {
        "nodes.hop70": "{tier: cloud, service: 10s}",
        "links.up": "{from: sensors, to: hop0}",
        "links.wan": "null",
        "placement": "{fallback: [cloud, device], timeout: 100ms}",
        "devices.sensors.timeout": "100ms",
    }  # fmt: skip
    text = MINIMAL.replace("  wan: {from: gateway, to: cloud, latency: 20ms}\n", "")
    del changes["links.wan"]
    summary = simulate(load(tmp_path, text, at(tmp_path, 1) | changes))
    assert summary.dropped == {"timeout": 1}


def test_a_thousand_groups_of_one_run_in_both_engines(tmp_path: Path) -> None:
    """As the earlier form's thousand sensors: each with its own link."""
    groups = "".join(f"  s{i}: {{traffic: {{pattern: periodic, period: 1s}}, request: 1kB}}\n" for i in range(1000))
    links = "".join(f"  l{i}: {{from: s{i}, to: gateway, latency: 5ms}}\n" for i in range(1000))
    text = MINIMAL[: MINIMAL.index("devices:")] + f"devices:\n{groups}links:\n{links}"
    text += MINIMAL[MINIMAL.index("  wan:") :]
    scenario = load(tmp_path, text, {"run.duration": "2s"})
    one, other = (
        msgspec.structs.replace(simulate(scenario, engine=engine), engine="", wall_s=0.0) for engine in ENGINES
    )
    assert one.requests == 2000
    assert msgspec.to_builtins(one) == msgspec.to_builtins(other)


def test_ranks_devices_and_numbers_share_the_bits_of_an_order(tmp_path: Path) -> None:
    assert order_shifts(100, 1 << 24) == (24 + 31, 31)
    assert order_shifts(2003, 1000) == (10 + 41, 41)
    with pytest.raises(
        ConfigurationError, match="16777216 devices and 1048576 links, nodes and decisions are too many"
    ):
        order_shifts(1 << 20, 1 << 24)
    engine = EventEngine(build_plan(load(tmp_path)))
    most = 1 << int(engine.machine.clock[C_DEVICE_SHIFT])
    with pytest.raises(ConfigurationError, match=f"a device makes more than {most} requests"):
        engine.feed(np.array([[0, 0, most]]))


def test_the_earlier_form_with_a_thousand_sensors_runs(tmp_path: Path) -> None:
    sensors = "".join(f"  - {{id: s{i}, type: sensor, config: {{sample_rate_hz: 1}}}}\n" for i in range(1000))
    text = f"simulation: {{duration_s: 2, seed: 7}}\nnodes:\n{sensors}  - {{id: gateway, type: gateway}}\n"
    summary = simulate(load(tmp_path, text))
    assert summary.requests == 2000
    assert summary.answered > 1900


def test_every_send_has_dice_of_its_own() -> None:
    """Sixteen tries at each of eight hops, and more."""
    numbers = {number_of_send(k, sends) for k in (0, 1, 2, 63, 64, 2**40) for sends in range(1000)}
    assert len(numbers) == 6 * 1000
    assert max(numbers) < 2**63


def test_an_interval_says_when_its_batches_hang_together(tmp_path: Path) -> None:
    calm = simulate(load(tmp_path, MINIMAL, {"run.duration": "200s"})).end_to_end_interval_ms
    overload = {"nodes.gateway.service": "120ms", "run.duration": "200s"}
    growing = simulate(load(tmp_path, MINIMAL, overload)).end_to_end_interval_ms
    assert calm is not None
    assert growing is not None
    assert not calm.hangs_together
    assert growing.hangs_together
    assert "too narrow" in told.method(growing)
    assert "too narrow" not in told.method(calm)


def test_no_interval_is_not_an_exact_one() -> None:
    assert Interval(1.0, None, "replications", 1).scaled(1e-6).half_width is None
