"""Nodes: a queue, identical workers, requests executed together."""

from __future__ import annotations

from tierwise.sim.compiled import compiled
from tierwise.sim.kernel import tables as t
from tierwise.sim.kernel.heap import order_of, push
from tierwise.sim.kernel.links import window_at
from tierwise.sim.numerics import CONSTANT, draw, whole


@compiled
def arrive_at_node(m: t.Machine, slot: int, time: int, node: int) -> int:
    """The request joins the queue (``GOES_ON``; the caller then starts what can), or is refused: the outcome."""
    ints = m.ints[node]
    ints[t.N_OFFERED] += 1
    m.clock[t.C_WHEN] = time
    if ints[t.N_IS_DOWN] > 0:
        ints[t.N_CUT] += 1
        return t.NODE_DOWN
    if ints[t.N_WINDOW] < ints[t.N_WINDOW_END]:
        window = window_at(m, ints[t.N_WINDOW], ints[t.N_WINDOW_END], time)
        if window < ints[t.N_WINDOW_END] and m.ints[window, t.W_START] <= time:
            ints[t.N_CUT] += 1
            return t.BROKER_RESTART
    # What waits beside an idle worker is the batch that it waits for, which ``max_size`` bounds.
    if ints[t.N_LIMIT] >= 0 and ints[t.N_IDLE] == 0 and ints[t.N_LENGTH] >= ints[t.N_LIMIT]:
        ints[t.N_REFUSED] += 1
        return t.NODE_QUEUE
    row = m.requests[slot]
    row[t.R_ARRIVED] = time
    row[t.R_STARTED] = -1
    row[t.R_FINISHED] = -1
    row[t.R_NEXT] = -1
    if ints[t.N_LENGTH] == 0:
        ints[t.N_HEAD] = slot
    else:
        m.requests[ints[t.N_TAIL], t.R_NEXT] = slot
    ints[t.N_TAIL] = slot
    ints[t.N_LENGTH] += 1
    return t.GOES_ON


@compiled
def start_what_can(m: t.Machine, time: int, node: int) -> None:
    """Gives idle workers full batches, or those whose first request has waited long enough."""
    ints = m.ints[node]
    while ints[t.N_IDLE] > 0 and ints[t.N_LENGTH] > 0:
        due = m.requests[ints[t.N_HEAD], t.R_ARRIVED] + ints[t.N_MAX_WAIT]
        if ints[t.N_LENGTH] < ints[t.N_MAX_BATCH] and due > time:
            if ints[t.N_TIMER] != due:
                ints[t.N_TIMER] = due
                order = ((m.clock[t.C_TIMER_RANK] + t.LEVELS) << m.clock[t.C_RANK_SHIFT]) | node
                push(m, due, order, node * t.KINDS + t.HOLD)
            break
        start_batch(m, time, node)
    ints[t.N_LONGEST] = max(ints[t.N_LONGEST], ints[t.N_LENGTH])


@compiled
def start_batch(m: t.Machine, time: int, node: int) -> None:
    """One worker takes requests of one model from the head of the queue.

    Each member draws a service time by its own number, so that it meets the same one in whatever company. The batch
    takes the first's, and of each further one the marginal share. Where batches of each size have a distribution of
    their own (one row behind the other), the first member draws for all.
    """
    ints = m.ints[node]
    head = ints[t.N_HEAD]
    step = m.ints[m.requests[head, t.R_PC]]
    dist, kind = step[t.T_DIST], step[t.T_KIND]
    keys = step[t.T_KEY] * m.clock[t.C_DEVICES]
    service = draw(m.floats[dist], m.values, m.keys[keys + m.requests[head, t.R_DEVICE]], m.requests[head, t.R_K])
    size = 1
    last = head
    if ints[t.N_MAX_BATCH] > 1:
        marginal = m.floats[node, t.NF_MARGINAL]
        total = 1.0 * service
        while size < ints[t.N_MAX_BATCH] and size < ints[t.N_LENGTH]:
            following = m.requests[last, t.R_NEXT]
            if m.ints[m.requests[following, t.R_PC], t.T_KIND] != kind:
                break
            last = following
            size += 1
            if step[t.T_BY_BATCH] == 1 or marginal == 0.0 or m.floats[dist, 0] == CONSTANT:
                total += marginal * service
            else:
                key = m.keys[keys + m.requests[last, t.R_DEVICE]]
                total += marginal * draw(m.floats[dist], m.values, key, m.requests[last, t.R_K])
        if step[t.T_BY_BATCH] == 1:
            key = m.keys[keys + m.requests[head, t.R_DEVICE]]
            service = draw(m.floats[dist + size - 1], m.values, key, m.requests[head, t.R_K])
        else:
            service = whole(total)
    ints[t.N_HEAD] = m.requests[last, t.R_NEXT]
    m.requests[last, t.R_NEXT] = -1
    ints[t.N_LENGTH] -= size
    ints[t.N_IDLE] -= 1
    ints[t.N_RUNNING] += size
    ints[t.N_BATCHES] += 1
    ints[t.N_STARTED] += size
    known = min(time + service, m.clock[t.C_HORIZON])
    ints[t.N_BUSY] += known - time
    ints[t.N_ENDS] += known
    slot = head
    while slot >= 0:
        row = m.requests[slot]
        row[t.R_STARTED] = time
        row[t.R_FINISHED] = time + service
        row[t.R_TIER] = m.ints[row[t.R_PC], t.T_TIER]
        row[t.R_NODE] = node
        ints[t.N_WAIT] += time - row[t.R_ARRIVED]
        slot = row[t.R_NEXT]
    push(m, time + service, order_of(m, head, ints[t.N_RANK] * 2), head * t.KINDS + t.FINISH)


