"""A message enters a link: it waits for the sender, is on the air, is lost or arrives."""

from __future__ import annotations

from tierwise.sim.compiled import compiled
from tierwise.sim.kernel import tables as t
from tierwise.sim.kernel.heap import order_of, push
from tierwise.sim.kernel.requests import part_of, spend, waits_for_turn
from tierwise.sim.numerics import draw, number_of_send, uniform, whole


@compiled
def lost_in_burst(m: t.Machine, link: int, station: int) -> bool:
    """Steps a Gilbert-Elliott chain by one message."""
    state = m.stations[station]
    floats = m.floats[link]
    key = m.keys[m.clock[t.C_STATION_KEYS] + station]
    count = state[t.S_COUNT]
    state[t.S_COUNT] = count + 1
    leaves = uniform(key, 2 * count) < (floats[t.LF_TO_GOOD] if state[t.S_BAD] == 1 else floats[t.LF_TO_BAD])
    if leaves:
        state[t.S_BAD] = 1 - state[t.S_BAD]
    loss = floats[t.LF_LOSS_BAD] if state[t.S_BAD] == 1 else floats[t.LF_LOSS_GOOD]
    return uniform(key, 2 * count + 1) < loss


@compiled
def window_at(m: t.Machine, first: int, end: int, time: int) -> int:
    """The first of some fault windows that ends after a time; ``end`` where none does."""
    while first < end:
        middle = (first + end) >> 1
        if m.ints[middle, t.W_END] > time:
            end = middle
        else:
            first = middle + 1
    return first


@compiled
def start_of(m: t.Machine, link: int, station: int, time: int, size: int) -> int:
    """When the sender begins, or -1 where its queue is full."""
    ints = m.ints[link]
    state = m.stations[station]
    start = max(time, state[t.S_BUSY])
    if ints[t.L_SHAPED] == 1:
        cost = whole(size * m.floats[link, t.LF_SHAPE])
        eligible = max(time, state[t.S_SHAPER] + cost - whole(m.floats[link, t.LF_BURST]))
        start = max(start, eligible)
    limit = ints[t.L_QUEUE]
    if limit == 0 and start > time:
        return -1
    if limit > 0:
        ring = ints[t.L_RING] + (station - ints[t.L_STATION]) * limit + state[t.S_RING]
        if start > time and m.rings[ring] > time:
            return -1
        m.rings[ring] = start
        state[t.S_RING] = (state[t.S_RING] + 1) % limit
    if ints[t.L_SHAPED] == 1:
        state[t.S_SHAPER] = max(state[t.S_SHAPER], start) + whole(size * m.floats[link, t.LF_SHAPE])
    return start


