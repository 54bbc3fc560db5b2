"""The life of a request: made, armed with deadlines, lost, given up, finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierwise.sim.compiled import compiled
from tierwise.sim.kernel import tables as t
from tierwise.sim.kernel.heap import order_of, push
from tierwise.sim.numerics import whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@compiled
def disarm(row: NDArray[np.int64]) -> None:
    """No deadline is set any more."""
    for level in range(t.LEVELS):
        row[t.R_ARM + level] = -1


@compiled
def new_request(m: t.Machine, time: int, device: int, k: int, entry: int) -> int:
    """A slot for a request made now, standing at its first step."""
    slot = m.clock[t.C_FREE]
    row = m.requests[slot]
    m.clock[t.C_FREE] = row[t.R_NEXT]
    m.clock[t.C_IN_USE] += 1
    for column in range(t.R_SIZE):
        row[column] = 0
    row[t.R_DEVICE] = device
    row[t.R_K] = k
    row[t.R_CREATED] = time
    for column in (t.R_SENT, t.R_ARRIVED, t.R_STARTED, t.R_FINISHED, t.R_ANSWERED, t.R_TIER, t.R_NODE, t.R_NEXT):
        row[column] = -1
    row[t.R_TURN] = -1
    disarm(row)
    row[t.R_PC] = entry
    return slot


@compiled
def waits_for_turn(m: t.Machine, slot: int, time: int, start: int) -> bool:
    """Whether a use of a device with a battery begins later, by an event of its own: then what it draws is known.

    An inference begins last of all in its instant: what the one before leads to is sent first.
    """
    row = m.requests[slot]
    if start <= time or m.ints[m.devices[row[t.R_DEVICE], t.D_GROUP], t.G_BATTERY] < 0:
        return False
    row[t.R_TURN] = time
    if start < m.clock[t.C_HORIZON]:
        step = m.ints[row[t.R_PC]]
        rank = m.clock[t.C_TIMER_RANK] + t.LEVELS + 1 if step[t.T_OP] == t.DEVICE else step[t.T_RANK] * 2 + 1
        push(m, start, order_of(m, slot, rank), slot * t.KINDS + t.STEP)
    return True


@compiled
def free(m: t.Machine, slot: int) -> None:
    """Gives the slot back."""
    m.requests[slot, t.R_DEVICE] = -1
    disarm(m.requests[slot])
    m.requests[slot, t.R_NEXT] = m.clock[t.C_FREE]
    m.clock[t.C_FREE] = slot
    m.clock[t.C_IN_USE] -= 1


@compiled
def part_of(amount: int, begin: int, length: int, limit: int) -> int:
    """What of an even use of ``amount`` from ``begin`` on, ``length`` ns long, comes before ``limit``."""
    if begin + length <= limit and begin < limit:
        return amount
    return whole(amount * ((limit - begin) / length)) if begin < limit else 0


@compiled
def spend(m: t.Machine, slot: int, begin: int, length: int, energy_nj: int) -> int:
    """Books energy that the request costs its device, evenly spent over a time.

    Gives the instant at which the use of the device ends early: when its battery is empty, it is taken out, or the run
    ends. The battery is empty when what was spent and the idle power from 0 on reach its capacity; uses that have
    begun count as spent when a later one is booked.
    """
    device = m.requests[slot, t.R_DEVICE]
    own = m.devices[device]
    capacity = m.ints[own[t.D_GROUP], t.G_BATTERY]
    emptied = False
    left = 0.0
    if capacity >= 0 and begin < own[t.D_DEAD]:
        idle = m.floats[own[t.D_GROUP], t.GF_IDLE]
        left = max(0.0, capacity - own[t.D_SPENT] - idle * begin)  # rounding must not end it before now
        emptied = energy_nj > 0 and left <= energy_nj + idle * length
        if emptied:
            empty = begin + (whole(left / (energy_nj / length + idle)) if length > 0 else 0)
            own[t.D_DEAD] = min(own[t.D_DEAD], empty)
        elif idle > 0.0:
            own[t.D_DEAD] = min(own[t.D_DEAD], begin + whole((left - energy_nj) / idle))
    limit = min(own[t.D_DEAD], m.clock[t.C_HORIZON])
    booked = part_of(energy_nj, begin, length, limit)
    if emptied and length == 0:
        booked = whole(left)  # all that there is, at once, and not enough
    own[t.D_SPENT] += booked
    if m.requests[slot, t.R_STATE] == t.GHOST:
        m.clock[t.C_GHOST_NJ] += booked
    else:
        m.requests[slot, t.R_ENERGY] += booked
    return limit


@compiled
def report(m: t.Machine, slot: int, outcome: int, time: int) -> None:
    """Writes the request's row; a closed-loop device then makes its next query."""
    row = m.requests[slot]
    device = row[t.R_DEVICE]
    out = m.done[m.clock[t.C_DONE]]
    m.clock[t.C_DONE] += 1
    for column in range(t.R_VISIBLE):
        out[column] = row[column]
    known = min(m.clock[t.C_HORIZON] - 1, time)
    for column in (t.R_SENT, t.R_ARRIVED, t.R_STARTED, t.R_FINISHED, t.R_ANSWERED):
        if out[column] > known:
            out[column] = -1
    if out[t.R_FINISHED] < 0:
        out[t.R_TIER] = -1
        out[t.R_NODE] = -1
    out[t.R_OUTCOME] = outcome
    group = m.devices[device, t.D_GROUP]
    if m.ints[group, t.G_CLOSED] == 1:
        m.devices[device, t.D_OPEN] -= 1
        # Whatever was lost is missed when the device's own deadline passes, and never without one.
        noticed = time
        if outcome > t.ANSWERED and outcome != t.TIMEOUT:
            noticed = row[t.R_ARM] if row[t.R_ARM] >= 0 else t.NEVER
        again = max(noticed, row[t.R_CREATED] + t.SHORTEST_LOOP, m.devices[device, t.D_AGAIN])
        m.devices[device, t.D_AGAIN] = again
        if m.devices[device, t.D_OPEN] == 0 and m.devices[device, t.D_QUERIES] != 0 and again < m.ints[group, t.G_STOP]:
            order = (device << m.clock[t.C_DEVICE_SHIFT]) | m.devices[device, t.D_NEXT_K]
            push(m, again, order, device * t.KINDS + t.CREATE)


