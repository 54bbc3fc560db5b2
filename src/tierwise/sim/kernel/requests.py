"""The life of a request: made, armed with deadlines, lost, given up, finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierwise.sim.compiled import compiled
from tierwise.sim.kernel.heap import order_of, push
from tierwise.sim.kernel.tables import (
    ANSWERED,
    BATTERY,
    C_DONE,
    C_FREE,
    C_HORIZON,
    C_IN_USE,
    CREATE,
    D_DEAD,
    D_GROUP,
    D_NEXT_K,
    D_OPEN,
    D_QUERIES,
    D_SPENT,
    G_BURST,
    G_CLOSED,
    G_STOP,
    GHOST,
    K_BITS,
    KINDS,
    LAST_RANK,
    LEVELS,
    LOST,
    PAUSE,
    R_ANSWERED,
    R_ARM,
    R_ARM_PC,
    R_ARRIVED,
    R_CREATED,
    R_DEVICE,
    R_ENERGY,
    R_FINISHED,
    R_K,
    R_NEXT,
    R_NODE,
    R_OUTCOME,
    R_PC,
    R_SAVED,
    R_SENT,
    R_SIZE,
    R_STARTED,
    R_STATE,
    R_TIER,
    R_VISIBLE,
    SAVED,
    SHORTEST_LOOP,
    T_LEVEL,
    T_NEXT,
    T_TIMEOUT,
    TIMEOUT,
    TIMER,
    UNDER_WAY,
    Machine,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@compiled
def disarm(row: NDArray[np.int64]) -> None:
    """No deadline is set any more."""
    for level in range(LEVELS):
        row[R_ARM + level] = -1


@compiled
def new_request(m: Machine, time: int, device: int, k: int, entry: int) -> int:
    """A slot for a request made now, standing at its first step."""
    slot = m.clock[C_FREE]
    row = m.requests[slot]
    m.clock[C_FREE] = row[R_NEXT]
    m.clock[C_IN_USE] += 1
    for column in range(R_SIZE):
        row[column] = 0
    row[R_DEVICE] = device
    row[R_K] = k
    row[R_CREATED] = time
    for column in (R_SENT, R_ARRIVED, R_STARTED, R_FINISHED, R_ANSWERED, R_TIER, R_NODE, R_NEXT):
        row[column] = -1
    disarm(row)
    row[R_PC] = entry
    return slot


@compiled
def free(m: Machine, slot: int) -> None:
    """Gives the slot back."""
    m.requests[slot, R_DEVICE] = -1
    disarm(m.requests[slot])
    m.requests[slot, R_NEXT] = m.clock[C_FREE]
    m.clock[C_FREE] = slot
    m.clock[C_IN_USE] -= 1


@compiled
def spend(m: Machine, slot: int, energy_nj: int) -> None:
    """Energy that the request costs its device."""
    m.requests[slot, R_ENERGY] += energy_nj
    m.devices[m.requests[slot, R_DEVICE], D_SPENT] += energy_nj


@compiled
def report(m: Machine, slot: int, outcome: int, time: int) -> None:
    """Writes the request's row; a closed-loop device then makes its next query."""
    row = m.requests[slot]
    device = row[R_DEVICE]
    out = m.done[m.clock[C_DONE]]
    m.clock[C_DONE] += 1
    for column in range(R_VISIBLE):
        out[column] = row[column]
    known = min(m.clock[C_HORIZON] - 1, time)
    for column in (R_SENT, R_ARRIVED, R_STARTED, R_FINISHED, R_ANSWERED):
        if out[column] > known:
            out[column] = -1
    if out[R_FINISHED] < 0:
        out[R_TIER] = -1
        out[R_NODE] = -1
    out[R_OUTCOME] = outcome
    group = m.devices[device, D_GROUP]
    if m.ints[group, G_CLOSED] == 1:
        m.devices[device, D_OPEN] -= 1
        # Virtual time must go on, also where everything is refused or answered at once.
        again = max(time, row[R_CREATED] + (SHORTEST_LOOP if outcome == ANSWERED else PAUSE))
        if m.devices[device, D_OPEN] == 0 and m.devices[device, D_QUERIES] != 0 and again < m.ints[group, G_STOP]:
            order = (device << K_BITS) | m.devices[device, D_NEXT_K]
            push(m, again, order, device * KINDS + CREATE)


