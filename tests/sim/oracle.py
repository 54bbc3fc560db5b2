"""A second simulator, slow and plain, for small scenarios with faults and batteries: what ``docs/simulator.md`` says.

It was written from the documentation alone and shares no line with the engines: real queues instead of busy-until
times, callbacks on one heap instead of tables, a battery that is asked before each piece of work. All times are whole
nanoseconds, energies whole nanojoules (a watt is a nanojoule a nanosecond), so that equal means equal.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Then = Callable[["Attempt", int], None]
    Window = tuple[int, int]

NEVER = 1 << 62
FAULTS, MADE, PROCESSOR, UP, EDGE, WAN_UP, CLOUD, WAN_DOWN, DOWN, DEADLINES = range(0, 100, 10)
"""Ranks: what happens at one instant happens upstream first, and deadlines come last."""
BEFORE = -1
"""What ends at a station comes before what begins there."""


@dataclass(frozen=True)
class Wire:
    """A link, both ways. ``air`` and ``air_down`` are nanoseconds of a message on the air."""

    air: int = 0
    air_down: int = 0
    latency: int = 0
    queue: int | None = None
    tries: int = 1
    backoff: int = 0
    factor: int = 1
    silence: int = 1
    """A sender is silent until this many times its time on the air has passed: 1 / duty cycle."""
    shared: bool = True
    outages: Sequence[Window] = ()
    degraded: Sequence[Window] = ()
    degraded_slower: int = 1
    degraded_later: int = 0


@dataclass(frozen=True)
class Server:
    """A node."""

    service: int = 0
    workers: int = 1
    queue: int | None = None
    batch: int = 1
    batch_wait: int = 0
    marginal_percent: int = 0
    outages: Sequence[Window] = ()
    restarts: Sequence[Window] = ()


@dataclass(frozen=True)
class Power:
    """A device's: watts, nanojoules; ``capacity`` in nanojoules, ``None`` unlimited."""

    capacity: int | None = None
    idle: int = 0
    sending: int = 0
    """While on the air."""
    a_message: int = 0
    an_inference: int = 0
    an_answer: int = 0
    silent_at: int = NEVER
    """When all devices go silent, whatever their batteries hold."""


@dataclass(frozen=True)
class Fleet:
    """A scenario: ``made[d]`` are the instants at which device ``d`` makes its requests."""

    made: Sequence[Sequence[int]]
    end: int
    placement: str
    """``device``, ``edge``, ``cloud``, ``cascade A B``, ``fallback A B``; cascades always go on."""
    rule_timeout: int | None = None
    give_up: int | None = None
    compute: int = 0
    access: Wire = field(default_factory=Wire)
    wan: Wire = field(default_factory=Wire)
    edge: Server = field(default_factory=Server)
    cloud: Server = field(default_factory=Server)
    power: Power = field(default_factory=Power)


@dataclass
class Request:
    """What becomes of one."""

    device: int
    k: int
    made: int
    outcome: str = "in_flight"
    answered: int = -1
    tier: str = ""
    sends: int = 0
    times: tuple[int, int, int] = (-1, -1, -1)
    """Arrived, started, finished at the tier that answered."""


@dataclass
class Attempt:
    """A request on one of its ways: when its rule has gone another way, this one's end matters to nobody."""

    request: Request
    stale: bool = False
    watched: bool = False
    """A deadline of its rule will notice that it is lost."""
    tier: str = ""
    arrived: int = -1
    started: int = -1
    finished: int = -1