@compiled
def give_up(m: t.Machine, slot: int, time: int) -> None:
    """The device waits no longer. What is under way goes on as a ghost."""
    row = m.requests[slot]
    lost = row[t.R_STATE] == t.LOST
    dead = time >= m.devices[row[t.R_DEVICE], t.D_DEAD]
    report(m, slot, t.BATTERY if dead else t.TIMEOUT, time)
    if lost:
        free(m, slot)
    else:
        row[t.R_STATE] = t.GHOST
        disarm(row)


@compiled
def open_query(m: t.Machine, device: int) -> int:
    """Notes that a closed-loop device makes a query now; how many requests it holds."""
    group = m.devices[device, t.D_GROUP]
    burst = m.ints[group, t.G_BURST]
    m.devices[device, t.D_OPEN] += burst
    m.devices[device, t.D_AGAIN] = 0
    m.devices[device, t.D_NEXT_K] += burst
    if m.devices[device, t.D_QUERIES] > 0:
        m.devices[device, t.D_QUERIES] -= 1
    return burst


@compiled
def conclude(m: t.Machine, slot: int, outcome: int, time: int) -> None:
    """The request is answered or lost. A lost one stays while a rule may ask elsewhere or its device gives up first.

    ``time`` may be later than now: a message's loss is known when it is sent, and shows when it has left.
    """
    row = m.requests[slot]
    if row[t.R_STATE] != t.GHOST:
        if outcome == t.ANSWERED:
            row[t.R_ANSWERED] = time
            if time >= m.devices[row[t.R_DEVICE], t.D_DEAD]:
                row[t.R_ANSWERED] = -1
                outcome = t.BATTERY
        elif row[t.R_ARM + 1] >= 0 or row[t.R_ARM + 2] >= 0 or 0 <= row[t.R_ARM] < time:
            row[t.R_STATE] = t.LOST
            return
        report(m, slot, outcome, time)
    free(m, slot)


@compiled
def arm(m: t.Machine, slot: int, time: int, pc: int) -> None:
    """Sets a deadline, and keeps the answer there is."""
    row = m.requests[slot]
    level = m.ints[pc, t.T_LEVEL]
    deadline = time + m.ints[pc, t.T_TIMEOUT]
    row[t.R_ARM + level] = deadline
    row[t.R_ARM_PC + level] = pc
    if level > 0:
        saved = t.R_SAVED + (level - 1) * t.SAVED
        row[saved] = row[t.R_ARRIVED]
        row[saved + 1] = row[t.R_STARTED]
        row[saved + 2] = row[t.R_FINISHED]
        row[saved + 3] = row[t.R_TIER]
        row[saved + 4] = row[t.R_NODE]
    push(m, deadline, order_of(m, slot, m.clock[t.C_TIMER_RANK] + level), slot * t.KINDS + t.TIMER + level)
    row[t.R_PC] = m.ints[pc, t.T_NEXT]


@compiled
def go_elsewhere(m: t.Machine, slot: int, level: int) -> int:
    """The deadline of a rule has passed: the slot that goes on at the rule's other way, with the answer kept.

    What is still under way goes on as a ghost: it takes its turn everywhere, and nobody waits for it. Its answer goes
    no further than the place that asked.
    """
    row = m.requests[slot]
    if row[t.R_STATE] == t.LOST:
        row[t.R_STATE] = t.UNDER_WAY
    else:
        twin = m.clock[t.C_FREE]
        m.clock[t.C_FREE] = m.requests[twin, t.R_NEXT]
        m.clock[t.C_IN_USE] += 1
        for column in range(t.R_SIZE):
            m.requests[twin, column] = row[column]
        row[t.R_STATE] = t.GHOST
        disarm(row)
        row[t.R_ARM + level] = t.TOO_LATE
        for other in range(level):
            if m.requests[twin, t.R_ARM + other] >= 0:
                order = order_of(m, twin, m.clock[t.C_TIMER_RANK] + other)
                push(m, m.requests[twin, t.R_ARM + other], order, twin * t.KINDS + t.TIMER + other)
        slot = twin
        row = m.requests[slot]
        row[t.R_TURN] = -1
    row[t.R_TRIES] = 0
    for other in range(level, t.LEVELS):
        row[t.R_ARM + other] = -1
    saved = t.R_SAVED + (level - 1) * t.SAVED
    row[t.R_ARRIVED] = row[saved]
    row[t.R_STARTED] = row[saved + 1]
    row[t.R_FINISHED] = row[saved + 2]
    row[t.R_TIER] = row[saved + 3]
    row[t.R_NODE] = row[saved + 4]
    return slot
