"""The loop: the earliest of the next request and the next event, until there is none before the limit."""

from __future__ import annotations

from tierwise.policy.rules import escalates
from tierwise.sim.compiled import compiled, compiled_apart
from tierwise.sim.kernel import tables as t
from tierwise.sim.kernel.heap import drop_first, order_of, push
from tierwise.sim.kernel.links import enter_link
from tierwise.sim.kernel.nodes import arrive_at_node, end_batch, node_fails, node_recovers, start_what_can
from tierwise.sim.kernel.requests import (
    arm,
    conclude,
    give_up,
    go_elsewhere,
    new_request,
    open_query,
    spend,
    waits_for_turn,
)
from tierwise.sim.numerics import draw, quantile, uniform, whole

_escalates = compiled(escalates)


@compiled
def confidence_of(m: t.Machine, slot: int, pc: int) -> float:
    """How sure the last answer is: of the sample, or drawn."""
    step = m.ints[pc]
    device, k, devices = m.requests[slot, t.R_DEVICE], m.requests[slot, t.R_K], m.clock[t.C_DEVICES]
    if step[t.T_CONFIDENCES] >= 0:
        sample = int(uniform(m.keys[step[t.T_KEY_SAMPLE] * devices + device], k) * step[t.T_SAMPLES])
        return m.values[step[t.T_CONFIDENCES] + sample]
    right = uniform(m.keys[step[t.T_KEY_ANSWER] * devices + device], k) < m.floats[pc, t.TF_ACCURACY]
    dist = step[t.T_RIGHT] if right else step[t.T_WRONG]
    return quantile(m.floats[dist], m.values, uniform(m.keys[step[t.T_KEY_CONFIDENCE] * devices + device], k))


@compiled
def compute_on_device(m: t.Machine, slot: int, time: int, pc: int) -> int:
    """The device's processor: first come, first served. Returns ``GOES_ON``, or that its battery ends before."""
    row = m.requests[slot]
    step = m.ints[pc]
    device = row[t.R_DEVICE]
    m.clock[t.C_WHEN] = time
    its_turn = row[t.R_TURN] >= 0
    row[t.R_TURN] = -1
    if time >= m.devices[device, t.D_DEAD]:
        return t.BATTERY
    start = time if its_turn else max(time, m.devices[device, t.D_BUSY])
    key = m.keys[step[t.T_KEY] * m.clock[t.C_DEVICES] + device]
    service = draw(m.floats[step[t.T_DIST]], m.values, key, row[t.R_K])
    end = start + service
    if not its_turn:
        m.devices[device, t.D_BUSY] = end
        row[t.R_ARRIVED] = time
        row[t.R_STARTED] = start
        row[t.R_FINISHED] = end
        row[t.R_TIER] = 0
        row[t.R_NODE] = -1
        if waits_for_turn(m, slot, time, start):
            return t.GOES_ON
    energy = step[t.T_ENERGY] if step[t.T_ENERGY] >= 0 else whole(m.floats[pc, t.TF_POWER] * service)
    limit = spend(m, slot, start, service, energy)
    if start < limit:
        row[t.R_RUNS] += 1
    if limit < m.clock[t.C_HORIZON] and (limit < end or limit <= start):
        m.clock[t.C_WHEN] = max(time, limit)
        return t.BATTERY
    row[t.R_PC] = step[t.T_NEXT]
    push(m, end, order_of(m, slot, m.ints[step[t.T_NEXT], t.T_RANK] * 2 + 1), slot * t.KINDS + t.STEP)
    return t.GOES_ON


