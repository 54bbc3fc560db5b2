"""The simulator against queueing theory and closed forms. Statistical checks use batch-means intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.sim.runs import load, trace_of
from tierwise.sim import simulate
from tierwise.sim.kernel.tables import (
    ANSWERED,
    LINK_LOSS,
    R_ANSWERED,
    R_ARRIVED,
    R_CREATED,
    R_FINISHED,
    R_OUTCOME,
    R_SENT,
    R_STARTED,
    R_TX,
)
from tierwise.sim.statistics import batch_means

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

QUEUE = """\
tierwise: 1
run: {duration: 3000s, seed: 11}
devices:
  source: {traffic: {pattern: poisson, rate: 70/s}, request: 1kB, answer: 100B}
links:
  up: {from: source, to: server}
nodes:
  server: {tier: edge, service: {exponential: 10ms}}
models: {m: {edge: {source: test}}}
placement: edge
"""
ARRIVALS, SERVICES = 70.0, 100.0


def waits(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds that answered requests waited for a worker."""
    answered = rows[rows[:, R_OUTCOME] == ANSWERED]
    return np.asarray((answered[:, R_STARTED] - answered[:, R_ARRIVED]) * 1e-9)


def assert_mean(values: NDArray[np.float64], expected: float) -> None:
    """The expected mean lies within twice the interval's half width, and the interval is narrow."""
    interval = batch_means(values)
    assert interval is not None
    assert interval.half_width is not None
    assert abs(interval.mean - expected) < 2 * interval.half_width
    assert interval.half_width < 0.1 * expected


@pytest.mark.parametrize("engine", ["vector", "event"])
def test_m_m_1_waiting_time(tmp_path: Path, engine: str) -> None:
    rows, _ = trace_of(load(tmp_path, QUEUE), engine)
    assert_mean(waits(rows), (ARRIVALS / SERVICES) / (SERVICES - ARRIVALS))


def test_m_d_1_waiting_time(tmp_path: Path) -> None:
    rows, _ = trace_of(load(tmp_path, QUEUE, {"nodes.server.service": "10ms"}), "vector")
    rho = ARRIVALS / SERVICES
    assert_mean(waits(rows), rho / (2 * SERVICES * (1 - rho)))


@pytest.mark.parametrize("workers", [2, 5])
def test_m_m_c_waiting_time_by_erlang_c(tmp_path: Path, workers: int) -> None:
    changes = {"nodes.server.workers": str(workers), "devices.source.traffic.rate": f"{70 * workers}/s"}
    rows, _ = trace_of(load(tmp_path, QUEUE, changes | {"run.duration": "1000s"}), "vector")
    offered = 0.7 * workers
    terms = [offered**k / math.factorial(k) for k in range(workers)]
    last = offered**workers / math.factorial(workers) / (1 - 0.7)
    assert_mean(waits(rows), last / (sum(terms) + last) / (workers * SERVICES * 0.3))


def test_jackson_tandem_sojourn(tmp_path: Path) -> None:
    """Two stations in a row: every request escalates from the edge to a slower cloud."""
    changes = {
        "nodes.far": "{tier: cloud, service: {exponential: 8ms}}",
        "links.wan": "{from: server, to: far}",
        "models.m.cloud": "{source: test}",
        "placement": "{cascade: [edge, cloud], threshold: 1}",
    }
    rows, _ = trace_of(load(tmp_path, QUEUE, changes), "vector")
    done = rows[rows[:, R_OUTCOME] == ANSWERED]
    assert_mean((done[:, R_ANSWERED] - done[:, R_CREATED]) * 1e-9, 1 / (100 - 70) + 1 / (125 - 70))


@pytest.mark.parametrize("engine", ["vector", "event"])
def test_lindley_recursion_holds_exactly_for_each_message(tmp_path: Path, engine: str) -> None:
    rows, _ = trace_of(load(tmp_path, QUEUE, {"run.duration": "50s"}), engine)
    rows = rows[rows[:, R_FINISHED] >= 0]
    free_at = 0
    for arrived, started, finished in rows[:, [R_ARRIVED, R_STARTED, R_FINISHED]].tolist():
        assert started == max(arrived, free_at)
        free_at = finished


def test_pollaczek_khinchine(tmp_path: Path) -> None:
    rows, _ = trace_of(load(tmp_path, QUEUE, {"nodes.server.service": "{uniform: [2ms, 18ms]}"}), "vector")
    second_moment = 0.010**2 + 0.016**2 / 12
    assert_mean(waits(rows), ARRIVALS * second_moment / (2 * (1 - 0.7)))


