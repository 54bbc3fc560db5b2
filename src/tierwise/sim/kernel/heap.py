"""A binary heap of (time, order, what); equal times are ordered by ``order``.

Only a request and its own ghost can share it, and then either may come first: they are the same device's same request.
"""

from __future__ import annotations

from tierwise.sim.compiled import compiled
from tierwise.sim.kernel import tables as t


@compiled
def order_of(m: t.Machine, slot: int, rank: int) -> int:
    """Among events of one instant: first by the rank of the station, then by device and number of the request."""
    device = m.requests[slot, t.R_DEVICE] << m.clock[t.C_DEVICE_SHIFT]
    return (rank << m.clock[t.C_RANK_SHIFT]) | device | m.requests[slot, t.R_K]


@compiled
def push(m: t.Machine, time: int, order: int, what: int) -> None:
    """Adds an event. The caller has seen to it that there is room."""
    heap = m.heap
    i = m.clock[t.C_HEAP]
    m.clock[t.C_HEAP] = i + 1
    while i > 0:
        parent = (i - 1) >> 1
        if heap[parent, 0] < time or (heap[parent, 0] == time and heap[parent, 1] <= order):
            break
        heap[i, 0] = heap[parent, 0]
        heap[i, 1] = heap[parent, 1]
        heap[i, 2] = heap[parent, 2]
        i = parent
    heap[i, 0] = time
    heap[i, 1] = order
    heap[i, 2] = what


@compiled
def drop_first(m: t.Machine) -> None:
    """Removes the earliest event."""
    heap = m.heap
    n = m.clock[t.C_HEAP] - 1
    m.clock[t.C_HEAP] = n
    time, order, what = heap[n, 0], heap[n, 1], heap[n, 2]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        right = child + 1
        if right < n and (
            heap[right, 0] < heap[child, 0] or (heap[right, 0] == heap[child, 0] and heap[right, 1] < heap[child, 1])
        ):
            child = right
        if time < heap[child, 0] or (time == heap[child, 0] and order <= heap[child, 1]):
            break
        heap[i, 0] = heap[child, 0]
        heap[i, 1] = heap[child, 1]
        heap[i, 2] = heap[child, 2]
        i = child
    heap[i, 0] = time
    heap[i, 1] = order
    heap[i, 2] = what