@compiled
def proceed(  # noqa: C901, PLR0911 -- hot
    m: t.Machine,
    slot: int,
    time: int,
    inline: bool,  # noqa: FBT001 -- numba takes no keyword-only
    together: bool,  # noqa: FBT001
) -> int:
    """Takes the request through its steps until one takes time.

    A station that several others feed is entered by an event of its own, so that arrivals of one instant come in
    their order; ``inline`` says that this call is that event. The members of a batch go on ``together``, as they stood
    in the queue; only a policy is asked one by one, by events of their own. Returns ``GOES_ON``, ``WAITS_FOR_POLICY``
    or the request's outcome, and then in ``C_WHEN`` its instant.
    """
    while True:
        pc = m.requests[slot, t.R_PC]
        step = m.ints[pc]
        op = step[t.T_OP]
        if op == t.CASCADE:
            unsure = _escalates(confidence_of(m, slot, pc), m.floats[pc, t.TF_THRESHOLD])
            m.requests[slot, t.R_PC] = step[t.T_NEXT] if unsure else step[t.T_ALT]
        elif op == t.ARM:
            arm(m, slot, time, pc)
        elif op == t.DISARM and m.requests[slot, t.R_ARM + step[t.T_LEVEL]] == t.TOO_LATE:
            m.clock[t.C_WHEN] = time
            return t.ANSWERED  # to nobody
        elif op == t.DISARM:
            m.requests[slot, t.R_ARM + step[t.T_LEVEL]] = -1
            m.requests[slot, t.R_PC] = step[t.T_NEXT]
        else:
            break
    if op == t.END:
        m.clock[t.C_WHEN] = time
        return t.ANSWERED
    if (step[t.T_INLINE] == 0 and not inline and not together) or (op == t.ASK and together):
        push(m, time, order_of(m, slot, step[t.T_RANK] * 2 + 1), slot * t.KINDS + t.STEP)
        return t.GOES_ON
    if op == t.LINK:
        return enter_link(m, slot, time, pc)
    if op == t.NODE:
        return arrive_at_node(m, slot, time, step[t.T_ARG])
    if op == t.DEVICE:
        return compute_on_device(m, slot, time, pc)
    m.clock[t.C_ASKED] = slot
    m.clock[t.C_ASKED_STEP] = pc
    m.clock[t.C_ASKED_DEVICE] = m.requests[slot, t.R_DEVICE]
    return t.WAITS_FOR_POLICY


@compiled
def make(m: t.Machine, time: int, device: int, k: int) -> int:
    """A device makes a request, unless it is out of energy: its slot, or -1."""
    if time >= m.devices[device, t.D_DEAD]:
        m.clock[t.C_NOT_MADE] += 1
        return -1
    return new_request(m, time, device, k, m.ints[m.devices[device, t.D_GROUP], t.G_ENTRY])


@compiled
def make_query(m: t.Machine, time: int, device: int) -> None:
    """A closed-loop device makes its next requests together, each by an event of its own."""
    first = m.devices[device, t.D_NEXT_K]
    for k in range(first, first + open_query(m, device)):
        slot = make(m, time, device, k)
        if slot < 0:
            return
        push(m, time, order_of(m, slot, m.ints[m.requests[slot, t.R_PC], t.T_RANK] * 2 + 1), slot * t.KINDS + t.STEP)


@compiled
def deadline_passes(m: t.Machine, slot: int, time: int, level: int) -> int:
    """A timer fires: the device gives up, or a rule asks elsewhere; the slot that goes on, or -1.

    Timers of requests that are finished or have been answered in time are void.
    """
    if m.requests[slot, t.R_ARM + level] != time:
        return -1
    if level == 0:
        give_up(m, slot, time)
        return -1
    other_way = m.ints[m.requests[slot, t.R_ARM_PC + level], t.T_ALT]
    slot = go_elsewhere(m, slot, level)
    m.requests[slot, t.R_PC] = other_way
    return slot


@compiled
def next_is_arrival(m: t.Machine) -> bool:
    """Whether the next request to be made comes before the first event."""
    clock = m.clock
    if clock[t.C_POSITION] >= clock[t.C_ARRIVALS]:
        return False
    if clock[t.C_HEAP] == 0:
        return True
    arrivals, position = m.arrivals, clock[t.C_POSITION]
    if arrivals[position, 0] != m.heap[0, 0]:
        return arrivals[position, 0] < m.heap[0, 0]
    order = (arrivals[position, 1] << clock[t.C_DEVICE_SHIFT]) | arrivals[position, 2]
    return order < m.heap[0, 1]