@compiled
def end_batch(m: t.Machine, head: int) -> int:
    """A worker is done: its node."""
    node = m.requests[head, t.R_NODE]
    ints = m.ints[node]
    ints[t.N_ENDS] -= m.requests[head, t.R_FINISHED]
    ints[t.N_IDLE] += 1
    slot = head
    while slot >= 0:
        row = m.requests[slot]
        ints[t.N_SERVED] += 1
        ints[t.N_RUNNING] -= 1
        row[t.R_PC] = m.ints[row[t.R_PC], t.T_NEXT]
        slot = row[t.R_NEXT]
    return node


@compiled
def strand(m: t.Machine, node: int, time: int) -> None:
    """Notes how long those have waited that wait now and are not served."""
    ints = m.ints[node]
    slot = ints[t.N_HEAD] if ints[t.N_LENGTH] > 0 else -1
    while slot >= 0:
        ints[t.N_STRANDED] += time - m.requests[slot, t.R_ARRIVED]
        slot = m.requests[slot, t.R_NEXT]


@compiled
def node_fails(m: t.Machine, node: int, time: int) -> int:
    """All that it holds is lost: the first of it, in a chain. The ends of what ran become events without effect."""
    ints = m.ints[node]
    strand(m, node, time)
    first = ints[t.N_HEAD] if ints[t.N_LENGTH] > 0 else -1
    if ints[t.N_IS_DOWN] == 0:
        ints[t.N_BUSY] -= ints[t.N_ENDS] - (ints[t.N_WORKERS] - ints[t.N_IDLE]) * time
    ints[t.N_ENDS] = 0
    ints[t.N_CUT] += ints[t.N_LENGTH] + ints[t.N_RUNNING]
    ints[t.N_IS_DOWN] += 1
    ints[t.N_IDLE] = 0
    ints[t.N_RUNNING] = 0
    ints[t.N_TIMER] = -1
    ints[t.N_LENGTH] = 0
    slot = first
    while slot >= 0:
        m.requests[slot, t.R_ARRIVED] = -1
        slot = m.requests[slot, t.R_NEXT]
    for event in range(m.clock[t.C_HEAP]):
        head = m.heap[event, 2] // t.KINDS
        if m.heap[event, 2] % t.KINDS == t.FINISH and m.requests[head, t.R_NODE] == node:
            m.heap[event, 2] = t.NOTHING
            slot = head
            while True:
                m.requests[slot, t.R_STARTED] = -1
                m.requests[slot, t.R_FINISHED] = -1
                if m.requests[slot, t.R_NEXT] < 0:
                    break
                slot = m.requests[slot, t.R_NEXT]
            m.requests[slot, t.R_NEXT] = first
            first = head
    return first


@compiled
def node_recovers(m: t.Machine, node: int) -> None:
    """All workers idle, nothing waits."""
    ints = m.ints[node]
    ints[t.N_IS_DOWN] -= 1
    if ints[t.N_IS_DOWN] == 0:
        ints[t.N_IDLE] = ints[t.N_WORKERS]
