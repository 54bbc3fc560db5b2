"""In which order the stations of a scenario come: sources before what they feed."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from tierwise.core.errors import ConfigurationError
from tierwise.sim.kernel import tables as t
from tierwise.sim.numerics import EMPIRICAL, LEAST_AND_MOST, quantile_array, whole

if TYPE_CHECKING:
    from tierwise.sim.tables import Tables

Station = tuple[str, int]
SOURCE: Station = ("source", 0)


def rank_steps(tables: Tables, steps: range, entries: list[int]) -> tuple[int, bool]:
    """Writes rank and inline flag of each step; (how many ranks, whether requests can come back to a station).

    The rank is the place in a topological order; with loops the rest follows as first met. A station that one other
    feeds in order needs no event of its own to be entered (``T_INLINE``).
    """
    fed_by: dict[Station, set[Station]] = {SOURCE: set()}
    seen: set[tuple[Station, int]] = set()
    stack = [(SOURCE, entry) for entry in reversed(entries)]
    while stack:
        source, pc = stack.pop()
        if (source, pc) in seen or pc < 0:
            continue
        seen.add((source, pc))
        station = _station(tables, pc)
        if station is not None:
            fed_by.setdefault(station, set()).add(source)
            source = station
        stack += [(source, following) for following in reversed(_followers(tables, pc))]
    order, loops = _sorted(fed_by)
    rank = {station: number for number, station in enumerate(order)}
    unordered = _out_of_order(tables, steps)
    for pc in steps:
        if (where := _station(tables, pc)) is not None and where in rank:
            sources = fed_by[where]
            inline = len(sources) == 1 and sources.isdisjoint(unordered) and not _comes_again(tables, pc)
            tables.set(pc, {t.T_RANK: rank[where], t.T_INLINE: inline})
    # A rule's detour on a deadline reaches its stations out of turn.
    return len(order), loops or any(tables.ints[pc][t.T_OP] == t.ARM for _, pc in seen)


def order_shifts(ranks: int, devices: int) -> tuple[int, int]:
    """How far the rank and the device are shifted in the order of events of one instant.

    Each rank has a place for completions and one for arrivals; after them come the deadlines by level, the batches that
    have waited long enough, and the inferences whose turn it is on a device. Raises ``ConfigurationError`` where too
    little is left for the numbers of requests.
    """
    rank_bits = (2 * ranks + t.LEVELS + 1).bit_length()
    device_bits = max(1, (devices - 1).bit_length())
    k_bits = t.ORDER_BITS - rank_bits - device_bits
    if k_bits < t.LEAST_K_BITS:
        what = f"{devices} devices and {ranks} links, nodes and decisions are too many together"
        raise ConfigurationError(f"{what}; groups whose links are equal can share one link")
    return k_bits + device_bits, k_bits


def _out_of_order(tables: Tables, steps: range) -> set[Station]:
    """Nodes that may finish requests of one instant in another order than theirs.

    A service of no length ends at the instant at which another's end has made room for it. Where all have some length,
    or none has, ends come in order. Members of a batch go on together, as they stood in the queue.
    """
    least: dict[Station, list[int]] = {}
    most: dict[Station, list[int]] = {}
    for pc in steps:
        if tables.ints[pc][t.T_OP] == t.NODE and tables.ints[tables.ints[pc][t.T_ARG]][t.N_MAX_BATCH] <= 1:
            shortest, longest = _bounds(tables, tables.ints[pc][t.T_DIST])
            least.setdefault(("row", tables.ints[pc][t.T_ARG]), []).append(shortest)
            most.setdefault(("row", tables.ints[pc][t.T_ARG]), []).append(longest)
    return {node for node in least if min(least[node]) == 0 < max(most[node])}


def _comes_again(tables: Tables, pc: int) -> bool:
    """Whether a message may enter its link again, in the instant at which another one comes to it."""
    step = tables.ints[pc]
    return step[t.T_OP] == t.LINK and tables.ints[step[t.T_ARG]][t.L_RETRIES] > 0


def _bounds(tables: Tables, row: int) -> tuple[int, int]:
    """The shortest and the longest duration that a distribution gives, whole nanoseconds."""
    floats = np.array(tables.floats[row])
    u = LEAST_AND_MOST
    if floats[0] == EMPIRICAL:
        u = (np.arange(int(floats[4])) + 0.5) / floats[4]
    values = quantile_array(floats, np.array(tables.values), u)
    return whole(float(values.min())), whole(float(values.max()))


def _station(tables: Tables, pc: int) -> Station | None:
    op = tables.ints[pc][t.T_OP]
    if op == t.DEVICE:
        return "device", 0
    if op in {t.LINK, t.NODE}:
        return "row", tables.ints[pc][t.T_ARG]
    if op == t.END:
        return "end", 0
    return ("step", pc) if op == t.ASK else None


def _followers(tables: Tables, pc: int) -> list[int]:
    step = tables.ints[pc]
    op = step[t.T_OP]
    if op == t.END:
        return []
    if op == t.ASK:
        return [
            following for following in (*step[t.T_ASK_DEVICE : t.T_ASK_CLOUD + 1], step[t.T_NEXT]) if following >= 0
        ]
    return [step[t.T_NEXT], step[t.T_ALT]] if op in {t.CASCADE, t.ARM} and step[t.T_ALT] else [step[t.T_NEXT]]


def _sorted(fed_by: dict[Station, set[Station]]) -> tuple[list[Station], bool]:
    """Kahn's algorithm, earliest met first; (order, whether there is a loop)."""
    stations = list(fed_by)
    number = {station: index for index, station in enumerate(stations)}
    missing = [len(fed_by[station] - {station}) for station in stations]
    feeds: list[list[int]] = [[] for _ in stations]
    for station, sources in fed_by.items():
        for source in sources - {station}:
            feeds[number[source]].append(number[station])
    ready = [index for index, count in enumerate(missing) if count == 0]
    placed = [False] * len(stations)
    order: list[Station] = []
    loops = any(station in sources for station, sources in fed_by.items())
    earliest = 0
    while len(order) < len(stations):
        while earliest < len(stations) and placed[earliest]:
            earliest += 1
        loops = loops or not ready
        here = heappop(ready) if ready else earliest
        if placed[here]:  # it was placed to break a loop
            continue
        placed[here] = True
        order.append(stations[here])
        for following in feeds[here]:
            missing[following] -= 1
            if missing[following] == 0:
                heappush(ready, following)
    return order, loops


def eager_ends(tables: Tables, steps: range, groups: set[int], group_column: int) -> None:
    """Marks the ends of groups for which nothing depends on when an answer arrives: they need no event."""
    for pc in steps:
        if tables.ints[pc][t.T_OP] == t.END and tables.ints[pc][group_column] in groups:
            tables.set(pc, {t.T_EAGER: 1})