class Oracle:
    """Runs a fleet to its end."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.heap: list[tuple[int, int, int, int, int, Callable[[int], None]]] = []
        self.count = 0
        self.together = False
        """While the members of a batch go on, as they stood in the queue: before others that come in that instant."""
        self.requests: list[Request] = []
        devices = len(fleet.made)
        self.supplies = [Supply(fleet.power) for _ in range(devices)]
        self.processors = [Processor(self, device) for device in range(devices)]
        self.up = Senders(self, fleet.access, fleet.access.air, UP, devices, of_device=True)
        self.down = Senders(self, fleet.access, fleet.access.air_down, DOWN, devices)
        self.wan_up = Senders(self, fleet.wan, fleet.wan.air, WAN_UP, devices)
        self.wan_down = Senders(self, fleet.wan, fleet.wan.air_down, WAN_DOWN, devices)
        self.edge = Station(self, fleet.edge, "edge", EDGE)
        self.cloud = Station(self, fleet.cloud, "cloud", CLOUD)

    def at(self, time: int, rank: int, request: Request | None, what: Callable[[int], None]) -> None:
        """Plans an event."""
        self.count += 1
        device, k = (-1, -1) if request is None else (request.device, request.k)
        heapq.heappush(self.heap, (time, rank, device, k, self.count, what))

    def run(self) -> list[Request]:
        """All requests that were made, by the instant, device and number."""
        for device, times in enumerate(self.fleet.made):
            for k, time in enumerate(times):
                request = Request(device, k, time)
                self.at(time, MADE, request, partial(self._make, request))
        while self.heap and self.heap[0][0] < self.fleet.end:
            time, *_, what = heapq.heappop(self.heap)
            what(time)
        self._end()
        return sorted(self.requests, key=lambda request: (request.made, request.device, request.k))

    def _end(self) -> None:
        """What waits for its turn at a device is lost with its battery, though its turn would have come later."""
        waiting = [message.attempt for sender in self.up.senders for message in sender.waiting]
        waiting += [attempt for processor in self.processors for attempt, _ in processor.waiting]
        for attempt in waiting:
            if self.supplies[attempt.request.device].ends < self.fleet.end:
                self.lose(attempt, "battery", self.fleet.end)

    # Rules

    def _make(self, request: Request, now: int) -> None:
        if now >= self.supplies[request.device].ends:
            return
        self.requests.append(request)
        if self.fleet.give_up is not None:
            self.at(now + self.fleet.give_up, DEADLINES, request, lambda at: self._give_up(request, at))
        kind, *tiers = self.fleet.placement.split()
        if kind == "cascade":
            self._cascade(Attempt(request), tiers, now)
        elif kind == "fallback":
            self._fallback(Attempt(request), tiers, now)
        else:
            self._ask(Attempt(request), kind, now, self._answer)

    def _give_up(self, request: Request, now: int) -> None:
        silent = now >= self.supplies[request.device].ends
        self.conclude(request, "battery" if silent else "timeout", now)

    def _ask(self, attempt: Attempt, tier: str, now: int, then: Then) -> None:
        """From the device to a tier and back."""
        if tier == "device":
            self.processors[attempt.request.device].compute(attempt, now, then)
        elif tier == "edge":
            self.up.send(attempt, now, lambda a, t: self.edge.arrive(a, t, lambda b, u: self.down.send(b, u, then)))
        else:

            def return_(a: Attempt, t: int) -> None:
                self.wan_down.send(a, t, lambda b, u: self.down.send(b, u, then))

            self.up.send(
                attempt, now, lambda a, t: self.wan_up.send(a, t, lambda b, u: self.cloud.arrive(b, u, return_))
            )

    def _cascade(self, attempt: Attempt, tiers: Sequence[str], now: int) -> None:
        """Asks the first, and from where that is the second; a deadline keeps the first answer."""
        first, second = tiers

        def go_on(kept: Attempt, time: int) -> None:
            kept.stale = True  # the request is on its further way now
            further = Attempt(kept.request)

            def keep(at: int) -> None:
                if further.watched and kept.request.outcome == "in_flight":
                    further.stale, further.watched = True, False
                    home(replace(kept, stale=False), at)

            def came(a: Attempt, t: int) -> None:
                if not a.stale:
                    a.watched = False
                    home(a, t)

            if self.fleet.rule_timeout is not None:
                further.watched = True
                self.at(time + self.fleet.rule_timeout, DEADLINES, kept.request, keep)
            if first == "device":
                self._ask(further, second, time, came)
            else:
                self.wan_up.send(
                    further, time, lambda a, t: self.cloud.arrive(a, t, lambda b, u: self.wan_down.send(b, u, came))
                )

        home: Then = self._answer if first == "device" else lambda a, t: self.down.send(a, t, self._answer)
        if first == "device":
            self.processors[attempt.request.device].compute(attempt, now, go_on)
        else:
            self.up.send(attempt, now, lambda a, t: self.edge.arrive(a, t, go_on))

    def _fallback(self, attempt: Attempt, tiers: Sequence[str], now: int) -> None:
        first, second = tiers
        attempt.watched = True

        def late(at: int) -> None:
            if attempt.watched and attempt.request.outcome == "in_flight":
                attempt.stale, attempt.watched = True, False
                self._ask(Attempt(attempt.request), second, at, self._answer)

        assert self.fleet.rule_timeout is not None
        self.at(now + self.fleet.rule_timeout, DEADLINES, attempt.request, late)

        def came(a: Attempt, t: int) -> None:
            if not a.stale:
                a.watched = False
                self._answer(a, t)

        self._ask(attempt, first, now, came)

    def _answer(self, attempt: Attempt, now: int) -> None:
        if attempt.stale:
            return
        if now >= self.supplies[attempt.request.device].ends:
            self.conclude(attempt.request, "battery", now)
            return
        request = attempt.request
        if request.outcome == "in_flight":
            request.tier, request.answered = attempt.tier, now
            request.times = (attempt.arrived, attempt.started, attempt.finished)
        self.conclude(request, "answered", now)

    def lose(self, attempt: Attempt, cause: str, now: int) -> None:
        """What is lost tells nobody: where a rule's deadline watches, that deadline decides what happens."""
        if not attempt.stale and not attempt.watched:
            self.conclude(attempt.request, cause, now)

    def conclude(self, request: Request, outcome: str, _now: int) -> None:
        """The first end of a request is its outcome."""
        if request.outcome == "in_flight":
            request.outcome = outcome


