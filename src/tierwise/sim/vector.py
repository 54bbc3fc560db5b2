"""The vectorised engine: whole windows of requests pass station after station, where none comes back.

Stations are visited in the order of their ranks. All arrivals before the end of a window are known at each of them once
those before have been visited, because time only grows on the way; later ones wait for the next window. The semantics
are the kernel's, and a test holds the two to the same rows and the same summaries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tierwise.policy.rules import escalates
from tierwise.scenario.parts import GilbertElliott
from tierwise.scenario.schema import Custom, Expression, External, Fallback, MultiStream, SingleStream
from tierwise.sim.kernel import tables as t
from tierwise.sim.numerics import quantile_array, uniform_array
from tierwise.sim.rows import Rows, joined, order_of
from tierwise.sim.stations import PC, TIME, Stations
from tierwise.sim.traffic import arrivals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.plan import Plan

_CHUNK = 1 << 17


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
        self.stations = Stations(plan)

    def run(self) -> Iterator[tuple[int, Rows]]:
        """Yields (time ns, finished requests): all that were made before that time have been given then."""
        order = self._in_order_of_rank()
        for end, made in arrivals(self.plan, _CHUNK):
            self._enter(made)
            for station in order:
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

    def _in_order_of_rank(self) -> list[tuple[int, int]]:
        """(rank, row) of links and nodes, (rank, -1) of the devices' processors, in order."""
        found = set()
        for pc in self.plan.steps:
            op, rank, argument = (int(self.plan.ints[pc, column]) for column in (t.T_OP, t.T_RANK, t.T_ARG))
            if op in {t.LINK, t.NODE, t.DEVICE} and rank > 0:
                found.add((rank, -1 if op == t.DEVICE else argument))
        return sorted(found)

    def _enter(self, made: NDArray[np.int64]) -> None:
        """Starts new requests on their groups' ways."""
        if not len(made):
            return
        rows = list(self.plan.groups.values())
        parts = [made]
        if len(rows) > 1:
            group = self.plan.group_of[made[:, 1]]
            by_group = np.argsort(group, kind="stable")
            parts = np.split(made[by_group], np.searchsorted(group[by_group], rows[1:]))
        for row, part in zip(rows, parts, strict=True):
            columns: list[NDArray[np.int64] | int] = [0] * (t.R_VISIBLE + 3)
            columns[t.R_DEVICE], columns[t.R_K] = part[:, 1].copy(), part[:, 2].copy()
            columns[t.R_CREATED] = columns[TIME] = part[:, 0].copy()
            for column in (t.R_SENT, t.R_ARRIVED, t.R_STARTED, t.R_FINISHED, t.R_ANSWERED, t.R_TIER, t.R_NODE):
                columns[column] = -1
            self._go_on(Rows(len(part), columns), int(self.plan.ints[row, t.G_ENTRY]))

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
        if op == t.LINK:
            lost = self.stations.send(station[1], rows)
            if lost.any():
                known = lost & (rows[TIME] < self.horizon)
                self._leave(rows.take(known), t.LINK_LOSS)
                self._leave(rows.take(lost & ~known), t.IN_FLIGHT)
                rows = rows.take(~lost)
        elif op == t.DEVICE:
            self.stations.compute(rows)
        else:
            self.stations.serve(station[1], rows)
        if isinstance(steps, int):
            self._go_on(rows, int(self.plan.ints[steps, t.T_NEXT]))
        else:
            here = rows[PC]
            for pc in np.unique(here):
                self._go_on(rows.take(here == pc), int(self.plan.ints[pc, t.T_NEXT]))


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
