"""The loop: the earliest of the next request and the next event, until there is none before the limit."""

from __future__ import annotations

from tierwise.policy.rules import escalates
from tierwise.sim.compiled import compiled, compiled_apart
from tierwise.sim.kernel.heap import drop_first, order_of, push
from tierwise.sim.kernel.links import enter_link
from tierwise.sim.kernel.nodes import arrive_at_node, end_batch, node_fails, node_recovers, start_what_can
from tierwise.sim.kernel.requests import arm, conclude, give_up, go_elsewhere, new_request, open_query, spend
from tierwise.sim.kernel.tables import (
    ANSWERED,
    ARM,
    ASKED,
    C_ARRIVALS,
    C_ASKED,
    C_ASKED_DEVICE,
    C_ASKED_STEP,
    C_DEVICES,
    C_DONE,
    C_EVENTS,
    C_HEAP,
    C_IN_USE,
    C_NOW,
    C_POSITION,
    C_RESERVE,
    C_SILENT,
    C_WHEN,
    CASCADE,
    CREATE,
    D_BUSY,
    D_DEAD,
    D_GROUP,
    D_NEXT_K,
    D_SPENT,
    DEVICE,
    DISARM,
    DOWN,
    DRAIN,
    END,
    FINISH,
    FINISHED,
    G_BATTERY,
    G_CLOSED,
    G_ENTRY,
    GF_IDLE,
    GOES_ON,
    GROW_HEAP,
    GROW_REQUESTS,
    HOLD,
    K_BITS,
    KINDS,
    LINK,
    N_TIMER,
    NODE,
    NODE_DOWN,
    R_ARM,
    R_ARM_PC,
    R_ARRIVED,
    R_BYTES,
    R_DEVICE,
    R_FINISHED,
    R_K,
    R_NEXT,
    R_NODE,
    R_PC,
    R_RUNS,
    R_STARTED,
    R_TIER,
    STEP,
    T_ALT,
    T_ARG,
    T_CONFIDENCES,
    T_DIST,
    T_ENERGY,
    T_INLINE,
    T_KEY,
    T_KEY_ANSWER,
    T_KEY_CONFIDENCE,
    T_KEY_SAMPLE,
    T_LEVEL,
    T_NEXT,
    T_OP,
    T_RANK,
    T_RIGHT,
    T_SAMPLES,
    T_WRONG,
    TF_ACCURACY,
    TF_POWER,
    TF_THRESHOLD,
    TIMER,
    UP,
    WAITS_FOR_POLICY,
    Machine,
)
from tierwise.sim.numerics import draw, quantile, uniform, whole

_escalates = compiled(escalates)


@compiled
def confidence_of(m: Machine, slot: int, pc: int) -> float:
    """How sure the last answer is: of the sample, or drawn."""
    step = m.ints[pc]
    device, k, devices = m.requests[slot, R_DEVICE], m.requests[slot, R_K], m.clock[C_DEVICES]
    if step[T_CONFIDENCES] >= 0:
        sample = int(uniform(m.keys[step[T_KEY_SAMPLE] * devices + device], k) * step[T_SAMPLES])
        return m.values[step[T_CONFIDENCES] + sample]
    right = uniform(m.keys[step[T_KEY_ANSWER] * devices + device], k) < m.floats[pc, TF_ACCURACY]
    dist = step[T_RIGHT] if right else step[T_WRONG]
    return quantile(m.floats[dist], m.values, uniform(m.keys[step[T_KEY_CONFIDENCE] * devices + device], k))


@compiled
def compute_on_device(m: Machine, slot: int, time: int, pc: int) -> None:
    """The device's processor: first come, first served."""
    row = m.requests[slot]
    step = m.ints[pc]
    device = row[R_DEVICE]
    start = max(time, m.devices[device, D_BUSY])
    key = m.keys[step[T_KEY] * m.clock[C_DEVICES] + device]
    service = draw(m.floats[step[T_DIST]], m.values, key, row[R_K])
    m.devices[device, D_BUSY] = start + service
    row[R_ARRIVED] = time
    row[R_STARTED] = start
    row[R_FINISHED] = start + service
    row[R_TIER] = 0
    row[R_NODE] = -1
    row[R_RUNS] += 1
    spend(m, slot, step[T_ENERGY] if step[T_ENERGY] >= 0 else whole(m.floats[pc, TF_POWER] * service))
    row[R_PC] = step[T_NEXT]
    push(m, start + service, order_of(m, slot, m.ints[step[T_NEXT], T_RANK] * 2 + 1), slot * KINDS + STEP)


