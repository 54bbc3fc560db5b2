"""The vectorised engine: whole windows of requests pass station after station, where none comes back.

Stations are visited in the order of their ranks. All arrivals before the end of a window are known at each of them once
those before have been visited, because time only grows on the way; later ones wait for the next window. The semantics
are the kernel's, and a test holds the two to the same rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tierwise.policy.rules import escalates
from tierwise.scenario.parts import GilbertElliott
from tierwise.scenario.schema import Custom, Expression, External, Fallback, MultiStream, SingleStream
from tierwise.sim.kernel import tables as t
from tierwise.sim.numerics import CONSTANT, draw_array, quantile_array, uniform_array
from tierwise.sim.queues import longest_queue, starts_at_each, starts_at_many, starts_at_one
from tierwise.sim.rows import Rows, joined, order_of
from tierwise.sim.traffic import arrivals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.plan import Plan

_CHUNK = 1 << 17
TIME, PC, SENDS = t.R_VISIBLE, t.R_VISIBLE + 1, t.R_VISIBLE + 2  # columns beyond those of the trace
_SENDS_BITS = 6


def why_not_vectorised(scenario: Scenario) -> list[str]:
    """What in a scenario needs the event engine; nothing where the vectorised one gives the same trace."""
    why = []
    for name, link in scenario.links.items():
        lossy = link.loss != 0
        for found, what in (
            (isinstance(link.loss, GilbertElliott), "bursty loss"),
            (lossy and link.retries is not None and link.retries.max > 0, "retries"),
            (link.queue is not None, "a queue limit"),
            (link.shaper is not None, "a shaper"),
        ):
            if found:
                why.append(f"links.{name}: {what}")
    for name, node in scenario.nodes.items():
        if node.batch is not None and node.batch.max_size > 1:
            why.append(f"nodes.{name}: batching")
        if node.queue is not None:
            why.append(f"nodes.{name}: a queue limit")
    for name, group in scenario.devices.items():
        rule = scenario.rule(name)
        for found, what in (
            (isinstance(scenario.traffic_of(name), SingleStream | MultiStream), "closed-loop traffic"),
            (isinstance(scenario.traffic_of(name), External), "external devices"),
            (group.battery is not None, "a battery"),
            (group.timeout is not None, "a timeout"),
            (isinstance(rule, Fallback | Expression | Custom), "a placement that looks at the state"),
            (getattr(rule, "timeout", None) is not None, "a placement with a timeout"),
        ):
            if found:
                why.append(f"devices.{name}: {what}")
    faults = {fault.fault for fault in scenario.faults} - {"clock_drift"}
    return why + [f"faults: {fault}" for fault in sorted(faults)]


class VectorEngine:
    """Runs a feed-forward plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.horizon = plan.scenario.run.duration
        self.waiting: dict[tuple[int, int], list[Rows]] = {}
        self.done: list[Rows] = []
        self.free_at: dict[int, NDArray[np.int64]] = {}
        self.late_starts: dict[int, NDArray[np.int64]] = {}

    def run(self) -> Iterator[tuple[int, Rows]]:
        """Yields (time ns, finished requests): all that were made before that time have been given then."""
        for end, made in arrivals(self.plan, _CHUNK):
            for group, row in self.plan.groups.items():
                self._enter(made, group, row)
            for station in self._stations():
                parts = self.waiting.pop(station, [])
                if parts:
                    self._visit(station, joined(parts), end)
            done = joined(self.done) if self.done else Rows(0, [0] * t.R_VISIBLE)
            self.done = []
            yield min([end, *(int(rows[t.R_CREATED].min()) for parts in self.waiting.values() for rows in parts)]), done
        for parts in self.waiting.values():
            self._leave(joined(parts), t.IN_FLIGHT)
        if self.done:
            yield self.horizon, joined(self.done)

    def _stations(self) -> list[tuple[int, int]]:
        """(rank, row) of links and nodes, (rank, -1) of the devices' processors, in order."""
        found = set()
        for pc in self.plan.steps:
            op, rank, argument = (int(self.plan.ints[pc, column]) for column in (t.T_OP, t.T_RANK, t.T_ARG))
            if op in {t.LINK, t.NODE, t.DEVICE} and rank > 0:
                found.add((rank, -1 if op == t.DEVICE else argument))
        return sorted(found)

    def _enter(self, made: NDArray[np.int64], group: str, row: int) -> None:
        first = self.plan.first_device[group]
        count = self.plan.scenario.devices[group].count
        if len(self.plan.groups) > 1:
            made = made[(made[:, 1] >= first) & (made[:, 1] < first + count)]
        if not len(made):
            return
        columns: list[NDArray[np.int64] | int] = [0] * (t.R_VISIBLE + 3)
        columns[t.R_DEVICE], columns[t.R_K] = made[:, 1].copy(), made[:, 2].copy()
        columns[t.R_CREATED] = columns[TIME] = made[:, 0].copy()
        for column in (t.R_SENT, t.R_ARRIVED, t.R_STARTED, t.R_FINISHED, t.R_ANSWERED, t.R_TIER, t.R_NODE):
            columns[column] = -1
        self._go_on(Rows(len(made), columns), int(self.plan.ints[row, t.G_ENTRY]))

    def _go_on(self, rows: Rows, pc: int) -> None:
        """Takes rows, all at the same step, to their next stations or their end."""
        if rows.size == 0:
            return
        step = self.plan.ints[pc]
        op = int(step[t.T_OP])
        if op == t.CASCADE:
            unsure = escalates_each(self.plan, rows, pc)
            self._go_on(rows.take(unsure), int(step[t.T_NEXT]))
            self._go_on(rows.take(~unsure), int(step[t.T_ALT]))
        elif op == t.END:
            in_time = rows[TIME] < self.horizon
            if not in_time.all():
                self._leave(rows.take(~in_time), t.IN_FLIGHT)
                rows = rows.take(in_time)
            rows = rows.copy()
            rows.columns[t.R_ANSWERED] = rows.columns[TIME]
            self._leave(rows, t.ANSWERED)
        else:
            rows.columns[PC] = pc
            station = (int(step[t.T_RANK]), -1 if op == t.DEVICE else int(step[t.T_ARG]))
            self.waiting.setdefault(station, []).append(rows)

    def _leave(self, rows: Rows, outcome: int) -> None:
        """Finished rows; what lies beyond the end of the run is not known."""
        if rows.size == 0:
            return
        columns = rows.columns[: t.R_VISIBLE]
        for index in (t.R_SENT, t.R_ARRIVED, t.R_STARTED, t.R_FINISHED):
            column = columns[index]
            if not isinstance(column, int) and int(column.max()) >= self.horizon:
                columns[index] = np.where(column < self.horizon, column, -1)
        finished = columns[t.R_FINISHED]
        if not isinstance(finished, int):
            for index in (t.R_TIER, t.R_NODE):
                if int(finished.min()) < 0:
                    columns[index] = np.where(finished >= 0, rows[index], -1)
        elif finished < 0:
            columns[t.R_TIER] = columns[t.R_NODE] = -1
        columns[t.R_OUTCOME] = outcome
        self.done.append(Rows(rows.size, columns))

    def _visit(self, station: tuple[int, int], rows: Rows, end: int) -> None:
        """Serves what arrives before ``end`` at a station, in order."""
        rows = in_order(rows)
        time = rows[TIME]
        ready = int(np.searchsorted(time, end))
        if ready < rows.size:
            self.waiting[station] = [rows.take(slice(ready, None))]
            rows = rows.take(slice(0, ready))
        if rows.size == 0:
            return
        steps = rows.columns[PC]
        first = steps if isinstance(steps, int) else int(steps[0])
        op = int(self.plan.ints[first, t.T_OP])
        rows = rows.copy()
        lost = None
        if op == t.LINK:
            lost = self._send(station[1], rows)
        elif op == t.DEVICE:
            self._compute(rows)
        else:
            self._serve(station[1], rows)
        if lost is not None and lost.any():
            self._leave(rows.take(lost), t.LINK_LOSS)
            rows = rows.take(~lost)
        if isinstance(steps, int):
            self._go_on(rows, int(self.plan.ints[steps, t.T_NEXT]))
        else:
            here = rows[PC]
            for pc in np.unique(here):
                self._go_on(rows.take(here == pc), int(self.plan.ints[pc, t.T_NEXT]))

    def _parameter(self, rows: Rows, column: int) -> NDArray[np.int64] | int:
        steps = rows.columns[PC]
        if isinstance(steps, int):
            return int(self.plan.ints[steps, column])
        values = self.plan.ints[steps, column]
        return int(values[0]) if (values == values[0]).all() else values

    def _draw(self, distribution: int, purpose: int, rows: Rows, n: NDArray[np.int64]) -> NDArray[np.int64]:
        keys = self.plan.keys[purpose][rows[t.R_DEVICE]] if purpose else np.broadcast_to(np.uint64(0), n.shape)
        return draw_array(self.plan.floats[distribution], self.plan.values, keys, n)

    def _send(self, link: int, rows: Rows) -> NDArray[np.bool_] | None:
        plan = self.plan
        ints, floats = plan.ints[link], plan.floats[link]
        time = rows[TIME]
        air = self._parameter(rows, t.T_AIR)
        size = self._parameter(rows, t.T_SIZE)
        occupied = air
        if floats[t.LF_OCCUPY] != 1.0:
            occupied = (
                whole_number(air * floats[t.LF_OCCUPY])
                if isinstance(air, int)
                else np.floor(air * floats[t.LF_OCCUPY] + 0.5).astype(np.int64)
            )
        start = self._starts(link, rows, time, occupied, by_device=bool(ints[t.L_PER_DEVICE]))
        depart = start if isinstance(air, int) and air == 0 else start + air
        ints[t.L_MESSAGES] += rows.size
        ints[t.L_BYTES] += _total(size, rows.size)
        ints[t.L_BUSY] += _total(air, rows.size)
        ints[t.L_WAIT] += int(start.sum() - time.sum()) if start is not time else 0
        hop = self._parameter(rows, t.T_EDGE_OF_DEVICE)
        hops = np.broadcast_to(np.asarray(hop, np.int64), (rows.size,))
        spent = self._energy_of_link(rows, air)
        if (hops == t.FIRST_UP).any():
            self._note_sending(rows, time, size, spent, hops == t.FIRST_UP)
        n = (rows[t.R_K] << _SENDS_BITS) | rows.columns[SENDS]
        sends = rows.columns[SENDS]
        rows.columns[SENDS] = sends + 1
        lost = None
        if floats[t.LF_LOSS] > 0:
            keys = plan.keys[ints[t.L_KEY_LOSS]][rows[t.R_DEVICE]]
            lost = uniform_array(keys, n) < floats[t.LF_LOSS]
            ints[t.L_LOST] += int(lost.sum())
        ints[t.L_DELIVERED] += rows.size - (0 if lost is None else int(lost.sum()))
        arrival = depart + self._propagation(ints[t.L_LATENCY], ints[t.L_KEY_LATENCY], rows, n)
        if ints[t.L_JITTER] >= 0:
            arrival = arrival + self._propagation(ints[t.L_JITTER], ints[t.L_KEY_JITTER], rows, n)
        if (hops == t.LAST_DOWN).any():
            arrives = (hops == t.LAST_DOWN) if lost is None else (hops == t.LAST_DOWN) & ~lost
            everyone = bool(arrives.all())
            rows.columns[t.R_DOWN] = _plus(rows, t.R_DOWN, size, arrives, everyone=everyone)
            rows.columns[t.R_ENERGY] = _plus(rows, t.R_ENERGY, spent, arrives, everyone=everyone)
        rows.columns[TIME] = arrival
        return lost

    def _propagation(
        self, distribution: int, purpose: int, rows: Rows, n: NDArray[np.int64]
    ) -> NDArray[np.int64] | int:
        row = self.plan.floats[distribution]
        return whole_number(row[1]) if row[0] == CONSTANT else self._draw(distribution, purpose, rows, n)

    def _energy_of_link(self, rows: Rows, air: NDArray[np.int64] | int) -> NDArray[np.int64] | int:
        fixed = self._parameter(rows, t.T_ENERGY)
        steps = rows.columns[PC]
        power = self.plan.floats[steps, t.TF_POWER]
        drawn = np.floor(power * air + 0.5).astype(np.int64)
        total = fixed + drawn
        return int(total) if np.ndim(total) == 0 else np.asarray(total)

    def _note_sending(
        self,
        rows: Rows,
        time: NDArray[np.int64],
        size: NDArray[np.int64] | int,
        spent: NDArray[np.int64] | int,
        sends: NDArray[np.bool_],
    ) -> None:
        everyone = bool(sends.all())
        rows.columns[t.R_SENT] = time if everyone else np.where(sends, time, rows[t.R_SENT])
        rows.columns[t.R_TX] = _plus(rows, t.R_TX, 1, sends, everyone=everyone)
        rows.columns[t.R_UP] = _plus(rows, t.R_UP, size, sends, everyone=everyone)
        rows.columns[t.R_ENERGY] = _plus(rows, t.R_ENERGY, spent, sends, everyone=everyone)

    def _starts(
        self,
        station: int,
        rows: Rows,
        time: NDArray[np.int64],
        occupied: NDArray[np.int64] | int,
        *,
        by_device: bool,
    ) -> NDArray[np.int64]:
        free_at = self.free_at.setdefault(station, np.zeros(len(self.plan.names) if by_device else 1, np.int64))
        if isinstance(occupied, int) and occupied == 0:
            return time
        if by_device:
            start = np.empty(rows.size, np.int64)
            each = np.full(rows.size, occupied, np.int64) if isinstance(occupied, int) else occupied
            starts_at_each(time, rows[t.R_DEVICE], each, free_at, start)
            return start
        start = starts_at_one(time, occupied, int(free_at[0]))
        free_at[0] = start[-1] + (occupied if isinstance(occupied, int) else occupied[-1])
        return start

    def _services(self, rows: Rows) -> NDArray[np.int64] | int:
        steps = rows.columns[PC]
        if isinstance(steps, int):
            row = self.plan.floats[self.plan.ints[steps, t.T_DIST]]
            if row[0] == CONSTANT:
                return whole_number(row[1])
            distribution, purpose = (int(self.plan.ints[steps, column]) for column in (t.T_DIST, t.T_KEY))
            return self._draw(distribution, purpose, rows, rows[t.R_K])
        service = np.empty(rows.size, np.int64)
        for pc in np.unique(steps):
            here = steps == pc
            service[here] = self._services(Rows(int(here.sum()), [*rows.take(here).columns[:PC], int(pc), 0]))
        return service

    def _compute(self, rows: Rows) -> None:
        time = rows[TIME]
        service = np.broadcast_to(self._services(rows), (rows.size,))
        start = self._starts(-1, rows, time, service, by_device=True)
        steps = rows.columns[PC]
        fixed = self._parameter(rows, t.T_ENERGY)
        drawn = np.floor(self.plan.floats[steps, t.TF_POWER] * service + 0.5).astype(np.int64)
        rows.columns[t.R_ENERGY] = rows.columns[t.R_ENERGY] + np.where(np.asarray(fixed) >= 0, fixed, drawn)
        rows.columns[t.R_RUNS] = rows.columns[t.R_RUNS] + 1
        self._note_service(rows, time, start, start + service, -1)

    def _serve(self, node: int, rows: Rows) -> None:
        ints = self.plan.ints[node]
        time = rows[TIME]
        service = self._services(rows)
        workers = int(ints[t.N_WORKERS])
        if workers == 1:
            start = self._starts(node, rows, time, service, by_device=False)
        else:
            free_at = self.free_at.setdefault(node, np.zeros(workers, np.int64))
            start = np.empty(rows.size, np.int64)
            starts_at_many(time, np.broadcast_to(service, (rows.size,)), free_at, start)
        finished = start + service
        late = self.late_starts.get(node, start[:0])
        started = np.concatenate([late, start]) if len(late) else start
        ints[t.N_LONGEST] = max(int(ints[t.N_LONGEST]), longest_queue(time, started))
        self.late_starts[node] = started[np.searchsorted(started, time[-1], side="right") :]
        in_time = int(np.searchsorted(start, self.horizon))  # starts are in order
        ints[t.N_OFFERED] += rows.size
        ints[t.N_BATCHES] += in_time
        ints[t.N_SERVED] += int(np.count_nonzero(finished < self.horizon))
        ints[t.N_BUSY] += service * in_time if isinstance(service, int) else int(service[:in_time].sum())
        ints[t.N_WAIT] += int(start[:in_time].sum() - time[:in_time].sum())
        self._note_service(rows, time, start, finished, node)

    def _note_service(
        self, rows: Rows, time: NDArray[np.int64], start: NDArray[np.int64], finished: NDArray[np.int64], node: int
    ) -> None:
        rows.columns[t.R_ARRIVED], rows.columns[t.R_STARTED], rows.columns[t.R_FINISHED] = time, start, finished
        rows.columns[t.R_TIER] = self._parameter(rows, t.T_TIER)
        rows.columns[t.R_NODE] = node
        rows.columns[TIME] = finished


