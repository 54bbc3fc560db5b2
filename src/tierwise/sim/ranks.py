"""In which order the stations of a scenario come: sources before what they feed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierwise.core.errors import ConfigurationError
from tierwise.sim.kernel import tables as t

if TYPE_CHECKING:
    from tierwise.sim.tables import Tables

Station = tuple[str, int]
SOURCE: Station = ("source", 0)


def rank_steps(tables: Tables, steps: range, entries: list[int]) -> bool:
    """Writes rank and inline flag of each step. True where requests can come back to a station.

    The rank is the place in a topological order; with loops the rest follows as first met. A station that one other
    feeds needs no event of its own to be entered (``T_INLINE``).
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
    if len(order) >= t.LAST_RANK:
        what = f"{len(order)} links, nodes and decisions; the simulator takes at most {t.LAST_RANK - 1}"
        raise ConfigurationError(what)
    rank = {station: number for number, station in enumerate(order)}
    for pc in steps:
        if (where := _station(tables, pc)) is not None and where in rank:
            tables.set(pc, {t.T_RANK: rank[where], t.T_INLINE: len(fed_by[where]) == 1})
    # A rule's detour on a deadline reaches its stations out of turn.
    return loops or any(tables.ints[pc][t.T_OP] == t.ARM for _, pc in seen)


def _station(tables: Tables, pc: int) -> Station | None:
    op = tables.ints[pc][t.T_OP]
    if op == t.DEVICE:
        return "device", 0
    if op in {t.LINK, t.NODE}:
        return "row", tables.ints[pc][t.T_ARG]
    return ("step", pc) if op in {t.ASK, t.END} else None


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
    order: list[Station] = []
    waiting = dict(fed_by)
    loops = False
    while waiting:
        placed = set(order)
        ready = next((station for station, sources in waiting.items() if sources <= placed | {station}), None)
        if ready is None:
            loops = True
            ready = next(iter(waiting))
        loops = loops or ready in waiting[ready]
        order.append(ready)
        del waiting[ready]
    return order, loops


def eager_ends(tables: Tables, steps: range, groups: set[int], group_column: int) -> None:
    """Marks the ends of groups for which nothing depends on when an answer arrives: they need no event."""
    for pc in steps:
        if tables.ints[pc][t.T_OP] == t.END and tables.ints[pc][group_column] in groups:
            tables.set(pc, {t.T_EAGER: 1})
