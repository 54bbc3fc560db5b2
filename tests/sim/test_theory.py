"""The simulator against queueing theory and closed forms.

Every statistical check asks whether the 99 % interval of what was simulated holds the theory's value: of the mean over
30 batches of one run, or over replications. And every such test asks the same of a model that is wrong by 3 %, whose
interval must leave that value out: a check that a wrong simulator would pass is none. Seeds are fixed; that the
intervals cover what they promise is a test of its own.

The twelve checks: M/M/1, M/D/1, M/M/c and Pollaczek-Khinchine's mean wait, a Jackson tandem's sojourn, the p99 of
M/M/1, retries and Little's law by interval (the last also as an identity); Lindley's recursion, the D/D/1 burst, the
token bucket's bound and the energy of a node exactly.
"""

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
from tierwise.sim.statistics import BATCHES, Interval, batch_means, of_independent, student_975

if TYPE_CHECKING:
    from collections.abc import Callable
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


SLOWER = {"nodes.server.service": "{exponential: 10.3ms}"}
"""The wrong model: services of 3 % more."""
STUDENT_995 = {19: 2.861, 29: 2.756}
"""99.5 % quantiles of Student's t by degrees of freedom: any table of the distribution."""


def waits(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds that answered requests waited for a worker."""
    answered = rows[rows[:, R_OUTCOME] == ANSWERED]
    return np.asarray((answered[:, R_STARTED] - answered[:, R_ARRIVED]) * 1e-9)


def sojourns(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds from making to answer."""
    answered = rows[rows[:, R_OUTCOME] == ANSWERED]
    return np.asarray((answered[:, R_ANSWERED] - answered[:, R_CREATED]) * 1e-9)


def holds(interval: Interval | None, expected: float) -> bool:
    """Whether the 99 % interval holds the value. The product states 95 %: the same, with another quantile."""
    assert interval is not None
    assert interval.half_width is not None
    assert not interval.hangs_together
    degrees = interval.samples - 1
    half_width = interval.half_width * STUDENT_995[degrees] / student_975(degrees)
    return abs(interval.mean - expected) <= half_width


RIGHT_ALONE = (True, False)


def hold(
    measure: Callable[[dict[str, str]], Interval | None], expected: float, wrong: dict[str, str] | None = None
) -> tuple[bool, bool]:
    """Whether the interval holds the theory's value, and whether that of a wrong model does: ``RIGHT_ALONE``."""
    return holds(measure({}), expected), holds(measure(SLOWER if wrong is None else wrong), expected)


def mean_of(
    folder: Path,
    values: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    changes: dict[str, str] | None = None,
    engine: str = "vector",
) -> Callable[[dict[str, str]], Interval | None]:
    """Measures a mean over the batches of one run, with further changes of the scenario."""
    return lambda more: batch_means(values(trace_of(load(folder, QUEUE, (changes or {}) | more), engine)[0]))


@pytest.mark.parametrize("engine", ["vector", "event"])
def test_m_m_1_waiting_time(tmp_path: Path, engine: str) -> None:
    expected = (ARRIVALS / SERVICES) / (SERVICES - ARRIVALS)
    assert hold(mean_of(tmp_path, waits, engine=engine), expected) == RIGHT_ALONE


def test_m_d_1_waiting_time(tmp_path: Path) -> None:
    rho = ARRIVALS / SERVICES
    found = hold(
        mean_of(tmp_path, waits, {"nodes.server.service": "10ms"}),
        rho / (2 * SERVICES * (1 - rho)),
        {"nodes.server.service": "10.3ms"},
    )
    assert found == RIGHT_ALONE


@pytest.mark.parametrize("workers", [2, 5])
def test_m_m_c_waiting_time_by_erlang_c(tmp_path: Path, workers: int) -> None:
    changes = {"nodes.server.workers": str(workers), "devices.source.traffic.rate": f"{70 * workers}/s"}
    offered = 0.7 * workers
    terms = [offered**k / math.factorial(k) for k in range(workers)]
    last = offered**workers / math.factorial(workers) / (1 - 0.7)
    expected = last / (sum(terms) + last) / (workers * SERVICES * 0.3)
    assert hold(mean_of(tmp_path, waits, changes | {"run.duration": "1000s"}), expected) == RIGHT_ALONE


def test_jackson_tandem_sojourn(tmp_path: Path) -> None:
    """Two stations in a row: every request escalates from the edge to a slower cloud."""
    changes = {
        "nodes.far": "{tier: cloud, service: {exponential: 8ms}}",
        "links.wan": "{from: server, to: far}",
        "models.m.cloud": "{source: test}",
        "placement": "{cascade: [edge, cloud], threshold: 1}",
    }
    assert hold(mean_of(tmp_path, sojourns, changes), 1 / (100 - 70) + 1 / (125 - 70)) == RIGHT_ALONE


@pytest.mark.parametrize("engine", ["vector", "event"])
def test_lindley_recursion_holds_exactly_for_each_message(tmp_path: Path, engine: str) -> None:
    rows, _ = trace_of(load(tmp_path, QUEUE, {"run.duration": "50s"}), engine)
    rows = rows[rows[:, R_FINISHED] >= 0]
    free_at = 0
    for arrived, started, finished in rows[:, [R_ARRIVED, R_STARTED, R_FINISHED]].tolist():
        assert started == max(arrived, free_at)
        free_at = finished


def test_pollaczek_khinchine(tmp_path: Path) -> None:
    second_moment = 0.010**2 + 0.016**2 / 12
    found = hold(
        mean_of(tmp_path, waits, {"nodes.server.service": "{uniform: [2ms, 18ms]}"}),
        ARRIVALS * second_moment / (2 * (1 - 0.7)),
        {"nodes.server.service": "{uniform: [2.06ms, 18.54ms]}"},
    )
    assert found == RIGHT_ALONE


def test_m_m_1_sojourn_p99(tmp_path: Path) -> None:
    """Sojourns are exponential. A quantile of a batch is biased where batches are short: so, replications."""
    run = {"run.duration": "1000s", "run.warm_up": "20s", "run.replications": "20"}

    def p99_ms(changes: dict[str, str]) -> Interval:
        return simulate(load(tmp_path, QUEUE, run | changes)).replications["p99_ms"]

    assert hold(p99_ms, 1000 * math.log(100) / (SERVICES - ARRIVALS)) == RIGHT_ALONE


def test_the_intervals_cover_what_they_promise(tmp_path: Path) -> None:
    """Of 100 seeds' 95 % intervals by batch means 95 hold the truth; fewer than 88 come once in 500 times by chance."""
    expected = (ARRIVALS / SERVICES) / (SERVICES - ARRIVALS)
    scenario = load(tmp_path, QUEUE, {"run.duration": "1000s"})
    covered = 0
    for seed in range(100):
        interval = batch_means(waits(trace_of(scenario, "vector", seed)[0]))
        assert interval is not None
        assert interval.half_width is not None
        assert interval.samples == BATCHES
        covered += abs(interval.mean - expected) <= interval.half_width
    assert 88 <= covered <= 99


def test_littles_law(tmp_path: Path) -> None:
    """Mean number waiting = arrival rate x mean wait: counted from the trace, told by the summary, and by theory."""
    scenario = load(tmp_path, QUEUE)
    rows, _ = trace_of(scenario, "vector")
    arrived = rows[rows[:, R_ARRIVED] >= 0][:, R_ARRIVED]
    started = rows[rows[:, R_STARTED] >= 0][:, R_STARTED]
    end = scenario.run.duration
    times = np.concatenate([arrived, started, [end]])
    steps = np.concatenate([np.ones(len(arrived)), -np.ones(len(started)), [0.0]])
    order = np.argsort(times, kind="stable")
    number = np.cumsum(steps[order])[:-1]
    lasts = np.diff(times[order])
    assert simulate(scenario).nodes["server"].mean_queue == pytest.approx(float((number * lasts).sum()) / end, rel=1e-9)

    def mean_number(changes: dict[str, str]) -> Interval | None:
        """Of the number waiting in thirty stretches of equal length: a batch is a piece of time here."""
        rows, _ = trace_of(load(tmp_path, QUEUE, changes), "vector")
        edges = np.linspace(0, end, BATCHES + 1)
        began = np.clip(rows[rows[:, R_ARRIVED] >= 0][:, R_ARRIVED, None], edges[:-1], edges[1:])
        ended = np.clip(
            np.where(rows[:, R_STARTED] < 0, end, rows[:, R_STARTED])[rows[:, R_ARRIVED] >= 0][:, None],
            edges[:-1],
            edges[1:],
        )
        return of_independent(((ended - began).sum(axis=0) / (end / BATCHES)).tolist(), "batch means")

    assert hold(mean_number, 0.7**2 / 0.3) == RIGHT_ALONE


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

    def link(loss: float) -> str:
        return f"{{from: source, to: server, loss: {loss}, retries: {{max: {tries - 1}, backoff: 1ms}}}}"

    changes = {"links.up": link(loss), "nodes.server.service": "0", "run.duration": "3000s"}
    wrong = {"links.up": link(1.03 * loss)}

    def delivered(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        assert set(rows[rows[:, R_ARRIVED] < 0][:, R_OUTCOME].tolist()) <= {LINK_LOSS}
        return np.asarray(rows[:, R_ARRIVED] >= 0, np.float64)

    def sends(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return rows[:, R_TX].astype(np.float64)

    assert hold(mean_of(tmp_path, delivered, changes, "event"), 1 - loss**tries, wrong) == RIGHT_ALONE
    assert hold(mean_of(tmp_path, sends, changes, "event"), (1 - loss**tries) / (1 - loss), wrong) == RIGHT_ALONE


def test_node_energy(tmp_path: Path) -> None:
    """P_idle * T + (P_busy - P_idle) * busy."""
    changes = {"nodes.server.power": "{idle: 3W, busy: 8W, source: test}", "nodes.server.service": "4ms"}
    summary = simulate(load(tmp_path, QUEUE, changes))
    busy = summary.nodes["server"].batches * 0.004
    assert summary.energy_j.nodes["server"] == pytest.approx(3 * 3000 + 5 * busy, rel=1e-12)
    assert summary.nodes["server"].utilisation == pytest.approx(busy / 3000, rel=1e-12)