class Supply:
    """A battery: what work has begun is spent, idle power flows all the time."""

    def __init__(self, power: Power) -> None:
        self.power = power
        self.spent = 0
        self.ends = power.silent_at
        self._set_end()

    def _set_end(self) -> None:
        if self.power.capacity is not None and self.power.idle:
            empty = (self.power.capacity - self.spent) // self.power.idle
            self.ends = min(self.power.silent_at, empty)

    def spend(self, start: int, lasts: int, energy: int) -> int:
        """Begins work of so much energy, spread evenly. Returns when the device falls silent, as far as one knows."""
        if self.power.capacity is not None:
            needs = energy + self.power.idle * lasts
            left = self.power.capacity - self.spent - self.power.idle * start
            if needs <= left:
                self.spent += energy
                self._set_end()
            else:
                self.ends = min(self.ends, start + (left * lasts // needs if lasts else 0))
                self.spent = self.power.capacity - self.power.idle * self.ends
        return self.ends


class Processor:
    """A device's: first come, first served."""

    def __init__(self, oracle: Oracle, device: int) -> None:
        self.oracle = oracle
        self.supply = oracle.supplies[device]
        self.waiting: deque[tuple[Attempt, Then]] = deque()
        self.busy = False

    def compute(self, attempt: Attempt, now: int, then: Then) -> None:
        """Queues an inference."""
        attempt.arrived, attempt.tier = now, "device"
        self.waiting.append((attempt, then))
        if not self.busy:
            self._next(now)

    def _end(self, now: int) -> None:
        self.busy = bool(self.waiting)
        if self.waiting:  # what this inference leads to comes before the next one begins
            self.oracle.at(now, DEADLINES + 1, self.waiting[0][0].request, self._next)

    def _next(self, now: int) -> None:
        self.busy = False
        while self.waiting:
            attempt, then = self.waiting.popleft()
            if now >= self.supply.ends:
                self.oracle.lose(attempt, "battery", now)
                continue
            service = self.oracle.fleet.compute
            ends = self.supply.spend(now, service, self.oracle.fleet.power.an_inference)
            if ends < now + service or ends <= now:  # nor can an inference be made
                self.oracle.at(ends, PROCESSOR, attempt.request, partial(self.oracle.lose, attempt, "battery"))
                continue
            self.busy = service > 0
            attempt.started, attempt.finished = now, now + service

            def done(at: int, attempt: Attempt = attempt, then: Then = then) -> None:
                if at > self.supply.ends:
                    self.oracle.lose(attempt, "battery", at)
                else:
                    then(attempt, at)

            self.oracle.at(now + service, PROCESSOR, attempt.request, done)
            if service:
                self.oracle.at(now + service, PROCESSOR + BEFORE, attempt.request, self._end)
                return


class Senders:
    """One direction of a link: one sender, or one a device."""

    def __init__(
        self, oracle: Oracle, wire: Wire, air: int, rank: int, devices: int, *, of_device: bool = False
    ) -> None:
        self.senders = [Sender(oracle, wire, air, rank, of_device=of_device) for _ in range(devices)]
        self.shared = wire.shared

    def send(self, attempt: Attempt, now: int, then: Then) -> None:
        """Sends a message; ``then`` is called where it arrives."""
        sender = self.senders[0 if self.shared else attempt.request.device]
        message = Message(attempt, then, sender.wire.tries - 1)
        if sender.oracle.together:
            sender.enter(message, now)
        else:
            sender.oracle.at(now, sender.rank, attempt.request, lambda at: sender.enter(message, at))


@dataclass
class Message:
    """On its way over one link."""

    attempt: Attempt
    then: Then
    tries_left: int
    tried: int = 0


class Sender:
    """A transmitter with its queue."""

    def __init__(self, oracle: Oracle, wire: Wire, air: int, rank: int, *, of_device: bool) -> None:
        self.oracle, self.wire, self.air, self.rank, self.of_device = oracle, wire, air, rank, of_device
        self.waiting: deque[Message] = deque()
        self.busy = False

    def enter(self, message: Message, now: int) -> None:
        """A message comes to the sender."""
        if self.of_device and now >= self._supply(message).ends:
            self.oracle.lose(message.attempt, "battery", now)
        elif not self.busy:
            self._transmit(message, now)
        elif self.wire.queue is not None and len(self.waiting) >= self.wire.queue:
            self.oracle.lose(message.attempt, "link_queue", now)
        else:
            self.waiting.append(message)

    def _supply(self, message: Message) -> Supply:
        return self.oracle.supplies[message.attempt.request.device]

    def _free(self, now: int) -> None:
        self.busy = False
        while self.waiting and not self.busy:
            message = self.waiting.popleft()
            if self.of_device and now >= self._supply(message).ends:
                self.oracle.lose(message.attempt, "battery", now)
                self._keep_place(message, now)
            else:
                self._transmit(message, now, waited=True)

    def _keep_place(self, message: Message, now: int) -> None:
        """A place in the queue that its device can no longer take stays empty."""
        lasts = self._air(now) * self.wire.silence
        self.busy = lasts > 0
        if self.busy:
            self.oracle.at(now + lasts, FAULTS + 1, message.attempt.request, self._free)

    def _air(self, now: int) -> int:
        poor = any(start <= now < end for start, end in self.wire.degraded)
        return self.air * (self.wire.degraded_slower if poor else 1)

    def _transmit(self, message: Message, now: int, *, waited: bool = False) -> None:
        wire, power = self.wire, self.oracle.fleet.power
        request = message.attempt.request
        air = self._air(now)
        depart = now + air
        self.busy = air > 0
        if self.of_device:
            request.sends += 1
            ends = self._supply(message).spend(now, air, power.sending * air + power.a_message)
            if ends < depart or ends <= now:  # a message that takes no time cannot be sent with nothing left
                if waited:
                    self._keep_place(message, now)
                else:
                    self.oracle.at(ends, FAULTS + 1, request, self._free)
                self.oracle.at(ends, self.rank, request, lambda at: self.oracle.lose(message.attempt, "battery", at))
                return
        self.oracle.at(now + air * wire.silence, FAULTS + 1, request, self._free)
        if any(start <= depart and now < end for start, end in wire.outages):
            self.oracle.at(depart, self.rank, request, lambda at: self._lost(message, at))
            return
        poor = any(start <= now < end for start, end in wire.degraded)
        arrival = depart + wire.latency + (wire.degraded_later if poor else 0)
        if self.rank == DOWN:
            self._supply(message).spend(arrival, 0, power.an_answer)
        self.oracle.at(arrival, self.rank + 1, request, lambda at: message.then(message.attempt, at))

    def _lost(self, message: Message, now: int) -> None:
        if not message.tries_left:
            self.oracle.lose(message.attempt, "link_down", now)
            return
        wait = self.wire.backoff * self.wire.factor**message.tried
        message.tries_left -= 1
        message.tried += 1
        self.oracle.at(now + wait, self.rank, message.attempt.request, lambda at: self.enter(message, at))


class Station:
    """A node: workers, a queue, batches, outages."""

    def __init__(self, oracle: Oracle, server: Server, tier: str, rank: int) -> None:
        self.oracle, self.server, self.tier, self.rank = oracle, server, tier, rank
        self.waiting: deque[tuple[Attempt, Then]] = deque()
        self.running: list[list[tuple[Attempt, Then]]] = []
        for start, end in server.outages:
            if start < end:
                oracle.at(start, FAULTS, None, self._fail)

    def arrive(self, attempt: Attempt, now: int, then: Then) -> None:
        """A request comes to the node."""
        self.oracle.at(now, self.rank, attempt.request, lambda at: self._enter(attempt, at, then))

    def _enter(self, attempt: Attempt, now: int, then: Then) -> None:
        for cause, windows in (("node_down", self.server.outages), ("broker_restart", self.server.restarts)):
            if any(start <= now < end for start, end in windows):
                self.oracle.lose(attempt, cause, now)
                return
        idle = len(self.running) < self.server.workers
        if not idle and self.server.queue is not None and len(self.waiting) >= self.server.queue:
            self.oracle.lose(attempt, "node_queue", now)
            return
        attempt.arrived, attempt.tier = now, self.tier
        self.waiting.append((attempt, then))
        self._start(now)

    def _start(self, now: int) -> None:
        server = self.server
        while self.waiting and len(self.running) < server.workers:
            oldest = self.waiting[0][0]
            due = oldest.arrived + server.batch_wait
            if server.batch > 1 and len(self.waiting) < server.batch and now < due:
                self.oracle.at(due, DEADLINES + BEFORE, oldest.request, self._start)
                return
            batch = [self.waiting.popleft() for _ in range(min(server.batch, len(self.waiting)))]
            for attempt, _ in batch:
                attempt.started = now
            service = server.service * (100 + server.marginal_percent * (len(batch) - 1)) // 100
            self.running.append(batch)
            self.oracle.at(now + service, self.rank + BEFORE, batch[0][0].request, partial(self._done, batch))

    def _done(self, batch: list[tuple[Attempt, Then]], now: int) -> None:
        if not any(batch is one for one in self.running):
            return  # the node has failed meanwhile
        self.running = [one for one in self.running if one is not batch]
        self.oracle.together = self.server.batch > 1
        for attempt, then in batch:
            attempt.finished = now
            then(attempt, now)
        self.oracle.together = False
        self._start(now)

    def _fail(self, now: int) -> None:
        held = [*self.waiting, *(one for batch in self.running for one in batch)]
        self.waiting.clear()
        self.running = []
        for attempt, _ in held:
            self.oracle.lose(attempt, "node_down", now)