def _total(each: NDArray[np.int64] | int, count: int) -> int:
    return each * count if isinstance(each, int) else int(each.sum())


def _plus(
    rows: Rows, index: int, more: NDArray[np.int64] | int, where: NDArray[np.bool_], *, everyone: bool
) -> NDArray[np.int64] | int:
    column = rows.columns[index]
    if everyone:
        return column + more
    return column + np.where(where, more, 0)


def whole_number(value: float) -> int:
    """The nearest whole number, as the kernel rounds."""
    return math.floor(value + 0.5)


def in_order(rows: Rows) -> Rows:
    """Rows by (time, device, number)."""
    order = order_of(rows[TIME], rows[t.R_DEVICE], rows[t.R_K])
    return rows if order is None else rows.take(order)


def escalates_each(plan: Plan, rows: Rows, pc: int) -> NDArray[np.bool_]:
    """Which answers are too unsure to be kept."""
    step = plan.ints[pc]
    device, k = rows[t.R_DEVICE], rows[t.R_K]
    if step[t.T_CONFIDENCES] >= 0:
        sample = (uniform_array(plan.keys[step[t.T_KEY_SAMPLE]][device], k) * step[t.T_SAMPLES]).astype(np.int64)
        confidence = plan.values[step[t.T_CONFIDENCES] + sample]
    else:
        u = uniform_array(plan.keys[step[t.T_KEY_CONFIDENCE]][device], k)
        confidence = quantile_array(plan.floats[step[t.T_RIGHT]], plan.values, u)
        if step[t.T_RIGHT] != step[t.T_WRONG]:
            right = uniform_array(plan.keys[step[t.T_KEY_ANSWER]][device], k) < plan.floats[pc, t.TF_ACCURACY]
            confidence = np.where(right, confidence, quantile_array(plan.floats[step[t.T_WRONG]], plan.values, u))
    return escalates(confidence, plan.floats[pc, t.TF_THRESHOLD])  # type: ignore[return-value]  # elementwise
