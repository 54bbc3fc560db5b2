"""Real code in the loop: external devices advance in lockstep with the event engine.

All devices go first, then the engine. A device may go ahead to the instant before which no answer can reach it that is
not known yet: an answer still to be sent needs at least the last link's latency from the engine's next event on, and an
answer to what a device sends meanwhile needs both ways' latency.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import ConfigurationError
from tierwise.scenario.checks import tiers_of
from tierwise.scenario.schema import External
from tierwise.scenario.topology import route
from tierwise.sim.children import Children
from tierwise.sim.event import EventEngine, with_bytes
from tierwise.sim.kernel.tables import (
    ANSWERED,
    C_HEAP,
    NEVER,
    OUTCOMES,
    R_ANSWERED,
    R_CREATED,
    R_DEVICE,
    R_K,
    R_OUTCOME,
    R_TIER,
)
from tierwise.sim.peers import Event, Peer
from tierwise.sim.programs import TIER_CODES
from tierwise.sim.traffic import arrivals, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.kernel.tables import Machine
    from tierwise.sim.plan import Plan
    from tierwise.sim.rows import Rows

_US = 1000
_WINDOW = 100_000
_TIERS = tuple(TIER_CODES)
_NONE = np.empty((0, 3), np.int64)


def external_groups(scenario: Scenario) -> dict[str, External]:
    """Groups whose devices are programs of their own."""
    patterns = {name: scenario.traffic_of(name) for name in scenario.devices}
    return {name: pattern for name, pattern in patterns.items() if isinstance(pattern, External)}


def lookahead_ns(scenario: Scenario, group: str) -> tuple[int, int]:
    """Least latency of the last link to the group's devices, and of the shortest way to a node and back.

    Raises ``ConfigurationError`` where it is below a microsecond: there is no step in which nothing can happen.
    """
    last, both = NEVER, NEVER
    for tier in tiers_of(scenario.rule(group)):
        way = None if tier == "device" else route(scenario, group, tier)
        if way is None:
            raise ConfigurationError(
                f"external devices ({group}) compute for themselves; their placement is edge or cloud"
            )
        least = [int(scenario.links[name].latency.minimum) for name in way[0]]
        last, both = min(last, least[0]), min(both, 2 * sum(least))
    if last < _US:
        raise ConfigurationError(f"the links of {group!r} have no least latency, so external devices cannot step ahead")
    return last, both


class LockstepEngine:
    """The event engine with external devices."""

    def __init__(self, plan: Plan, decide: Callable[[Machine], int] | None = None) -> None:
        self.plan = plan
        self.events = EventEngine(plan, decide)
        self.groups = external_groups(plan.scenario)
        ahead = [lookahead_ns(plan.scenario, name) for name in self.groups]
        self.last_link = min(last for last, _ in ahead)
        self.both_ways = min(both for _, both in ahead)
        self.step = min((group.step or NEVER for group in self.groups.values()), default=NEVER)
        self.steps = 0
        self._numbers: dict[int, int] = {}
        self._inbox: dict[int, list[Event]] = {}
        self._held: list[tuple[int, int, int, int]] = []

    def run(self) -> Iterator[tuple[int, Rows]]:
        """Yields (time ns, finished requests). Nodes are started before and ended after, whatever happens."""
        duration = self.plan.scenario.run.duration
        with ExitStack() as stack:
            peers = self._open(stack)
            modelled = _Modelled(self.plan)
            now = 0
            while now < duration:
                until = min(duration, self._safe(now, modelled))
                sent = self._advance_peers(peers, now, until)
                own = modelled.before(until)
                if len(own) or len(sent):
                    self.events.feed(in_order(np.concatenate([with_bytes(own), sent])))
                for settled, rows in self.events.advance(until):
                    self._deliver(rows)
                    yield settled, rows
                rows = self.events.drain()
                if rows.size:
                    self._deliver(rows)
                    yield self.events.settled(until), rows
                now = until
                self.steps += 1
        yield duration, self.events.under_way()

    def _open(self, stack: ExitStack) -> dict[int, Peer]:
        peers = {}
        children = stack.enter_context(Children())
        for group_name, group in self.groups.items():
            first = self.plan.first_device[group_name]
            for index in range(self.plan.scenario.devices[group_name].count):
                device = first + index
                address = group.address[index] if group.address else ""
                name, timeout_s = self.plan.names[device], group.timeout / 1e9
                if group.command:
                    peer = Peer.started(name, timeout_s, group.command, children)
                else:
                    peer = Peer.reached(name, timeout_s, address, stack)
                stack.callback(peer.shutdown)
                peers[device] = peer
                self._numbers[device] = 0
        for device, peer in peers.items():
            config: dict[str, Any] = {"seed": self.plan.seed, **self.groups[self._group(device)].config}
            peer.init(config)
        return peers

    def _group(self, device: int) -> str:
        row = int(self.plan.group_of[device])
        return next(name for name, own in self.plan.groups.items() if own == row)

    def _safe(self, now: int, modelled: _Modelled) -> int:
        """The instant to which all may go, whole microseconds."""
        machine = self.events.machine
        upcoming = int(machine.heap[0, 0]) if machine.clock[C_HEAP] else NEVER
        upcoming = max(now, min(upcoming, modelled.first()))
        ahead = min(upcoming + self.last_link, now + self.both_ways, now + self.step)
        return max(now + _US, ahead // _US * _US)

    def _advance_peers(self, peers: dict[int, Peer], now: int, until: int) -> NDArray[np.int64]:
        for device, peer in peers.items():
            due = []
            if waiting := self._inbox.get(device):
                due = sorted((event for event in waiting if event.time_us * _US < until), key=_time)
                self._inbox[device] = [event for event in waiting if event.time_us * _US >= until]
            peer.advance(until // _US, due)
        made = []
        for device, peer in peers.items():
            for event in peer.done(now // _US, until // _US):
                made.append((event.time_us * _US, device, self._numbers[device], event.size_bytes))
                self._numbers[device] += 1
        # What is sent at the very end of the advance belongs to the next.
        made += self._held
        self._held = [row for row in made if row[0] >= until]
        return np.array([row for row in made if row[0] < until], np.int64).reshape(-1, 4)

    def _deliver(self, rows: Rows) -> None:
        """Puts answers into the inboxes of the devices that they reach."""
        if not rows.size:
            return
        ours = np.isin(rows[R_DEVICE], list(self._numbers)) & (rows[R_OUTCOME] == ANSWERED)
        for index in np.flatnonzero(ours).tolist():
            device = int(rows[R_DEVICE][index])
            tier = _TIERS[int(rows[R_TIER][index])]
            answered = int(rows[R_ANSWERED][index])
            payload = {
                "request": int(rows[R_K][index]),
                "created_us": int(rows[R_CREATED][index]) // _US,
                "tier": tier,
                "outcome": OUTCOMES[ANSWERED],
            }
            self._inbox.setdefault(device, []).append(
                Event(
                    time_us=-(-answered // _US),  # never before it arrives
                    type="inference_result",
                    src=tier,
                    dst=self.plan.names[device],
                    payload=payload,
                    size_bytes=self.plan.scenario.devices[self._group(device)].answer,
                )
            )


def _time(event: Event) -> int:
    return event.time_us


class _Modelled:
    """Arrivals of the modelled devices, looked at ahead of time."""

    def __init__(self, plan: Plan) -> None:
        self._windows = arrivals(plan, _WINDOW)
        self._parts: deque[NDArray[np.int64]] = deque()
        self._known = 0

    def first(self) -> int:
        """When the next one is made."""
        while not self._parts:
            window = next(self._windows, None)
            if window is None:
                return NEVER
            self._known, rows = window
            if len(rows):
                self._parts.append(rows)
        return int(self._parts[0][0, 0])

    def before(self, end: int) -> NDArray[np.int64]:
        """Those before ``end`` that were not given yet."""
        found = [_NONE]
        while self.first() < end:
            rows = self._parts.popleft()
            ready = int(np.searchsorted(rows[:, 0], end))
            found.append(rows[:ready])
            if ready < len(rows):
                self._parts.appendleft(rows[ready:])
        return found[0] if len(found) == 1 else np.concatenate(found)
