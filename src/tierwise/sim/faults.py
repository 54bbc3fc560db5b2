"""When faults strike: at stated times, or drawn ahead at a stated rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tierwise.scenario.schema import BrokerRestart, LinkDegraded, LinkDown, NodeDown
from tierwise.sim.kernel.tables import W_CUTS, W_END, W_EXTRA, W_START, WF_BANDWIDTH, WF_LOSS
from tierwise.sim.numerics import log, uniform
from tierwise.sim.streams import stream_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.tables import Tables

_Lasting = NodeDown | LinkDown | LinkDegraded | BrokerRestart


def occurrences(scenario: Scenario, index: int, fault: _Lasting, seed: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each time the fault strikes. Exponential gaps run from the end of the last to the next."""
    if fault.at is not None:
        yield fault.at, fault.at + fault.lasts
        return
    if fault.every is None:
        return
    key = stream_keys(seed, "fault", [str(index)])[0]
    time = 0
    number = 0
    while True:
        with np.errstate(over="ignore"):
            time += int(-fault.every * log(uniform(key, number)))
        if time >= scenario.run.duration:
            return
        yield time, time + fault.lasts
        time += fault.lasts
        number += 1


def fault_windows(
    scenario: Scenario, tables: Tables, links: dict[tuple[str, int], int], nodes: dict[str, int], seed: int
) -> list[tuple[int, int, int]]:
    """Adds rows for outages of links and restarts of brokers; (row of the link or node, first window, end)."""
    windows: dict[int, list[tuple[int, int, dict[int, int], dict[int, float]]]] = {}
    for index, fault in enumerate(scenario.faults):
        if isinstance(fault, LinkDown | LinkDegraded):
            cuts = isinstance(fault, LinkDown)
            extra = 0 if isinstance(fault, LinkDown) else fault.extra_latency
            floats = {WF_BANDWIDTH: 1.0, WF_LOSS: 0.0}
            if isinstance(fault, LinkDegraded):
                floats = {WF_BANDWIDTH: fault.bandwidth_factor, WF_LOSS: fault.extra_loss}
            rows = [links[fault.link, 0], links[fault.link, 1]]
        elif isinstance(fault, BrokerRestart):
            cuts, extra, floats, rows = True, 0, {}, [nodes[fault.node]]
        else:
            continue
        for start, end in occurrences(scenario, index, fault, seed):
            for row in rows:
                windows.setdefault(row, []).append((start, end, {W_CUTS: cuts, W_EXTRA: extra}, floats))
    result = []
    for row, found in windows.items():
        first = len(tables.ints)
        for start, end, ints, reals in sorted(found, key=lambda window: window[:2]):
            tables.row({W_START: start, W_END: end, **ints}, reals)
        result.append((row, first, len(tables.ints)))
    return result


def node_outages(scenario: Scenario, seed: int) -> list[tuple[int, bool, str]]:
    """(time, whether it fails or recovers, node), in order of time."""
    events = []
    for index, fault in enumerate(scenario.faults):
        if isinstance(fault, NodeDown):
            for start, end in occurrences(scenario, index, fault, seed):
                events += [(start, True, fault.node), (end, False, fault.node)]
    return sorted(events)
