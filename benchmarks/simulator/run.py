"""Measures the simulator against SimPy in one process, and checks that both give every message the same latency.

``python -m benchmarks.simulator.run [--quick]`` prints a table and fails where a bar is missed. CPU seconds of this
process, best of three; ratios within one run, because machines differ.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.simulator.reference import latencies

from tierwise.scenario import load_scenario
from tierwise.sim import simulate
from tierwise.sim.collect import in_order_of_creation
from tierwise.sim.decide import decider
from tierwise.sim.event import EventEngine
from tierwise.sim.kernel.tables import R_ANSWERED, R_CREATED, R_DEVICE, R_K
from tierwise.sim.plan import build_plan
from tierwise.sim.rows import joined
from tierwise.sim.run import finished_rows
from tierwise.sim.vector import VectorEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.scenario import Scenario

FLEET = Path(__file__).parent / "fleet.yaml"
DYNAMIC = {
    "nodes.gateway.batch": "{max_size: 16, max_wait: 2ms, marginal: 5%}",
    "placement": "{cascade: [edge, cloud], threshold: 0.2}",
}
POLICY = {"placement": "cloud if queue_edge > 5 else edge"}


def fleet(seconds: int, changes: dict[str, str] | None = None) -> Scenario:
    """The benchmark's scenario, for a time."""
    return load_scenario(FLEET, {"run.duration": f"{seconds}s", **(changes or {})})


def cpu(work: Callable[[], int], repeats: int = 3) -> float:
    """Requests a CPU second, best of some."""
    best = 0.0
    for _ in range(repeats):
        started = time.process_time()
        count = work()
        best = max(best, count / (time.process_time() - started))
    return best


def engine_rate(scenario: Scenario, engine: str) -> float:
    """Requests a CPU second that an engine finishes, its plan and its arrivals included."""

    def work() -> int:
        plan = build_plan(scenario)
        if engine == "vector":
            return sum(rows.size for _, rows in VectorEngine(plan).run())
        return sum(rows.size for _, rows in EventEngine(plan, decider(plan)).run())

    work()  # compiles
    return cpu(work)


def reference_rate(seconds: int) -> tuple[float, int]:
    """SimPy's requests a CPU second, and the number of latencies that were compared and found equal."""
    scenario = fleet(seconds)
    rows = joined(list(in_order_of_creation(finished_rows(build_plan(scenario), "vector")[0])))
    created: dict[int, list[int]] = {}
    for device, at in zip(rows[R_DEVICE].tolist(), rows[R_CREATED].tolist(), strict=True):
        created.setdefault(device, []).append(at)
    expected = {
        (device, k): answered - made
        for device, k, made, answered in zip(
            rows[R_DEVICE].tolist(),
            rows[R_K].tolist(),
            rows[R_CREATED].tolist(),
            rows[R_ANSWERED].tolist(),
            strict=True,
        )
        if answered >= 0
    }
    started = time.process_time()
    found = latencies(created, scenario.run.duration)
    rate = len(found) / (time.process_time() - started)
    if found != expected:
        raise AssertionError("SimPy and the vectorised engine disagree")
    events = joined(list(in_order_of_creation(finished_rows(build_plan(scenario), "event")[0])))
    if not np.array_equal(events[R_ANSWERED], rows[R_ANSWERED]):
        raise AssertionError("the two engines disagree")
    return rate, len(found)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - used


def main() -> int:
    """Prints the table; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the two long runs")
    quick = parser.parse_args().quick
    outage = "[{fault: link_down, link: wan, at: 250s, lasts: 50s}]"
    simpy_rate, compared = reference_rate(20)
    print(f"SimPy {simpy_rate:,.0f} requests/CPU s; {compared} latencies equal in three engines")
    missed = 0

    def bar(name: str, rate: float, times: float) -> None:
        nonlocal missed
        ratio = rate / simpy_rate
        missed += ratio < times
        verdict = "ok" if ratio >= times else "MISSED"
        print(f"{name:<58}{rate:>14,.0f}/CPU s {ratio:>7.0f}x  (bar {times:g}x) {verdict}")

    bar("event engine, plain", engine_rate(fleet(600), "event"), 8)
    bar("vectorised engine, plain", engine_rate(fleet(6000), "vector"), 300)
    bar(
        "event engine, batching + escalation + outage",
        engine_rate(fleet(600, {**DYNAMIC, "faults": outage}), "event"),
        50,
    )
    bar("event engine, a policy in Python asked each time", engine_rate(fleet(100, POLICY), "event"), 8)
    if not quick:
        with tempfile.TemporaryDirectory() as folder:
            hour = fleet(3600, {"outputs": "{trace: parquet}"})
            wall, used = timed(lambda: simulate(hour, out=Path(folder)))
        missed += wall > 20
        print(f"3.6 M requests, metrics, energy, Parquet: {wall:.1f} s wall, {used:.1f} s CPU (bar 20 s)")
        large = fleet(
            600, {"devices.sensors.count": "100000", "links.up.shared": "false", "nodes.gateway.workers": "100"}
        )
        wall, used = timed(lambda: simulate(large))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        missed += wall > 120 or peak > 4
        print(f"60 M requests, summary: {wall:.1f} s wall, {used:.1f} s CPU, peak {peak:.2f} GiB (bars 120 s, 4 GiB)")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
