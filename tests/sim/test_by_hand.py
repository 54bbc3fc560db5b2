"""Small scenarios as users write them, against what comes out on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.sim.runs import load, trace_of
from tests.sim.test_theory import holds
from tierwise.sim import Summary, simulate
from tierwise.sim.kernel.tables import NODE_QUEUE, R_OUTCOME
from tierwise.sim.statistics import batch_means

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, *sections: str) -> Summary:
    """One group ``s``: its devices, links, nodes, model, and the rest of the file."""
    devices, links, nodes, models, rest = sections
    text = f"tierwise: 1\ndevices: {{s: {devices}}}\nlinks: {links}\nnodes: {nodes}\nmodels: {{m: {models}}}\n{rest}\n"
    return simulate(load(folder, text))


def test_a_slow_radio_with_a_header_and_a_duty_cycle(tmp_path: Path) -> None:
    """63 B at 250 bit/s up, 23 B down; the radio sends at 0.12 W."""
    summary = run(
        tmp_path,
        "{count: 4, request: 50B, answer: 10B, traffic: {pattern: periodic, period: 10min}}",
        "{lora: {from: s, to: g, shared: false, bandwidth: 250bit/s, overhead: 13B, duty_cycle: 1%, "
        "radio: {tx_power: 120mW, source: t}}}",
        "{g: {tier: edge, service: 1ms}}", "{edge: {source: t}}", "placement: edge\nrun: {duration: 1h, seed: 7}",
    )  # fmt: skip
    assert summary.end_to_end_ms is not None
    assert summary.end_to_end_ms.p50 == summary.end_to_end_ms.max == pytest.approx(1000 * (63 + 23) * 8 / 250 + 1)
    assert summary.energy_j.total == pytest.approx(24 * 0.12 * 63 * 8 / 250)


def test_prices_of_hours_requests_and_bytes(tmp_path: Path) -> None:
    summary = run(
        tmp_path,
        "{count: 10, request: 100kB, answer: 1kB, traffic: {pattern: periodic, period: 1s}}",
        "{up: {from: s, to: c, price: {per_gb: 0.09, source: t}}}",
        "{c: {tier: cloud, service: 5ms, price: {per_hour: 0.5, per_request: 0.000001, source: t}}}",
        "{cloud: {source: t}}", "placement: cloud\nrun: {duration: 30min, seed: 7}\nslo: {cost_per_hour: 0.86}",
    )  # fmt: skip
    assert summary.cost.total == pytest.approx(0.5 / 2 + 18_000e-6 + 0.09 * 18_000 * 101_000 / 1e9)
    assert summary.slo == {"cost_per_hour": False}
    assert summary.nodes["c"].utilisation == pytest.approx(10 * 0.005)


def test_offline_takes_as_long_as_its_slowest_station(tmp_path: Path) -> None:
    summary = run(
        tmp_path,
        "{request: 1kB, traffic: {pattern: offline}}",
        "{up: {from: s, to: g, latency: 1ms, bandwidth: 100Mbit/s}}",
        "{g: {tier: edge, service: 10ms}}", "{edge: {source: t}}", "placement: edge\nrun: {duration: 10min, seed: 7}",
    )  # fmt: skip
    assert summary.end_to_end_ms is not None
    assert summary.end_to_end_ms.max == pytest.approx(0.08 + 1 + 24_576 * 10 + 64 * 8 / 100_000 + 1)
    assert summary.links["up"]["up"].mean_wait_ms == pytest.approx(24_575 / 2 * 0.08)


def test_a_battery_of_a_device_that_only_computes(tmp_path: Path) -> None:
    summary = run(
        tmp_path,
        "{count: 10, traffic: {pattern: periodic, period: 10s}, "
        "board: {active_power: 50mW, idle_power: 1mW, source: t}, battery: {capacity: 20J, source: t}}",
        "{}", "{}", "{device: {service: 100ms, source: t}}", "placement: device\nrun: {duration: 1h, seed: 7}",
    )  # fmt: skip
    assert summary.energy_j.total == pytest.approx(3600 * 0.1 * 0.049 + 10 * 3600 * 0.001)
    assert summary.silent_devices == 0


def test_a_fallback_pays_the_timeout_while_the_node_is_down(tmp_path: Path) -> None:
    summary = run(
        tmp_path,
        "{count: 10, request: 1kB, traffic: {pattern: periodic, period: 1s}}",
        "{up: {from: s, to: g, latency: 5ms}}", "{g: {tier: edge, service: 2ms}}",
        "{device: {service: 50ms, source: t}, edge: {source: t}}",
        "placement: {fallback: [edge, device], timeout: 100ms}\nrun: {duration: 100s, seed: 7}\n"
        "faults: [{fault: node_down, node: g, at: 50s, lasts: 25s}]",
    )  # fmt: skip
    assert {name: tier.answered for name, tier in summary.by_tier.items()} == {"device": 250, "edge": 750}
    device = summary.by_tier["device"].end_to_end_ms
    assert device is not None
    assert device.p50 == device.max == pytest.approx(150)


def test_carbon_and_the_idle_power_of_a_node_that_waits(tmp_path: Path) -> None:
    summary = run(
        tmp_path,
        "{count: 20, request: 1kB, traffic: {pattern: periodic, period: 1s}}",
        "{up: {from: s, to: g}}", "{g: {tier: edge, service: 1ms, power: {idle: 10W, busy: 20W, source: t}}}",
        "{edge: {source: t}}",
        "placement: edge\nrun: {duration: 1000s, seed: 7}\ncarbon: {intensity: 300g/kWh, source: t}",
    )  # fmt: skip
    joules = 10 * 1000 + 10 * 20 * 1000 * 0.001
    assert summary.energy_j.total == pytest.approx(joules)
    assert summary.carbon_g == pytest.approx(joules / 3.6e6 * 300)


@pytest.mark.parametrize(("places", "right"), [(4, True), (5, False)])
def test_a_queue_of_four_refuses_what_erlang_says(tmp_path: Path, places: int, right: bool) -> None:  # noqa: FBT001
    """M/M/1/5: at a load of 0.8, (1 - 0.8) 0.8^5 / (1 - 0.8^6) are refused; with one place more it is less."""
    text = (
        "tierwise: 1\nrun: {duration: 3000s, seed: 7}\n"
        "devices: {s: {request: 1kB, traffic: {pattern: poisson, rate: 80/s}}}\nlinks: {up: {from: s, to: g}}\n"
        f"nodes: {{g: {{tier: edge, service: {{exponential: 10ms}}, queue: {places}}}}}\n"
        "models: {m: {edge: {source: t}}}\nplacement: edge\n"
    )
    rows, _ = trace_of(load(tmp_path, text), "event")
    refused = np.asarray(rows[:, R_OUTCOME] == NODE_QUEUE, np.float64)
    assert holds(batch_means(refused), 0.2 * 0.8**5 / (1 - 0.8**6)) is right


def test_a_batch_interval_has_the_mean_of_all(tmp_path: Path) -> None:
    """Also of those that fill no thirtieth at the end, so that it is the mean that stands above it."""
    summary = run(
        tmp_path,
        "{count: 10, request: 1kB, traffic: {pattern: poisson, rate: 10/s}}",
        "{up: {from: s, to: g}}", "{g: {tier: edge, service: 20ms}}", "{edge: {source: t}}",
        "placement: edge\nrun: {duration: 100s, seed: 7}",
    )  # fmt: skip
    assert summary.end_to_end_ms is not None
    assert summary.end_to_end_interval_ms is not None
    assert summary.answered % 30
    assert summary.end_to_end_interval_ms.mean == pytest.approx(summary.end_to_end_ms.mean)