@compiled
def proceed(m: Machine, slot: int, time: int, inline: bool) -> int:  # noqa: FBT001 -- numba takes no keyword-only
    """Takes the request through its steps until one takes time.

    A station that several others feed is entered by an event of its own, so that arrivals of one instant come in
    their order; ``inline`` says that this call is that event. Returns ``GOES_ON``, ``WAITS_FOR_POLICY`` or the
    request's outcome, and then in ``C_WHEN`` its instant.
    """
    while True:
        pc = m.requests[slot, R_PC]
        step = m.ints[pc]
        op = step[T_OP]
        if op == CASCADE:
            unsure = _escalates(confidence_of(m, slot, pc), m.floats[pc, TF_THRESHOLD])
            m.requests[slot, R_PC] = step[T_NEXT] if unsure else step[T_ALT]
        elif op == ARM:
            arm(m, slot, time, pc)
        elif op == DISARM:
            m.requests[slot, R_ARM + step[T_LEVEL]] = -1
            m.requests[slot, R_PC] = step[T_NEXT]
        else:
            break
    if op == END:
        m.clock[C_WHEN] = time
        return ANSWERED
    if not inline and step[T_INLINE] == 0:
        push(m, time, order_of(m, slot, step[T_RANK] * 2 + 1), slot * KINDS + STEP)
        return GOES_ON
    if op == LINK:
        return enter_link(m, slot, time, pc)
    if op == NODE:
        return arrive_at_node(m, slot, time, step[T_ARG])
    if op == DEVICE:
        compute_on_device(m, slot, time, pc)
        return GOES_ON
    m.clock[C_ASKED] = slot
    m.clock[C_ASKED_STEP] = pc
    m.clock[C_ASKED_DEVICE] = m.requests[slot, R_DEVICE]
    return WAITS_FOR_POLICY


@compiled
def make(m: Machine, time: int, device: int, k: int) -> int:
    """A device makes a request, unless it is out of energy: its slot, or -1."""
    group = m.devices[device, D_GROUP]
    battery = m.ints[group, G_BATTERY]
    spent = m.devices[device, D_SPENT] + m.floats[group, GF_IDLE] * time
    if battery >= 0 and spent >= battery and time < m.devices[device, D_DEAD]:
        m.devices[device, D_DEAD] = time
    if time >= m.devices[device, D_DEAD]:
        m.clock[C_SILENT] += 1
        return -1
    return new_request(m, time, device, k, m.ints[group, G_ENTRY])


@compiled
def make_query(m: Machine, time: int, device: int) -> None:
    """A closed-loop device makes its next requests together, each by an event of its own."""
    first = m.devices[device, D_NEXT_K]
    for k in range(first, first + open_query(m, device)):
        slot = make(m, time, device, k)
        if slot < 0:
            return
        push(m, time, order_of(m, slot, m.ints[m.requests[slot, R_PC], T_RANK] * 2 + 1), slot * KINDS + STEP)


@compiled
def deadline_passes(m: Machine, slot: int, time: int, level: int) -> int:
    """A timer fires: the device gives up, or a rule asks elsewhere; the slot that goes on, or -1.

    Timers of requests that are finished or have been answered in time are void.
    """
    if m.requests[slot, R_ARM + level] != time:
        return -1
    if level == 0:
        give_up(m, slot, time)
        return -1
    other_way = m.ints[m.requests[slot, R_ARM_PC + level], T_ALT]
    slot = go_elsewhere(m, slot, level)
    m.requests[slot, R_PC] = other_way
    return slot


