"""Nodes: a queue, identical workers, requests executed together."""

from __future__ import annotations

from tierwise.sim.compiled import compiled
from tierwise.sim.kernel.heap import order_of, push
from tierwise.sim.kernel.links import first_window
from tierwise.sim.kernel.tables import (
    BROKER_RESTART,
    C_DEVICES,
    C_WHEN,
    DEVICE_BITS,
    FINISH,
    GOES_ON,
    HOLD,
    K_BITS,
    KINDS,
    LAST_RANK,
    N_BATCHES,
    N_BUSY,
    N_CUT,
    N_EPOCH,
    N_HEAD,
    N_IDLE,
    N_IS_DOWN,
    N_LENGTH,
    N_LIMIT,
    N_LONGEST,
    N_MAX_BATCH,
    N_MAX_WAIT,
    N_OFFERED,
    N_RANK,
    N_REFUSED,
    N_RUNNING,
    N_SERVED,
    N_TAIL,
    N_TIMER,
    N_WAIT,
    N_WINDOW,
    N_WINDOW_END,
    N_WORKERS,
    NF_MARGINAL,
    NODE_DOWN,
    NODE_QUEUE,
    R_ARRIVED,
    R_DEVICE,
    R_EPOCH,
    R_FINISHED,
    R_K,
    R_NEXT,
    R_NODE,
    R_PC,
    R_STARTED,
    R_TIER,
    T_DIST,
    T_KEY,
    T_NEXT,
    T_TIER,
    W_START,
    Machine,
)
from tierwise.sim.numerics import draw, whole


@compiled
def arrive_at_node(m: Machine, slot: int, time: int, node: int) -> int:
    """The request joins the queue (``GOES_ON``; the caller then starts what can), or is refused: the outcome."""
    ints = m.ints[node]
    ints[N_OFFERED] += 1
    m.clock[C_WHEN] = time
    if ints[N_IS_DOWN] > 0:
        ints[N_CUT] += 1
        return NODE_DOWN
    if ints[N_WINDOW] < ints[N_WINDOW_END]:
        first = first_window(m, node, N_WINDOW, time)
        if first < ints[N_WINDOW_END] and m.ints[first, W_START] <= time:
            ints[N_CUT] += 1
            return BROKER_RESTART
    if ints[N_LIMIT] >= 0 and ints[N_IDLE] == 0 and ints[N_LENGTH] >= ints[N_LIMIT]:
        ints[N_REFUSED] += 1
        return NODE_QUEUE
    row = m.requests[slot]
    row[R_ARRIVED] = time
    row[R_STARTED] = -1
    row[R_FINISHED] = -1
    row[R_NEXT] = -1
    if ints[N_LENGTH] == 0:
        ints[N_HEAD] = slot
    else:
        m.requests[ints[N_TAIL], R_NEXT] = slot
    ints[N_TAIL] = slot
    ints[N_LENGTH] += 1
    return GOES_ON


@compiled
def start_what_can(m: Machine, time: int, node: int) -> None:
    """Gives idle workers full batches, or those whose first request has waited long enough."""
    ints = m.ints[node]
    while ints[N_IDLE] > 0 and ints[N_LENGTH] > 0:
        due = m.requests[ints[N_HEAD], R_ARRIVED] + ints[N_MAX_WAIT]
        if ints[N_LENGTH] < ints[N_MAX_BATCH] and due > time:
            if ints[N_TIMER] != due:
                ints[N_TIMER] = due
                order = (LAST_RANK << (K_BITS + DEVICE_BITS)) | node
                push(m, due, order, node * KINDS + HOLD)
            break
        start_batch(m, time, node)
    ints[N_LONGEST] = max(ints[N_LONGEST], ints[N_LENGTH])


@compiled
def start_batch(m: Machine, time: int, node: int) -> None:
    """One worker takes requests of one kind from the head of the queue."""
    ints = m.ints[node]
    head = ints[N_HEAD]
    pc = m.requests[head, R_PC]
    dist = m.ints[pc, T_DIST]
    key = m.keys[m.ints[pc, T_KEY] * m.clock[C_DEVICES] + m.requests[head, R_DEVICE]]
    size = 1
    last = head
    while size < ints[N_MAX_BATCH] and size < ints[N_LENGTH]:
        following = m.requests[last, R_NEXT]
        if m.ints[m.requests[following, R_PC], T_DIST] != dist:
            break
        last = following
        size += 1
    ints[N_HEAD] = m.requests[last, R_NEXT]
    m.requests[last, R_NEXT] = -1
    ints[N_LENGTH] -= size
    service = draw(m.floats[dist], m.values, key, m.requests[head, R_K])
    if size > 1:
        service = whole(service * (1.0 + (size - 1) * m.floats[node, NF_MARGINAL]))
    ints[N_IDLE] -= 1
    ints[N_RUNNING] += size
    ints[N_BATCHES] += 1
    ints[N_BUSY] += service
    m.requests[head, R_EPOCH] = ints[N_EPOCH]
    slot = head
    while slot >= 0:
        row = m.requests[slot]
        row[R_STARTED] = time
        row[R_FINISHED] = time + service
        row[R_TIER] = m.ints[row[R_PC], T_TIER]
        row[R_NODE] = node
        ints[N_WAIT] += time - row[R_ARRIVED]
        slot = row[R_NEXT]
    push(m, time + service, order_of(m, head, ints[N_RANK] * 2), head * KINDS + FINISH)


@compiled
def end_batch(m: Machine, head: int) -> bool:
    """A worker is done; False where its node has failed meanwhile and the requests are lost."""
    ints = m.ints[m.requests[head, R_NODE]]
    valid = m.requests[head, R_EPOCH] == ints[N_EPOCH]
    size = 0
    slot = head
    while slot >= 0:
        row = m.requests[slot]
        size += 1
        if valid:
            row[R_PC] = m.ints[row[R_PC], T_NEXT]
        else:
            row[R_STARTED] = -1
            row[R_FINISHED] = -1
        slot = row[R_NEXT]
    if valid:
        ints[N_SERVED] += size
        ints[N_RUNNING] -= size
        ints[N_IDLE] += 1
    else:
        ints[N_CUT] += size
    return valid


@compiled
def node_fails(m: Machine, node: int) -> int:
    """What waits is lost now: the first of it. What runs is lost when its end would have come."""
    ints = m.ints[node]
    first = ints[N_HEAD] if ints[N_LENGTH] > 0 else -1
    ints[N_CUT] += ints[N_LENGTH]
    ints[N_IS_DOWN] += 1
    ints[N_EPOCH] += 1
    ints[N_IDLE] = 0
    ints[N_RUNNING] = 0
    ints[N_TIMER] = -1
    ints[N_LENGTH] = 0
    slot = first
    while slot >= 0:
        m.requests[slot, R_ARRIVED] = -1
        slot = m.requests[slot, R_NEXT]
    return first


@compiled
def node_recovers(m: Machine, node: int) -> None:
    """All workers idle, nothing waits."""
    ints = m.ints[node]
    ints[N_IS_DOWN] -= 1
    if ints[N_IS_DOWN] == 0:
        ints[N_IDLE] = ints[N_WORKERS]
