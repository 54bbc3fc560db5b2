"""A message enters a link: it waits for the sender, is on the air, is lost or arrives."""

from __future__ import annotations

from tierwise.sim.compiled import compiled
from tierwise.sim.kernel.heap import order_of, push
from tierwise.sim.kernel.requests import spend
from tierwise.sim.kernel.tables import (
    ANSWERED,
    C_DEVICES,
    C_HORIZON,
    C_STATION_KEYS,
    C_WHEN,
    FIRST_UP,
    GOES_ON,
    KINDS,
    L_BACKOFF,
    L_BURSTY,
    L_BUSY,
    L_BYTES,
    L_CUT,
    L_DELIVERED,
    L_JITTER,
    L_KEY_JITTER,
    L_KEY_LATENCY,
    L_KEY_LOSS,
    L_LATENCY,
    L_LOST,
    L_MESSAGES,
    L_PER_DEVICE,
    L_QUEUE,
    L_REFUSED,
    L_RETRIED,
    L_RETRIES,
    L_RING,
    L_SHAPED,
    L_STATION,
    L_WAIT,
    L_WINDOW,
    L_WINDOW_END,
    LAST_DOWN,
    LF_BURST,
    LF_FACTOR,
    LF_LOSS,
    LF_LOSS_BAD,
    LF_LOSS_GOOD,
    LF_OCCUPY,
    LF_SHAPE,
    LF_TO_BAD,
    LF_TO_GOOD,
    LINK_DOWN,
    LINK_LOSS,
    LINK_QUEUE,
    R_BYTES,
    R_DEVICE,
    R_DOWN,
    R_K,
    R_PC,
    R_SENDS,
    R_SENT,
    R_TRIES,
    R_TX,
    R_UP,
    S_BAD,
    S_BUSY,
    S_COUNT,
    S_RING,
    S_SHAPER,
    STEP,
    T_AIR,
    T_ARG,
    T_EAGER,
    T_EDGE_OF_DEVICE,
    T_ENERGY,
    T_NEXT,
    T_PAYLOAD,
    T_RANK,
    T_SIZE,
    TF_BYTE_AIR,
    TF_BYTE_ENERGY,
    TF_POWER,
    W_CUTS,
    W_END,
    W_EXTRA,
    W_START,
    WF_BANDWIDTH,
    WF_LOSS,
    Machine,
)
from tierwise.sim.numerics import draw, uniform, whole

SENDS_BITS = 6


@compiled
def lost_in_burst(m: Machine, link: int, station: int) -> bool:
    """Steps a Gilbert-Elliott chain by one message."""
    state = m.stations[station]
    floats = m.floats[link]
    key = m.keys[m.clock[C_STATION_KEYS] + station]
    count = state[S_COUNT]
    state[S_COUNT] = count + 1
    leaves = uniform(key, 2 * count) < (floats[LF_TO_GOOD] if state[S_BAD] == 1 else floats[LF_TO_BAD])
    if leaves:
        state[S_BAD] = 1 - state[S_BAD]
    loss = floats[LF_LOSS_BAD] if state[S_BAD] == 1 else floats[LF_LOSS_GOOD]
    return uniform(key, 2 * count + 1) < loss


@compiled
def first_window(m: Machine, row: int, column: int, time: int) -> int:
    """The first fault window that has not ended, and forgets those that have. Time never goes back."""
    first = m.ints[row, column]
    while first < m.ints[row, column + 1] and m.ints[first, W_END] <= time:
        first += 1
    m.ints[row, column] = first
    return first


@compiled
def start_of(m: Machine, link: int, station: int, time: int, size: int) -> int:
    """When the sender begins, or -1 where its queue is full."""
    ints = m.ints[link]
    state = m.stations[station]
    start = max(time, state[S_BUSY])
    if ints[L_SHAPED] == 1:
        cost = whole(size * m.floats[link, LF_SHAPE])
        eligible = max(time, state[S_SHAPER] + cost - whole(m.floats[link, LF_BURST]))
        start = max(start, eligible)
    limit = ints[L_QUEUE]
    if limit == 0 and start > time:
        return -1
    if limit > 0:
        ring = ints[L_RING] + (station - ints[L_STATION]) * limit + state[S_RING]
        if start > time and m.rings[ring] > time:
            return -1
        m.rings[ring] = start
        state[S_RING] = (state[S_RING] + 1) % limit
    if ints[L_SHAPED] == 1:
        state[S_SHAPER] = max(state[S_SHAPER], start) + whole(size * m.floats[link, LF_SHAPE])
    return start