@compiled
def next_is_arrival(m: Machine) -> bool:
    """Whether the next request to be made comes before the first event."""
    clock = m.clock
    if clock[C_POSITION] >= clock[C_ARRIVALS]:
        return False
    if clock[C_HEAP] == 0:
        return True
    arrivals, position = m.arrivals, clock[C_POSITION]
    if arrivals[position, 0] != m.heap[0, 0]:
        return arrivals[position, 0] < m.heap[0, 0]
    order = (arrivals[position, 1] << K_BITS) | arrivals[position, 2]
    return order < m.heap[0, 1]


@compiled
def room_needed(m: Machine) -> int:
    """``FINISHED`` where there is room for everything that one event can cause, else what is to be done."""
    clock = m.clock
    cause = clock[C_IN_USE] + clock[C_RESERVE]
    if cause > m.requests.shape[0]:
        return GROW_REQUESTS
    if clock[C_HEAP] + 2 * cause > m.heap.shape[0]:
        return GROW_HEAP
    return DRAIN if clock[C_DONE] + cause > m.done.shape[0] else FINISHED


@compiled_apart
def run(m: Machine, limit: int, decided: int) -> int:  # noqa: C901, PLR0912, PLR0915 -- one loop; calls would copy all tables
    """Handles everything before ``limit`` ns, and says why it came back.

    ``decided`` is the step at which the request in ``C_ASKED`` goes on, or -1 where none was asked.

    ``FINISHED``: nothing is left before the limit. ``ASKED``: the request in ``C_ASKED`` needs a decision. ``DRAIN``,
    ``GROW_REQUESTS``, ``GROW_HEAP``: a table is full.
    """
    clock = m.clock
    if decided >= 0:
        asked_for = clock[C_ASKED]
        m.requests[asked_for, R_PC] = decided
        push(m, clock[C_NOW], order_of(m, asked_for, m.ints[decided, T_RANK] * 2 + 1), asked_for * KINDS + STEP)
    while True:
        arrives = next_is_arrival(m)
        if arrives:
            time = m.arrivals[clock[C_POSITION], 0]
        elif clock[C_HEAP] > 0:
            time = m.heap[0, 0]
        else:
            return FINISHED
        if time >= limit:
            return FINISHED
        room = room_needed(m)
        if room != FINISHED:
            return room
        clock[C_NOW] = time
        clock[C_EVENTS] += 1

        slot = -1  # who goes on; with `together`, those chained to it too
        node = -1  # where something may start afterwards
        together, inline = False, False
        lost = GOES_ON
        if arrives:
            device, k = m.arrivals[clock[C_POSITION], 1], m.arrivals[clock[C_POSITION], 2]
            clock[C_POSITION] += 1
            if m.ints[m.devices[device, D_GROUP], G_CLOSED] == 1:
                make_query(m, time, device)
            else:
                slot = make(m, time, device, k)
                if slot >= 0:
                    m.requests[slot, R_BYTES] = m.arrivals[clock[C_POSITION] - 1, 3]
        else:
            what = m.heap[0, 2]
            drop_first(m)
            kind = what % KINDS
            subject = what // KINDS
            if kind == STEP:
                slot, inline = subject, True
                if m.ints[m.requests[slot, R_PC], T_OP] == NODE:
                    node = m.ints[m.requests[slot, R_PC], T_ARG]
            elif kind == FINISH:
                slot, together = subject, True
                if end_batch(m, slot):
                    node = m.requests[slot, R_NODE]
                else:
                    lost = NODE_DOWN
            elif kind == HOLD:
                if m.ints[subject, N_TIMER] == time:
                    m.ints[subject, N_TIMER] = -1
                    node = subject
            elif kind == CREATE:
                make_query(m, time, subject)
            elif kind == DOWN:
                slot, together, lost = node_fails(m, subject), True, NODE_DOWN
            elif kind == UP:
                node_recovers(m, subject)
            else:
                slot = deadline_passes(m, subject, time, kind - TIMER)

        asked = False
        while slot >= 0:
            following = m.requests[slot, R_NEXT] if together else -1
            outcome = lost
            clock[C_WHEN] = time
            if lost == GOES_ON:
                outcome = proceed(m, slot, time, inline)
            if outcome > GOES_ON:
                conclude(m, slot, outcome, clock[C_WHEN])
            asked = outcome == WAITS_FOR_POLICY
            slot = following
        if node >= 0:
            start_what_can(m, time, node)
        if asked:
            return ASKED
