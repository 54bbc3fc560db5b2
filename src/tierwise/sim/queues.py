"""First come, first served, for all customers of a station at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tierwise.sim.compiled import COMPILES, compiled_apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]


def starts_at_one(arrival: Whole, service: Whole | int, free_at: int) -> Whole:
    """When each customer starts at one server that is free at ``free_at``; arrivals in order.

    Lindley's recursion start[i] = max(arrival[i], start[i-1] + service[i-1]), unrolled: start - (sum of services
    before) is the running maximum of arrival - (the same sum).
    """
    if isinstance(service, int):
        if service == 0:
            return np.maximum(arrival, free_at)
        before = np.arange(len(arrival), dtype=np.int64)
        before *= service
    else:
        before = np.cumsum(service)
        before -= service
    start = arrival - before
    if len(start):
        start[0] = max(int(start[0]), free_at)
    np.maximum.accumulate(start, out=start)
    start += before
    return start


@compiled_apart
def starts_at_each(arrival: Whole, station: Whole, occupied: Whole, free_at: Whole, start: Whole) -> None:
    """The same with a server for each station: fills ``start`` and moves ``free_at`` on."""
    for i in range(arrival.size):
        where = station[i]
        begin = max(arrival[i], free_at[where])
        start[i] = begin
        free_at[where] = begin + occupied[i]


@compiled_apart
def starts_at_many(arrival: Whole, service: Whole, free_at: Whole, start: Whole) -> None:
    """One queue before several equal servers: fills ``start`` and moves ``free_at`` (by server) on."""
    for i in range(arrival.size):
        first = 0
        for server in range(1, free_at.size):
            if free_at[server] < free_at[first]:
                first = server
        begin = max(arrival[i], free_at[first])
        start[i] = begin
        free_at[first] = begin + service[i]


def longest_queue(arrival: Whole, start: Whole) -> int:
    """Most customers that waited at once, seen by arrivals; ``start`` holds earlier customers' too, all in order."""
    if not COMPILES:
        before = len(start) - len(arrival)
        return int((before + np.arange(1, len(arrival) + 1) - np.searchsorted(start, arrival, side="right")).max())
    return int(_longest_queue(arrival, start))


@compiled_apart
def _longest_queue(arrival: Whole, start: Whole) -> int:
    before = start.size - arrival.size
    longest = started = 0
    for i in range(arrival.size):
        while started < start.size and start[started] <= arrival[i]:
            started += 1
        longest = max(longest, before + i + 1 - started)
    return longest