@compiled
def room_needed(m: t.Machine) -> int:
    """``FINISHED`` where there is room for everything that one event can cause, else what is to be done."""
    clock = m.clock
    cause = clock[t.C_IN_USE] + clock[t.C_RESERVE]
    if cause > m.requests.shape[0]:
        return t.GROW_REQUESTS
    if clock[t.C_HEAP] + 2 * cause > m.heap.shape[0]:
        return t.GROW_HEAP
    return t.DRAIN if clock[t.C_DONE] + cause > m.done.shape[0] else t.FINISHED


@compiled_apart
def run(m: t.Machine, limit: int, decided: int) -> int:  # noqa: C901, PLR0912, PLR0915 -- one loop; calls would copy all tables
    """Handles everything before ``limit`` ns, and says why it came back.

    ``decided`` is the step at which the request in ``C_ASKED`` goes on, or -1 where none was asked.

    ``FINISHED``: nothing is left before the limit. ``ASKED``: the request in ``C_ASKED`` needs a decision. ``DRAIN``,
    ``GROW_REQUESTS``, ``GROW_HEAP``: a table is full.
    """
    clock = m.clock
    if decided >= 0:
        asked_for = clock[t.C_ASKED]
        m.requests[asked_for, t.R_PC] = decided
        push(m, clock[t.C_NOW], order_of(m, asked_for, m.ints[decided, t.T_RANK] * 2 + 1), asked_for * t.KINDS + t.STEP)
    while True:
        arrives = next_is_arrival(m)
        if arrives:
            time = m.arrivals[clock[t.C_POSITION], 0]
        elif clock[t.C_HEAP] > 0:
            time = m.heap[0, 0]
        else:
            return t.FINISHED
        if time >= limit:
            return t.FINISHED
        room = room_needed(m)
        if room != t.FINISHED:
            return room
        clock[t.C_NOW] = time
        clock[t.C_EVENTS] += 1

        slot = -1  # who goes on; where `chained`, those that follow it too
        node = -1  # where something may start afterwards
        chained, together, inline = False, False, False
        lost = t.GOES_ON
        if arrives:
            device, k = m.arrivals[clock[t.C_POSITION], 1], m.arrivals[clock[t.C_POSITION], 2]
            clock[t.C_POSITION] += 1
            if m.ints[m.devices[device, t.D_GROUP], t.G_CLOSED] == 1:
                make_query(m, time, device)
            else:
                slot = make(m, time, device, k)
                if slot >= 0:
                    m.requests[slot, t.R_BYTES] = m.arrivals[clock[t.C_POSITION] - 1, 3]
        else:
            what = m.heap[0, 2]
            drop_first(m)
            kind = what % t.KINDS
            subject = what // t.KINDS
            if kind == t.STEP:
                slot = subject
                op = m.ints[m.requests[slot, t.R_PC], t.T_OP]
                inline = op not in (t.CASCADE, t.ARM, t.DISARM)
                if op == t.NODE:
                    node = m.ints[m.requests[slot, t.R_PC], t.T_ARG]
            elif kind == t.FINISH:
                slot, chained = subject, True
                node = end_batch(m, slot)
                together = m.ints[node, t.N_MAX_BATCH] > 1
            elif kind == t.HOLD:
                if m.ints[subject, t.N_TIMER] == time:
                    m.ints[subject, t.N_TIMER] = -1
                    node = subject
            elif kind == t.CREATE:
                make_query(m, time, subject)
            elif kind == t.DOWN:
                slot, chained, lost = node_fails(m, subject, time), True, t.NODE_DOWN
            elif kind == t.UP:
                node_recovers(m, subject)
            elif kind != t.NOTHING:
                slot = deadline_passes(m, subject, time, kind - t.TIMER)

        asked = False
        while slot >= 0:
            following = m.requests[slot, t.R_NEXT] if chained else -1
            outcome = lost
            clock[t.C_WHEN] = time
            if lost == t.GOES_ON:
                outcome = proceed(m, slot, time, inline, together)
            if outcome > t.GOES_ON:
                conclude(m, slot, outcome, clock[t.C_WHEN])
            asked = outcome == t.WAITS_FOR_POLICY
            slot = following
        if node >= 0:
            start_what_can(m, time, node)
        if asked:
            return t.ASKED
