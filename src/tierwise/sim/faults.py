"""When faults strike: at stated times, or drawn ahead at a stated rate."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tierwise.scenario.schema import BrokerRestart, LinkDegraded, LinkDown, NodeDown
from tierwise.sim.kernel import tables as t
from tierwise.sim.numerics import log, uniform
from tierwise.sim.streams import stream_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


class Window(NamedTuple):
    """While this lasts, messages are cut, or slower, later and lost more often."""

    start: int
    end: int
    cuts: bool = False
    extra_latency: int = 0
    bandwidth: float = 1.0
    loss: float = 0.0


def apart(windows: Sequence[Window]) -> list[Window]:
    """The same in pieces that do not overlap, in order of time: each is what acts together in it."""
    begins = sorted(windows)
    instants = sorted({instant for window in windows for instant in window[:2]})
    active: list[Window] = []
    pieces = []
    position = 0
    for start, end in pairwise(instants):
        active = [window for window in active if window.end > start]
        while position < len(begins) and begins[position].start == start:
            active.append(begins[position])
            position += 1
        if active:
            pieces.append(
                Window(
                    start,
                    end,
                    any(window.cuts for window in active),
                    sum(window.extra_latency for window in active),
                    math.prod(window.bandwidth for window in active),
                    1.0 - math.prod(1.0 - window.loss for window in active) if len(active) > 1 else active[0].loss,
                )
            )
    return pieces


def fault_windows(
    scenario: Scenario, tables: Tables, links: dict[tuple[str, int], int], nodes: dict[str, int], seed: int
) -> list[tuple[int, int, int]]:
    """Adds rows for outages of links and restarts of brokers; (row of the link or node, first window, end)."""
    windows: dict[int, list[Window]] = {}
    for index, fault in enumerate(scenario.faults):
        if isinstance(fault, LinkDown | LinkDegraded):
            rows = [links[fault.link, 0], links[fault.link, 1]]
        elif isinstance(fault, BrokerRestart):
            rows = [nodes[fault.node]]
        else:
            continue
        for start, end in occurrences(scenario, index, fault, seed):
            window = Window(start, end, cuts=True)
            if isinstance(fault, LinkDegraded):
                window = Window(
                    start,
                    end,
                    extra_latency=fault.extra_latency,
                    bandwidth=fault.bandwidth_factor,
                    loss=fault.extra_loss,
                )
            for row in rows:
                windows.setdefault(row, []).append(window)
    result = []
    for row, found in windows.items():
        first = len(tables.ints)
        for piece in apart(found):
            ints = {t.W_START: piece.start, t.W_END: piece.end, t.W_CUTS: piece.cuts, t.W_EXTRA: piece.extra_latency}
            tables.row(ints, {t.WF_BANDWIDTH: piece.bandwidth, t.WF_LOSS: piece.loss})
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
