"""Placement rules as steps: the way of a group's requests through links, nodes, decisions and deadlines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tierwise.scenario.batches import ByBatch
from tierwise.scenario.parts import Artifact, Confidence, Link
from tierwise.scenario.schema import Cascade, Custom, Expression, Fallback, Rule, Scenario
from tierwise.scenario.topology import route
from tierwise.sim.kernel import tables as t

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tierwise.scenario.distributions import Distribution
    from tierwise.sim.answers import Answers
    from tierwise.sim.tables import Tables

TIER_CODES = {tier: code for code, tier in enumerate(t.TIERS)}
UP, DOWN = 0, 1
NANO = 1e9


@dataclass(frozen=True)
class Surroundings:
    """What programs refer to."""

    scenario: Scenario
    tables: Tables
    links: Mapping[tuple[str, int], int]
    nodes: Mapping[str, int]
    answers: Mapping[tuple[str, str], Answers]


@dataclass(frozen=True)
class _Question:
    """Where a policy is asked: what it knows there, and where an answer goes."""

    place: str
    home: int
    """The step that takes an answer from the place to the device."""
    asked: tuple[str, ...] = ()
    level: int = 1
    """Of the deadline that the place may set."""
    has_answer: bool = False
    failed: bool = False
    """Whether the last tier that was asked has not answered in time."""


class Program:
    """Writes the steps of one group, the last first: each step knows the one that follows."""

    def __init__(self, around: Surroundings, group: str, number: int) -> None:
        self.around = around
        self.group = group
        self.number = number
        self.devices = around.scenario.devices[group]
        self.model = around.scenario.model_of(group)
        self.queues: dict[int, dict[str, int]] = {}
        self.late: set[int] = set()

    def write(self, rule: Rule) -> int:
        """The row of the first step."""
        end = self._step(t.END, {})
        timeout = self.devices.timeout
        entry = self._rule(rule, end)
        return entry if timeout is None else self._step(t.ARM, {t.T_NEXT: entry, t.T_LEVEL: 0, t.T_TIMEOUT: timeout})

    def _rule(self, rule: Rule, end: int) -> int:
        if isinstance(rule, Cascade):
            return self._cascade(rule, list(rule.cascade), self.group, end, level=1)
        if isinstance(rule, Fallback):
            return self._fallback(rule, list(rule.fallback), end)
        if isinstance(rule, Expression | Custom):
            return self._asked(_Question(self.group, end), rule)
        return self._serve(rule, end)

    def _step(self, op: int, ints: dict[int, int], floats: dict[int, float] | None = None) -> int:
        return self.around.tables.row({t.T_OP: op, t.T_GROUP: self.number, **ints}, floats)

    def _artifact(self, tier: str) -> Artifact | None:
        artifact: Artifact | None = getattr(self.around.scenario.models[self.model], tier)
        return artifact

    def _way(self, place: str, tier: str) -> tuple[list[str], str]:
        if tier == "device" or (place in self.around.nodes and self.around.scenario.nodes[place].tier == tier):
            return [], place
        way = route(self.around.scenario, place, tier)
        if way is None:  # the checks of the scenario have looked
            raise AssertionError(f"no way from {place} to {tier}")
        return way

    def _serve(self, tier: str, home: int) -> int:
        """From the device to a node of the tier, served, and back."""
        links, node = self._way(self.group, tier)
        return self._up(self.group, links, self._serve_there(tier, node, self._down(self.group, links, home)))

    def _serve_there(self, tier: str, node: str, following: int) -> int:
        artifact = self._artifact(tier)
        tables = self.around.tables
        if tier == "device":
            if artifact is None or artifact.service is None:
                raise AssertionError("the checks of the scenario have looked")
            board = self.around.scenario.board_of(self.group)
            power = 0.0 if board is None else max(0.0, board.active_power - board.idle_power)
            return self._step(
                t.DEVICE,
                {
                    t.T_NEXT: following,
                    t.T_DIST: tables.distribution(artifact.service),
                    t.T_KEY: tables.key("service/device", artifact.service),
                    t.T_ENERGY: -1 if artifact.energy is None else round(artifact.energy * NANO),
                    t.T_TIER: TIER_CODES[tier],
                },
                {t.TF_POWER: power},
            )
        service = self.around.scenario.nodes[node].service or (artifact.service if artifact else None)
        if service is None:
            raise AssertionError("the checks of the scenario have looked")
        batch = self.around.scenario.nodes[node].batch
        sizes: list[Distribution] = [service]
        if batch is not None and isinstance(service, ByBatch):
            sizes = [service.of(size + 1) for size in range(batch.max_size)]
        return self._step(
            t.NODE,
            {
                t.T_NEXT: following,
                t.T_ARG: self.around.nodes[node],
                t.T_DIST: tables.distribution(*sizes),
                t.T_BY_BATCH: len(sizes) > 1,
                t.T_KEY: tables.key(f"service/{node}", service),
                t.T_KIND: list(self.around.scenario.models).index(self.model),
                t.T_TIER: TIER_CODES[tier],
            },
        )

    def _up(self, place: str, links: Sequence[str], following: int) -> int:
        for index in reversed(range(len(links))):
            hop = t.FIRST_UP if index == 0 and place == self.group else t.NO_HOP
            following = self._link(links[index], UP, hop, following)
        return following

    def _down(self, place: str, links: Sequence[str], following: int) -> int:
        for index, name in enumerate(links):
            hop = t.LAST_DOWN if index == 0 and place == self.group else t.NO_HOP
            following = self._link(name, DOWN, hop, following)
        return following

    def _link(self, name: str, direction: int, hop: int, following: int) -> int:
        link = self.around.scenario.links[name]
        devices = self.devices
        upwards = devices.request if devices.request is not None else 4 * devices.features
        payload = upwards if direction == UP else devices.answer
        size = payload + link.overhead
        bandwidth = bandwidth_of(link, direction)
        energy, power = radio_cost(link, direction, size) if hop != t.NO_HOP else (0, 0.0)
        return self._step(
            t.LINK,
            {
                t.T_NEXT: following,
                t.T_ARG: self.around.links[name, direction],
                t.T_SIZE: size,
                t.T_AIR: 0 if bandwidth is None else round(size * 8 * NANO / bandwidth),
                t.T_ENERGY: energy,
                t.T_EDGE_OF_DEVICE: hop,
                t.T_PAYLOAD: payload if direction == UP else -1,
            },
            {
                t.TF_POWER: power,
                t.TF_BYTE_AIR: 0.0 if bandwidth is None else 8 * NANO / bandwidth,
                t.TF_BYTE_ENERGY: 8 * NANO * link.radio.tx if link.radio is not None and hop == t.FIRST_UP else 0.0,
            },
        )

    def _cascade(self, rule: Cascade, tiers: list[str], place: str, home: int, level: int) -> int:
        """Served by the first of ``tiers``; unsure answers go on from there; the answer comes back to ``place``."""
        links, node = self._way(place, tiers[0])
        here = self.group if tiers[0] == "device" else node
        returns = self._down(place, links, home)
        following = returns
        if len(tiers) > 1:
            kept = returns
            if rule.timeout is not None:
                kept = self._step(t.DISARM, {t.T_NEXT: returns, t.T_LEVEL: level})
            further = self._cascade(rule, tiers[1:], here, kept, level + 1)
            if rule.timeout is not None:
                further = self._step(
                    t.ARM, {t.T_NEXT: further, t.T_ALT: returns, t.T_LEVEL: level, t.T_TIMEOUT: rule.timeout}
                )
            following = self._step(
                t.CASCADE,
                {t.T_NEXT: further, t.T_ALT: returns, **self._confidence(tiers[0])},
                {t.TF_THRESHOLD: rule.threshold, t.TF_ACCURACY: self._accuracy(tiers[0])},
            )
        return self._up(place, links, self._serve_there(tiers[0], node, following))

    def _fallback(self, rule: Fallback, tiers: list[str], end: int) -> int:
        if len(tiers) == 1:
            return self._serve(tiers[0], end)
        other = self._fallback(rule, tiers[1:], end)
        disarm = self._step(t.DISARM, {t.T_NEXT: end, t.T_LEVEL: 1})
        first = self._serve(tiers[0], disarm)
        return self._step(t.ARM, {t.T_NEXT: first, t.T_ALT: other, t.T_LEVEL: 1, t.T_TIMEOUT: rule.timeout})

    def _asked(self, question: _Question, rule: Expression | Custom) -> int:
        """A step at which Python decides, and all that may follow."""
        place, asked, home, level = question.place, question.asked, question.home, question.level
        ways = {}
        nodes = {}
        for tier in TIER_CODES:
            if tier in asked or not self._can(place, tier):
                continue
            links, node = self._way(place, tier)
            here = self.group if tier == "device" else node
            if tier != "device":
                nodes[tier] = self.around.nodes[node]
            timeout = rule.timeout if isinstance(rule, Custom) and links else None
            back = home if timeout is None else self._step(t.DISARM, {t.T_NEXT: home, t.T_LEVEL: level})
            following = self._down(place, links, back)
            further = (*asked, tier)
            if isinstance(rule, Custom):
                inner = level if timeout is None else level + 1
                following = self._asked(_Question(here, following, further, inner, has_answer=True), rule)
            way = self._up(place, links, self._serve_there(tier, node, following))
            if timeout is not None:
                late = self._asked(replace(question, asked=further, failed=True), rule)
                way = self._step(t.ARM, {t.T_NEXT: way, t.T_ALT: late, t.T_LEVEL: level, t.T_TIMEOUT: timeout})
            ways[tier] = way
        if not ways and not question.failed:
            return home
        last = asked[-1] if asked else None
        ask = self._step(
            t.ASK,
            {
                t.T_NEXT: home if question.has_answer else -1,
                t.T_TIER: TIER_CODES[last] if last else -1,
                t.T_CODE: sum(4**position * (TIER_CODES[tier] + 1) for position, tier in enumerate(asked)),
                **{t.T_ASK_DEVICE + code: ways.get(tier, -1) for tier, code in TIER_CODES.items()},
                **(self._confidence(last) if last else {}),
            },
            {t.TF_ACCURACY: self._accuracy(last) if last else 0.0},
        )
        self.queues[ask] = nodes
        if question.failed:
            self.late.add(ask)
        return ask

    def _can(self, place: str, tier: str) -> bool:
        artifact = self._artifact(tier)
        if tier == "device":
            return place == self.group and artifact is not None and artifact.service is not None
        way = route(self.around.scenario, place, tier)
        if way is None:
            return False
        service = self.around.scenario.nodes[way[1]].service
        return service is not None or (artifact is not None and artifact.service is not None)

    def _accuracy(self, tier: str) -> float:
        artifact = self._artifact(tier)
        return 1.0 if artifact is None or artifact.accuracy is None else artifact.accuracy

    def _confidence(self, tier: str) -> dict[int, int]:
        tables = self.around.tables
        answers = self.around.answers.get((self.model, tier))
        if answers is not None:
            return {
                t.T_CONFIDENCES: tables.extend_values(answers.confidences.tolist()),
                t.T_SAMPLES: len(answers.confidences),
                t.T_KEY_SAMPLE: tables.key("sample"),
            }
        artifact = self._artifact(tier)
        stated = Artifact.model_fields["confidence"].get_default(call_default_factory=True)
        confidence = stated if artifact is None else artifact.confidence
        right, wrong = (
            (confidence.right, confidence.wrong) if isinstance(confidence, Confidence) else (confidence, confidence)
        )
        return {
            t.T_CONFIDENCES: -1,
            t.T_RIGHT: tables.distribution(right),
            t.T_WRONG: tables.distribution(wrong),
            t.T_KEY_ANSWER: tables.key("answer"),
            t.T_KEY_CONFIDENCE: tables.key(f"confidence/{tier}"),
        }


def bandwidth_of(link: Link, direction: int) -> float | None:
    """Bits a second in one direction; ``None`` is unlimited."""
    return link.bandwidth_down if direction == DOWN and link.bandwidth_down is not None else link.bandwidth


def radio_cost(link: Link, direction: int, size: int) -> tuple[int, float]:
    """What a message costs the device: whole nanojoules, and watts while it is on the air."""
    if link.radio is None:
        return 0, 0.0
    if direction == UP:
        return round((size * 8 * link.radio.tx + link.radio.wake) * NANO), link.radio.tx_power
    return round(size * 8 * link.radio.rx * NANO), link.radio.rx_power
