"""The event engine: feeds the kernel with arrivals, takes out what is finished, answers when a policy is asked."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tierwise.core.errors import ConfigurationError
from tierwise.sim.compiled import COMPILES, undispatched
from tierwise.sim.decide import GIVE_UP
from tierwise.sim.kernel import tables as t
from tierwise.sim.kernel.heap import push
from tierwise.sim.kernel.loop import run
from tierwise.sim.kernel.nodes import strand
from tierwise.sim.kernel.requests import conclude, report
from tierwise.sim.ranks import order_shifts
from tierwise.sim.rows import Rows, from_matrix, joined
from tierwise.sim.traffic import arrivals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan

_CHUNK = 100_000
_FIRST_SLOTS = 4096


def new_machine(plan: Plan) -> t.Machine:
    """The kernel's state before anything happened."""
    clock = np.zeros(t.C_SIZE, np.int64)
    clock[t.C_HORIZON] = plan.scenario.run.duration
    clock[t.C_DEVICES] = len(plan.names)
    clock[t.C_STATION_KEYS] = plan.keys.size
    clock[t.C_FREE] = -1
    clock[t.C_RANK_SHIFT], clock[t.C_DEVICE_SHIFT] = order_shifts(plan.ranks, len(plan.names))
    clock[t.C_TIMER_RANK] = 2 * plan.ranks
    bursts = [int(plan.ints[row, t.G_BURST]) for row in plan.groups.values()]
    batches = [int(plan.ints[row, t.N_MAX_BATCH]) for row in plan.nodes.values()]
    clock[t.C_RESERVE] = 8 + 2 * max([1, *bursts, *batches])
    machine = t.Machine(
        clock=clock,
        arrivals=np.empty((0, 4), np.int64),
        heap=np.empty((_FIRST_SLOTS, 3), np.int64),
        requests=np.empty((0, t.R_SIZE), np.int64),
        done=np.empty((_FIRST_SLOTS, t.R_VISIBLE), np.int64),
        ints=plan.ints,
        floats=plan.floats,
        stations=np.zeros((plan.stations, t.S_SIZE), np.int64),
        devices=plan.devices,
        keys=np.concatenate([plan.keys.reshape(-1), plan.station_keys]),
        values=plan.values,
        rings=np.zeros(plan.ring_size, np.int64),
    )
    machine = more_requests(machine, _FIRST_SLOTS)
    for number, (time, kind, node) in enumerate(plan.outages):
        push(machine, time, number - len(plan.outages), node * t.KINDS + kind)  # before all else, in their order
    return machine


def more_requests(machine: t.Machine, slots: int) -> t.Machine:
    """The same state with room for ``slots`` requests under way."""
    old = machine.requests
    requests = np.zeros((slots, t.R_SIZE), np.int64)
    requests[: len(old)] = old
    requests[len(old) :, t.R_DEVICE] = -1
    requests[len(old) :, t.R_NEXT] = np.arange(len(old) + 1, slots + 1)
    requests[-1, t.R_NEXT] = machine.clock[t.C_FREE]
    machine.clock[t.C_FREE] = len(old)
    return machine._replace(requests=requests)


