"""Links, nodes and the devices' processors, for all requests of a window at once, in the order in which they arrive.

Busy time, bytes and energy are booked for what comes before the end of the run, as in the kernel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tierwise.sim.kernel import tables as t
from tierwise.sim.numerics import CONSTANT, draw_array, number_of_send, uniform_array
from tierwise.sim.queues import longest_queue, starts_at_each, starts_at_many, starts_at_one
from tierwise.sim.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan

    Whole = NDArray[np.int64]
    Each = NDArray[np.int64] | int
    """One number for each request, or one for all."""

TIME, PC, SENDS = t.R_VISIBLE, t.R_VISIBLE + 1, t.R_VISIBLE + 2  # columns beyond those of the trace


class Stations:
    """All stations of a plan, and when each is free."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.horizon = plan.scenario.run.duration
        self.free_at: dict[int, Whole] = {}
        self.late_starts: dict[int, Whole] = {}

    def send(self, link: int, rows: Rows) -> NDArray[np.bool_]:
        """Rows enter a link: their time becomes that of their arrival, or of the loss. Which are lost."""
        plan = self.plan
        ints, floats = plan.ints[link], plan.floats[link]
        time = rows[TIME]
        air, size = self._parameter(rows, t.T_AIR), self._parameter(rows, t.T_SIZE)
        occupied = air if floats[t.LF_OCCUPY] == 1.0 else rounded(air * floats[t.LF_OCCUPY])
        start = self._starts(link, rows, time, occupied, by_device=bool(ints[t.L_PER_DEVICE]))
        depart = start if isinstance(air, int) and air == 0 else start + air
        spent = self._energy_of_link(rows, air)
        begun: NDArray[np.bool_] | bool = True
        sent, sending = size, spent
        if int(depart.max()) < self.horizon:
            ints[t.L_BUSY] += _total(air, rows.size)
            ints[t.L_WAIT] += int(start.sum() - time.sum()) if start is not time else 0
        else:
            begun = start < self.horizon
            sent, sending = (part_of(amount, start, air, self.horizon) for amount in (size, spent))
            ints[t.L_BUSY] += int((np.minimum(depart, self.horizon) - start)[begun].sum())
            ints[t.L_WAIT] += int((start - time)[begun].sum())
            ints[t.L_UNSENT] += rows.size - int(np.count_nonzero(begun))
        ints[t.L_MESSAGES] += rows.size
        ints[t.L_BYTES] += _total(sent, rows.size)
        hops = np.asarray(self._parameter(rows, t.T_EDGE_OF_DEVICE))
        first, last = hops == t.FIRST_UP, hops == t.LAST_DOWN
        if first.any():
            rows.columns[t.R_SENT] = time if first.all() else np.where(first, time, rows[t.R_SENT])
            self._add(rows, t.R_TX, 1, first & begun)
            self._add(rows, t.R_UP, sent, first)
            self._add(rows, t.R_ENERGY, sending, first)
        n = self._numbers(link, rows)
        arrival = depart + self._propagation(ints[t.L_LATENCY], ints[t.L_KEY_LATENCY], rows, n)
        if ints[t.L_JITTER] >= 0:
            arrival = arrival + self._propagation(ints[t.L_JITTER], ints[t.L_KEY_JITTER], rows, n)
        lost = np.zeros(1, np.bool_)
        if floats[t.LF_LOSS] > 0:
            lost = uniform_array(plan.keys[ints[t.L_KEY_LOSS]][rows[t.R_DEVICE]], n) < floats[t.LF_LOSS]
            ints[t.L_LOST] += int(np.count_nonzero(lost & (depart < self.horizon)))
        arrives = ~lost
        all_in_time = int(arrival.max()) < self.horizon
        if last.any():
            if not all_in_time:
                size, spent = (part_of(amount, arrival - air, air, self.horizon) for amount in (size, spent))
            self._add(rows, t.R_DOWN, size, last & arrives)
            self._add(rows, t.R_ENERGY, spent, last & arrives)
        if all_in_time and arrives.size != rows.size:
            ints[t.L_DELIVERED] += rows.size
        else:
            ints[t.L_DELIVERED] += int(np.count_nonzero(arrives & (arrival < self.horizon)))
        rows.columns[TIME] = np.where(lost, depart, arrival) if floats[t.LF_LOSS] > 0 else arrival
        return lost

    def compute(self, rows: Rows) -> None:
        """Each device's processor."""
        time = rows[TIME]
        service = np.broadcast_to(self._services(rows), (rows.size,))
        start = self._starts(-1, rows, time, service, by_device=True)
        steps = rows.columns[PC]
        fixed = self._parameter(rows, t.T_ENERGY)
        drawn = rounded(self.plan.floats[steps, t.TF_POWER] * service)
        energy: Each = np.where(np.asarray(fixed) >= 0, fixed, drawn)
        runs: Each = 1
        finished = start + service
        if int(finished.max()) >= self.horizon:
            energy = part_of(energy, start, service, self.horizon)
            runs = (start < self.horizon).astype(np.int64)
        rows.columns[t.R_ENERGY] = rows.columns[t.R_ENERGY] + energy
        rows.columns[t.R_RUNS] = rows.columns[t.R_RUNS] + runs
        self._note_service(rows, time, start, finished, -1)

    def serve(self, node: int, rows: Rows) -> None:
        """A node's workers."""
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
        ints[t.N_STARTED] += in_time
        ints[t.N_BATCHES] += in_time
        ints[t.N_LENGTH] += rows.size - in_time
        ints[t.N_WAIT] += int(start[:in_time].sum() - time[:in_time].sum())
        ints[t.N_STRANDED] += (rows.size - in_time) * self.horizon - int(time[in_time:].sum())
        if int(finished.max()) < self.horizon:
            ints[t.N_SERVED] += rows.size
            ints[t.N_BUSY] += _total(service, rows.size)
        else:
            ints[t.N_SERVED] += int(np.count_nonzero(finished < self.horizon))
            ints[t.N_BUSY] += int((np.minimum(finished, self.horizon) - start)[:in_time].sum())
        self._note_service(rows, time, start, finished, node)

    def _numbers(self, link: int, rows: Rows) -> Whole:
        """Which of their random numbers this send has, where the link draws any."""
        ints, sends = self.plan.ints[link], rows.columns[SENDS]
        rows.columns[SENDS] = sends + 1
        constant = self.plan.floats[ints[t.L_LATENCY], 0] == CONSTANT
        draws = not constant or ints[t.L_JITTER] >= 0 or self.plan.floats[link, t.LF_LOSS] > 0
        return number_of_send(rows[t.R_K], sends) if draws else rows[t.R_K]

    def _parameter(self, rows: Rows, column: int) -> Each:
        steps = rows.columns[PC]
        if isinstance(steps, int):
            return int(self.plan.ints[steps, column])
        values = self.plan.ints[steps, column]
        return int(values[0]) if (values == values[0]).all() else values

    def _draw(self, distribution: int, purpose: int, rows: Rows, n: Whole) -> Whole:
        keys = self.plan.keys[purpose][rows[t.R_DEVICE]] if purpose else np.broadcast_to(np.uint64(0), n.shape)
        return draw_array(self.plan.floats[distribution], self.plan.values, keys, n)

    def _propagation(self, distribution: int, purpose: int, rows: Rows, n: Whole) -> Each:
        row = self.plan.floats[distribution]
        return rounded(float(row[1])) if row[0] == CONSTANT else self._draw(distribution, purpose, rows, n)

    def _energy_of_link(self, rows: Rows, air: Each) -> Each:
        return self._parameter(rows, t.T_ENERGY) + rounded(self.plan.floats[rows.columns[PC], t.TF_POWER] * air)

    @staticmethod
    def _add(rows: Rows, index: int, more: Each, where: NDArray[np.bool_]) -> None:
        column = rows.columns[index]
        rows.columns[index] = column + (more if where.all() else np.where(where, more, 0))

    def _starts(self, station: int, rows: Rows, time: Whole, occupied: Each, *, by_device: bool) -> Whole:
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

    def _services(self, rows: Rows) -> Each:
        steps = rows.columns[PC]
        if isinstance(steps, int):
            row = self.plan.floats[self.plan.ints[steps, t.T_DIST]]
            if row[0] == CONSTANT:
                return rounded(float(row[1]))
            distribution, purpose = (int(self.plan.ints[steps, column]) for column in (t.T_DIST, t.T_KEY))
            return self._draw(distribution, purpose, rows, rows[t.R_K])
        service = np.empty(rows.size, np.int64)
        for pc in np.unique(steps):
            here = steps == pc
            service[here] = self._services(Rows(int(here.sum()), [*rows.take(here).columns[:PC], int(pc), 0]))
        return service

    def _note_service(self, rows: Rows, time: Whole, start: Whole, finished: Whole, node: int) -> None:
        rows.columns[t.R_ARRIVED], rows.columns[t.R_STARTED], rows.columns[t.R_FINISHED] = time, start, finished
        rows.columns[t.R_TIER] = self._parameter(rows, t.T_TIER)
        rows.columns[t.R_NODE] = node
        rows.columns[TIME] = finished


def _total(each: Each, count: int) -> int:
    return each * count if isinstance(each, int) else int(each.sum())


def part_of(amount: Each, begin: Whole, length: Each, limit: int) -> Whole:
    """``kernel.requests.part_of`` of each."""
    share = (limit - begin) / np.maximum(length, 1)
    cut = np.where(begin < limit, np.floor(amount * share + 0.5), 0).astype(np.int64)
    return np.where((begin + length <= limit) & (begin < limit), amount, cut)


def rounded(value: float | NDArray[np.float64]) -> Each:
    """The nearest whole number, halves upwards, as the kernel rounds."""
    if np.ndim(value) == 0:
        return math.floor(value + 0.5)
    return np.floor(value + 0.5).astype(np.int64)