@compiled
def enter_link(m: t.Machine, slot: int, time: int, pc: int) -> int:  # noqa: C901, PLR0911, PLR0912, PLR0915 -- hot
    """Sends the request's message now. Its next event is its arrival, another try, or none.

    Time on the air, bytes and energy are booked for what comes before the end of the run and of the sender's battery.
    Returns ``GOES_ON``, or the outcome, and then in ``C_WHEN`` its instant.
    """
    row = m.requests[slot]
    step = m.ints[pc]
    link = step[t.T_ARG]
    ints = m.ints[link]
    floats = m.floats[link]
    device = row[t.R_DEVICE]
    hop = step[t.T_EDGE_OF_DEVICE]
    horizon = m.clock[t.C_HORIZON]
    m.clock[t.C_WHEN] = time
    came = row[t.R_TURN] if row[t.R_TURN] >= 0 else time
    row[t.R_TURN] = -1
    if hop == t.FIRST_UP:
        if time >= m.devices[device, t.D_DEAD]:
            if came < time:
                ints[t.L_CUT] += 1
            return t.BATTERY
        if row[t.R_SENT] < 0:
            row[t.R_SENT] = time
    station = ints[t.L_STATION] + (device if ints[t.L_PER_DEVICE] == 1 else 0)
    size, air, energy = step[t.T_SIZE], step[t.T_AIR], step[t.T_ENERGY]
    if row[t.R_BYTES] > 0 and step[t.T_PAYLOAD] >= 0:
        more = row[t.R_BYTES] - step[t.T_PAYLOAD]
        size += more
        air = whole(size * m.floats[pc, t.TF_BYTE_AIR])
        energy += whole(more * m.floats[pc, t.TF_BYTE_ENERGY])
    start = time if came < time else start_of(m, link, station, time, size)
    if start < 0:
        ints[t.L_REFUSED] += 1
        return t.LINK_QUEUE

    extra = 0
    loss = floats[t.LF_LOSS]
    cut = False
    last_window = ints[t.L_WINDOW_END]
    if ints[t.L_WINDOW] < last_window:
        window = window_at(m, ints[t.L_WINDOW], last_window, start)
        if window < last_window and m.ints[window, t.W_START] <= start:
            air = whole(air / m.floats[window, t.WF_BANDWIDTH])
            extra = m.ints[window, t.W_EXTRA]
            loss = 1.0 - (1.0 - loss) * (1.0 - m.floats[window, t.WF_LOSS])
        while not cut and window < last_window and m.ints[window, t.W_START] <= start + air:
            cut = m.ints[window, t.W_CUTS] == 1
            window += 1
    depart = start + air

    free = depart if floats[t.LF_OCCUPY] == 1.0 else start + whole(air * floats[t.LF_OCCUPY])
    if came < time:
        ints[t.L_UNSENT] -= 1
    else:
        ints[t.L_MESSAGES] += 1
        if hop == t.FIRST_UP and waits_for_turn(m, slot, time, start):
            ints[t.L_UNSENT] += 1
            m.stations[station, t.S_BUSY] = free
            return t.GOES_ON
    limit = horizon
    if hop == t.FIRST_UP:
        limit = spend(m, slot, start, air, energy + whole(m.floats[pc, t.TF_POWER] * air))
    if start < limit:
        sent = part_of(size, start, air, limit)
        ints[t.L_BYTES] += sent
        ints[t.L_BUSY] += min(depart, limit) - start
        ints[t.L_WAIT] += start - came
        if hop == t.FIRST_UP:
            row[t.R_TX] += 1
            row[t.R_UP] += sent
    else:
        ints[t.L_UNSENT] += 1
    if limit < horizon and (limit < depart or limit <= start):  # the sender's battery ends before the message does
        ints[t.L_CUT] += 1
        if start < limit and came == time:
            m.stations[station, t.S_BUSY] = limit
        m.clock[t.C_WHEN] = max(time, limit)
        return t.BATTERY
    if came == time:
        m.stations[station, t.S_BUSY] = free

    sends = row[t.R_SENDS]
    row[t.R_SENDS] = sends + 1
    n = number_of_send(row[t.R_K], sends)
    if ints[t.L_BURSTY] == 1:
        lost = lost_in_burst(m, link, station)
        lost = lost or (loss > 0.0 and uniform(m.keys[ints[t.L_KEY_LOSS] * m.clock[t.C_DEVICES] + device], n) < loss)
    else:
        lost = loss > 0.0 and uniform(m.keys[ints[t.L_KEY_LOSS] * m.clock[t.C_DEVICES] + device], n) < loss
    if cut or lost:
        if depart >= horizon:
            return t.GOES_ON  # nobody knows yet
        ints[t.L_CUT if cut else t.L_LOST] += 1
        if row[t.R_TRIES] < ints[t.L_RETRIES]:
            wait = 1.0 * ints[t.L_BACKOFF]
            for _ in range(row[t.R_TRIES]):
                wait *= floats[t.LF_FACTOR]
            row[t.R_TRIES] += 1
            again = depart + whole(wait)
            if again < horizon:
                ints[t.L_RETRIED] += 1
                push(m, again, order_of(m, slot, step[t.T_RANK] * 2 + 1), slot * t.KINDS + t.STEP)
            return t.GOES_ON
        m.clock[t.C_WHEN] = depart
        return t.LINK_DOWN if cut else t.LINK_LOSS

    key = m.keys[ints[t.L_KEY_LATENCY] * m.clock[t.C_DEVICES] + device]
    arrival = depart + extra + draw(m.floats[ints[t.L_LATENCY]], m.values, key, n)
    if ints[t.L_JITTER] >= 0:
        key = m.keys[ints[t.L_KEY_JITTER] * m.clock[t.C_DEVICES] + device]
        arrival += draw(m.floats[ints[t.L_JITTER]], m.values, key, n)
    row[t.R_TRIES] = 0
    if hop == t.LAST_DOWN:
        limit = spend(m, slot, arrival - air, air, energy + whole(m.floats[pc, t.TF_POWER] * air))
        row[t.R_DOWN] += part_of(size, arrival - air, air, limit)
    following = step[t.T_NEXT]
    row[t.R_PC] = following
    if arrival >= horizon:
        return t.GOES_ON
    ints[t.L_DELIVERED] += 1
    if m.ints[following, t.T_EAGER] == 1:
        m.clock[t.C_WHEN] = arrival
        return t.ANSWERED
    push(m, arrival, order_of(m, slot, m.ints[following, t.T_RANK] * 2 + 1), slot * t.KINDS + t.STEP)
    return t.GOES_ON