def with_bytes(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Arrivals with their fourth column, 0 where they have none."""
    if rows.shape[1] == 4:  # noqa: PLR2004 -- created, device, k, bytes
        return rows
    wide = np.zeros((len(rows), 4), np.int64)
    wide[:, :3] = rows
    return wide


class Unseen(NamedTuple):
    """What a run comes to beside its rows."""

    not_made: int = 0
    """Requests that devices without energy did not make."""
    ghost_nj: int = 0
    """What requests cost their devices after they had been given up."""


class EventEngine:
    """Runs a plan event by event. ``decide`` chooses the next step of the request in ``C_ASKED``."""

    def __init__(self, plan: Plan, decide: Callable[[t.Machine], int] | None = None) -> None:
        self.plan = plan
        self.machine = new_machine(plan)
        self._decide = decide
        self._loops = np.flatnonzero(plan.ints[plan.group_of, t.G_CLOSED])

    def run(self) -> Iterator[tuple[int, Rows]]:
        """Yields (time ns, finished requests): all that were made before that time have been given then."""
        for end, rows in arrivals(self.plan, _CHUNK):
            self.feed(rows)
            yield from self.advance(end)
            yield self.settled(end), self.drain()
        yield self.plan.scenario.run.duration, self.under_way()

    def settled(self, now: int) -> int:
        """No request that was made before this time is under way."""
        if not self.machine.clock[t.C_IN_USE]:
            return now
        requests = self.machine.requests
        created = requests[(requests[:, t.R_DEVICE] >= 0) & (requests[:, t.R_STATE] != t.GHOST), t.R_CREATED]
        return min(now, int(created.min())) if len(created) else now

    def feed(self, rows: NDArray[np.int64]) -> None:
        """Adds arrivals (created ns, device, k and where stated bytes), all later than those given before."""
        if not len(rows):
            return
        machine = self.machine
        rows = with_bytes(rows)
        self._check_numbers(int(rows[:, 2].max()))
        waiting = machine.arrivals[machine.clock[t.C_POSITION] :]
        self.machine = machine._replace(arrivals=np.concatenate([waiting, rows]))
        self.machine.clock[t.C_POSITION] = 0
        self.machine.clock[t.C_ARRIVALS] = len(self.machine.arrivals)

    def advance(self, end: int) -> Iterator[tuple[int, Rows]]:
        """Handles everything before ``end``, making room and decisions where the kernel asks for them."""
        decided = -1
        go_on = run
        while True:
            why = go_on(self.machine, end, decided) if COMPILES else self._interpreted(end, decided)
            decided = -1
            if why == t.FINISHED:
                if self._loops.size:
                    self._check_numbers(int(self.machine.devices[self._loops, t.D_NEXT_K].max()))
                return
            if why == t.ASKED:
                decided = self._decided()
                go_on = undispatched(run) if go_on is run else go_on
                continue
            go_on = run
            if why == t.DRAIN:
                yield self.settled(int(self.machine.clock[t.C_NOW])), self._make_room()
            else:
                self._grow(why)

    def drain(self) -> Rows:
        """Takes out what is finished."""
        return _drained(self.machine)

    def under_way(self) -> Rows:
        """What the end of the run cuts off."""
        for node in self.plan.nodes.values():
            strand(self.machine, node, int(self.machine.clock[t.C_HORIZON]))
        return _under_way(self.machine)

    def unseen(self) -> Unseen:
        """What the rows do not show."""
        clock = self.machine.clock
        return Unseen(not_made=int(clock[t.C_NOT_MADE]), ghost_nj=int(clock[t.C_GHOST_NJ]))

    def _check_numbers(self, k: int) -> None:
        most = 1 << int(self.machine.clock[t.C_DEVICE_SHIFT])
        if k >= most:
            raise ConfigurationError(f"a device makes more than {most} requests, beside so many links and devices")

    def _interpreted(self, end: int, decided: int) -> int:
        with np.errstate(over="ignore"):  # hashing wraps around
            return run(self.machine, end, decided)

    def _decided(self) -> int:
        """The step at which the request in ``C_ASKED`` goes on, or -1 where its policy gives it up."""
        if self._decide is None:
            raise ConfigurationError("this scenario needs a policy, and none was given")
        with contextlib.nullcontext() if COMPILES else np.errstate(over="ignore"):  # hashing wraps around
            step = self._decide(self.machine)
        if step != GIVE_UP:
            return step
        clock = self.machine.clock
        conclude(self.machine, int(clock[t.C_ASKED]), t.TIMEOUT, int(clock[t.C_NOW]))
        return -1

    def _grow(self, why: int) -> None:
        machine = self.machine
        if why == t.GROW_REQUESTS:
            self.machine = more_requests(machine, 2 * len(machine.requests))
        elif why == t.GROW_HEAP:
            self.machine = machine._replace(heap=np.concatenate([machine.heap, np.empty_like(machine.heap)]))

    def _make_room(self) -> Rows:
        rows = _drained(self.machine)
        room = 4 * int(self.machine.clock[t.C_IN_USE] + self.machine.clock[t.C_RESERVE])
        if len(self.machine.done) < room:
            self.machine = self.machine._replace(done=np.empty((room, t.R_VISIBLE), np.int64))
        return rows


def _drained(machine: t.Machine) -> Rows:
    rows = from_matrix(machine.done[: machine.clock[t.C_DONE]])
    machine.clock[t.C_DONE] = 0
    return rows


def _under_way(machine: t.Machine) -> Rows:
    """Rows of the requests that the end of the run cut off."""
    parts = []
    requests = machine.requests
    horizon = int(machine.clock[t.C_HORIZON])
    in_use = requests[:, t.R_DEVICE] >= 0
    # Their turn at a sender or processor would come after the end, and their devices are out of energy before it.
    stuck = in_use & (requests[:, t.R_TURN] >= 0) & (machine.devices[requests[:, t.R_DEVICE], t.D_DEAD] < horizon)
    for pc in requests[stuck, t.R_PC]:
        if machine.ints[pc, t.T_OP] == t.LINK:
            machine.ints[machine.ints[pc, t.T_ARG], t.L_CUT] += 1
    for slot in np.flatnonzero(in_use & (requests[:, t.R_STATE] != t.GHOST)):
        if machine.clock[t.C_DONE] == len(machine.done):
            parts.append(_drained(machine))
        report(machine, int(slot), t.BATTERY if stuck[slot] else t.IN_FLIGHT, horizon)
    return joined([*parts, _drained(machine)])