@compiled
def give_up(m: Machine, slot: int, time: int) -> None:
    """The device waits no longer. What is under way goes on as a ghost."""
    row = m.requests[slot]
    lost = row[R_STATE] == LOST
    report(m, slot, TIMEOUT, time)
    if lost:
        free(m, slot)
    else:
        row[R_STATE] = GHOST
        disarm(row)


@compiled
def open_query(m: Machine, device: int) -> int:
    """Notes that a closed-loop device makes a query now; how many requests it holds."""
    group = m.devices[device, D_GROUP]
    burst = m.ints[group, G_BURST]
    m.devices[device, D_OPEN] += burst
    m.devices[device, D_NEXT_K] += burst
    if m.devices[device, D_QUERIES] > 0:
        m.devices[device, D_QUERIES] -= 1
    return burst


@compiled
def conclude(m: Machine, slot: int, outcome: int, time: int) -> None:
    """The request is answered or lost. A lost one stays where a rule waits to ask elsewhere."""
    row = m.requests[slot]
    if row[R_STATE] != GHOST:
        if outcome == ANSWERED:
            row[R_ANSWERED] = time
            if time >= m.devices[row[R_DEVICE], D_DEAD]:
                row[R_ANSWERED] = -1
                outcome = BATTERY
        elif row[R_ARM + 1] >= 0 or row[R_ARM + 2] >= 0:
            row[R_STATE] = LOST
            return
        report(m, slot, outcome, time)
    free(m, slot)


@compiled
def arm(m: Machine, slot: int, time: int, pc: int) -> None:
    """Sets a deadline, and keeps the answer there is."""
    row = m.requests[slot]
    level = m.ints[pc, T_LEVEL]
    deadline = time + m.ints[pc, T_TIMEOUT]
    row[R_ARM + level] = deadline
    row[R_ARM_PC + level] = pc
    if level > 0:
        saved = R_SAVED + (level - 1) * SAVED
        row[saved] = row[R_ARRIVED]
        row[saved + 1] = row[R_STARTED]
        row[saved + 2] = row[R_FINISHED]
        row[saved + 3] = row[R_TIER]
        row[saved + 4] = row[R_NODE]
    push(m, deadline, order_of(m, slot, LAST_RANK), slot * KINDS + TIMER + level)
    row[R_PC] = m.ints[pc, T_NEXT]


@compiled
def go_elsewhere(m: Machine, slot: int, level: int) -> int:
    """The deadline of a rule has passed: the slot that goes on at the rule's other way, with the answer kept.

    What is still under way goes on as a ghost: it takes its turn everywhere, and nobody waits for it.
    """
    row = m.requests[slot]
    if row[R_STATE] == LOST:
        row[R_STATE] = UNDER_WAY
    else:
        twin = m.clock[C_FREE]
        m.clock[C_FREE] = m.requests[twin, R_NEXT]
        m.clock[C_IN_USE] += 1
        for column in range(R_SIZE):
            m.requests[twin, column] = row[column]
        row[R_STATE] = GHOST
        disarm(row)
        for other in range(level):
            if m.requests[twin, R_ARM + other] >= 0:
                order = order_of(m, twin, LAST_RANK)
                push(m, m.requests[twin, R_ARM + other], order, twin * KINDS + TIMER + other)
        slot = twin
        row = m.requests[slot]
    for other in range(level, LEVELS):
        row[R_ARM + other] = -1
    saved = R_SAVED + (level - 1) * SAVED
    row[R_ARRIVED] = row[saved]
    row[R_STARTED] = row[saved + 1]
    row[R_FINISHED] = row[saved + 2]
    row[R_TIER] = row[saved + 3]
    row[R_NODE] = row[saved + 4]
    return slot