def test_m_m_1_sojourn_p99(tmp_path: Path) -> None:
    summary = simulate(load(tmp_path, QUEUE, {"run.duration": "10000s"}))
    assert summary.end_to_end_ms is not None
    assert summary.end_to_end_ms.p99 == pytest.approx(1000 * math.log(100) / (SERVICES - ARRIVALS), rel=0.04)


def test_littles_law(tmp_path: Path) -> None:
    """Mean number waiting = throughput x mean wait, and each is measured on its own."""
    scenario = load(tmp_path, QUEUE)
    rows, _ = trace_of(scenario, "vector")
    rows = rows[rows[:, R_STARTED] >= 0]
    times = np.concatenate([rows[:, R_ARRIVED], rows[:, R_STARTED]])
    steps = np.concatenate([np.ones(len(rows)), -np.ones(len(rows))])[np.argsort(times, kind="stable")]
    times = np.sort(times)
    number = float((np.cumsum(steps)[:-1] * np.diff(times)).sum()) / scenario.run.duration
    assert simulate(scenario).nodes["server"].mean_queue == pytest.approx(number, rel=1e-3)


@pytest.mark.parametrize("engine", ["vector", "event"])
def test_d_d_1_burst(tmp_path: Path, engine: str) -> None:
    """The k-th of n messages sent at once arrives after k * size / bandwidth + propagation."""
    changes = {
        "devices.source.traffic": "{pattern: offline, samples: 40}",
        "links.up": "{from: source, to: server, bandwidth: 1Mbit/s, latency: 3ms}",
        "run.duration": "100s",
    }
    rows, _ = trace_of(load(tmp_path, QUEUE, changes), engine)
    assert rows[:, R_ARRIVED].tolist() == [k * 8_000_000 + 3_000_000 for k in range(1, 41)]


def test_token_bucket_limits_every_window(tmp_path: Path) -> None:
    changes = {
        "links.up": "{from: source, to: server, shaper: {rate: 80kB/s, burst: 5kB}}",
        "nodes.server.service": "0",
        "run.duration": "60s",
    }
    rows, _ = trace_of(load(tmp_path, QUEUE, changes), "event")
    passed = rows[rows[:, R_ARRIVED] >= 0][:, R_ARRIVED] * 1e-9
    for first in range(len(passed)):
        sizes = 1000.0 * np.arange(1, len(passed) - first + 1)
        windows = passed[first:] - passed[first]
        assert (sizes <= 5000 + 80_000 * windows + 1e-3).all()
    unshaped, _ = trace_of(load(tmp_path, QUEUE, {"run.duration": "60s"}), "event")
    assert (passed[: len(unshaped)] >= unshaped[: len(passed), R_SENT] * 1e-9).all()


@pytest.mark.parametrize(("loss", "tries"), [(0.3, 4), (0.5, 2)])
def test_retries(tmp_path: Path, loss: float, tries: int) -> None:
    """k tries at loss p: E[transmissions] = (1 - p^k) / (1 - p), delivered 1 - p^k."""
    up = f"{{from: source, to: server, loss: {loss}, retries: {{max: {tries - 1}, backoff: 1ms}}}}"
    rows, _ = trace_of(
        load(tmp_path, QUEUE, {"links.up": up, "nodes.server.service": "0", "run.duration": "600s"}), "event"
    )
    n = len(rows)
    delivered = (rows[:, R_ARRIVED] >= 0).mean()
    assert abs(delivered - (1 - loss**tries)) < 4 * math.sqrt(loss**tries / n)
    assert rows[:, R_TX].mean() == pytest.approx((1 - loss**tries) / (1 - loss), rel=0.02)
    assert set(rows[rows[:, R_ARRIVED] < 0][:, R_OUTCOME].tolist()) <= {LINK_LOSS}


def test_node_energy(tmp_path: Path) -> None:
    """P_idle * T + (P_busy - P_idle) * busy."""
    changes = {"nodes.server.power": "{idle: 3W, busy: 8W, source: test}", "nodes.server.service": "4ms"}
    summary = simulate(load(tmp_path, QUEUE, changes))
    busy = summary.nodes["server"].batches * 0.004
    assert summary.energy_j.nodes["server"] == pytest.approx(3 * 3000 + 5 * busy, rel=1e-12)
    assert summary.nodes["server"].utilisation == pytest.approx(busy / 3000, rel=1e-12)