@compiled
def enter_link(m: Machine, slot: int, time: int, pc: int) -> int:  # noqa: C901, PLR0912, PLR0915 -- hot, one thing
    """Sends the request's message now. Its next event is its arrival, another try, or none.

    Returns ``GOES_ON``, or the outcome, and then in ``C_WHEN`` its instant.
    """
    row = m.requests[slot]
    step = m.ints[pc]
    link = step[T_ARG]
    ints = m.ints[link]
    floats = m.floats[link]
    device = row[R_DEVICE]
    hop = step[T_EDGE_OF_DEVICE]
    if hop == FIRST_UP and row[R_SENT] < 0:
        row[R_SENT] = time
    station = ints[L_STATION] + (device if ints[L_PER_DEVICE] == 1 else 0)
    size, air, energy = step[T_SIZE], step[T_AIR], step[T_ENERGY]
    if row[R_BYTES] > 0 and step[T_PAYLOAD] >= 0:
        more = row[R_BYTES] - step[T_PAYLOAD]
        size += more
        air = whole(size * m.floats[pc, TF_BYTE_AIR])
        energy += whole(more * m.floats[pc, TF_BYTE_ENERGY])
    start = start_of(m, link, station, time, size)
    if start < 0:
        ints[L_REFUSED] += 1
        m.clock[C_WHEN] = time
        return LINK_QUEUE

    extra = 0
    loss = floats[LF_LOSS]
    cut = False
    if ints[L_WINDOW] < ints[L_WINDOW_END]:
        first = first_window(m, link, L_WINDOW, time)
        for window in range(first, ints[L_WINDOW_END]):
            if m.ints[window, W_CUTS] == 0 and m.ints[window, W_START] <= start < m.ints[window, W_END]:
                air = whole(air / m.floats[window, WF_BANDWIDTH])
                extra += m.ints[window, W_EXTRA]
                loss = 1.0 - (1.0 - loss) * (1.0 - m.floats[window, WF_LOSS])
        for window in range(first, ints[L_WINDOW_END]):
            if m.ints[window, W_CUTS] == 1 and m.ints[window, W_START] <= start + air and start < m.ints[window, W_END]:
                cut = True
    depart = start + air
    m.stations[station, S_BUSY] = depart if floats[LF_OCCUPY] == 1.0 else start + whole(air * floats[LF_OCCUPY])
    ints[L_MESSAGES] += 1
    ints[L_BYTES] += size
    ints[L_BUSY] += air
    ints[L_WAIT] += start - time
    if hop == FIRST_UP:
        row[R_TX] += 1
        row[R_UP] += size
        spend(m, slot, energy + whole(m.floats[pc, TF_POWER] * air))

    n = (row[R_K] << SENDS_BITS) | (row[R_SENDS] & ((1 << SENDS_BITS) - 1))
    row[R_SENDS] += 1
    if ints[L_BURSTY] == 1:
        lost = lost_in_burst(m, link, station)
        lost = lost or (loss > 0.0 and uniform(m.keys[ints[L_KEY_LOSS] * m.clock[C_DEVICES] + device], n) < loss)
    else:
        lost = loss > 0.0 and uniform(m.keys[ints[L_KEY_LOSS] * m.clock[C_DEVICES] + device], n) < loss
    if cut or lost:
        ints[L_CUT if cut else L_LOST] += 1
        if row[R_TRIES] < ints[L_RETRIES]:
            wait = 1.0 * ints[L_BACKOFF]
            for _ in range(row[R_TRIES]):
                wait *= floats[LF_FACTOR]
            row[R_TRIES] += 1
            ints[L_RETRIED] += 1
            push(m, depart + whole(wait), order_of(m, slot, step[T_RANK] * 2 + 1), slot * KINDS + STEP)
            return GOES_ON
        m.clock[C_WHEN] = depart
        return LINK_DOWN if cut else LINK_LOSS

    arrival = (
        depart
        + extra
        + draw(m.floats[ints[L_LATENCY]], m.values, m.keys[ints[L_KEY_LATENCY] * m.clock[C_DEVICES] + device], n)
    )
    if ints[L_JITTER] >= 0:
        arrival += draw(m.floats[ints[L_JITTER]], m.values, m.keys[ints[L_KEY_JITTER] * m.clock[C_DEVICES] + device], n)
    row[R_TRIES] = 0
    ints[L_DELIVERED] += 1
    if hop == LAST_DOWN:
        row[R_DOWN] += step[T_SIZE]
        spend(m, slot, step[T_ENERGY] + whole(m.floats[pc, TF_POWER] * air))
    following = step[T_NEXT]
    row[R_PC] = following
    if m.ints[following, T_EAGER] == 1 and arrival < m.clock[C_HORIZON]:
        m.clock[C_WHEN] = arrival
        return ANSWERED
    push(m, arrival, order_of(m, slot, m.ints[following, T_RANK] * 2 + 1), slot * KINDS + STEP)
    return GOES_ON
