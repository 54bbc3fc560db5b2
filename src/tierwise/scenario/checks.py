"""What the schema alone cannot see: names that nothing has, tiers that nothing reaches, costs that nothing states."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, get_args

from tierwise.scenario.expression import parse_expression
from tierwise.scenario.feasibility import feasibility_problems
from tierwise.scenario.schema import (
    EVERY_GROUP,
    BatteryOut,
    BrokerRestart,
    Cascade,
    ClockDrift,
    Custom,
    Expression,
    External,
    Fallback,
    LinkDegraded,
    LinkDown,
    NodeDown,
    Rule,
    Scenario,
    Tier,
)
from tierwise.scenario.topology import route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierwise.scenario.document import Location

_MOST_POINTS = 100_000
Finding = tuple["Location", str]


def reference_problems(scenario: Scenario) -> Iterator[Finding]:
    """Every broken reference, as (location, what)."""
    yield from _names(scenario)
    yield from _links(scenario)
    yield from _powers(scenario)
    yield from _devices(scenario)
    for group in scenario.devices:
        yield from _placement(scenario, group)
    yield from _faults(scenario)
    if scenario.run.warm_up >= scenario.run.duration:
        yield ("run", "warm_up"), "leaves nothing to count: it is not shorter than the duration"
    points = -(-scenario.run.duration // (scenario.outputs.bucket or scenario.run.duration))
    if points > _MOST_POINTS:
        yield ("outputs", "bucket"), f"makes {points:,} points in time; at most {_MOST_POINTS:,} are drawn"


def tiers_of(rule: Rule) -> tuple[Tier, ...]:
    """The tiers that a rule may ask, in order; all three for expressions and policies."""
    if isinstance(rule, Cascade):
        return tuple(rule.cascade)
    if isinstance(rule, Fallback):
        return tuple(rule.fallback)
    if isinstance(rule, Expression):
        return parse_expression(rule.expression).tiers
    if isinstance(rule, Custom):
        return get_args(Tier)
    return (rule,)


def _known(name: str, known: object) -> str:
    names = ", ".join(known) if isinstance(known, dict) and known else "none"
    return f"there is no {name!r} (known: {names})"


def _names(scenario: Scenario) -> Iterator[Finding]:
    for name in scenario.devices.keys() & scenario.nodes.keys():
        yield ("nodes", name), "a device group has this name too"
    for name in scenario.placement:
        if name != EVERY_GROUP and name not in scenario.devices:
            yield ("placement", name), _known(name, scenario.devices)
    if EVERY_GROUP not in scenario.placement:
        for name in scenario.devices.keys() - scenario.placement.keys():
            yield ("placement",), f"says nothing about {name!r}"


def _links(scenario: Scenario) -> Iterator[Finding]:
    for name, link in scenario.links.items():
        places = {**scenario.devices, **scenario.nodes}
        for index, start in enumerate(link.from_):
            if start not in places:
                yield ("links", name, "from", index), _known(start, places)
        if len(set(link.from_)) < len(link.from_):
            yield ("links", name, "from"), "names a place twice"
        if link.to not in scenario.nodes:
            yield ("links", name, "to"), _known(link.to, scenario.nodes)
        if link.to in link.from_:
            yield ("links", name, "to"), "a link does not lead back to where it starts"
        if not link.shared and any(start in scenario.nodes for start in link.from_):
            yield ("links", name, "shared"), "only a link from device groups can be one for each device"
        if link.bandwidth_down is not None and link.bandwidth is None:
            yield ("links", name, "bandwidth_down"), "needs `bandwidth` too"
        if link.duty_cycle < 1 and link.bandwidth is None:
            yield ("links", name, "duty_cycle"), "needs `bandwidth`: without it nothing is ever on the air"


def _powers(scenario: Scenario) -> Iterator[Finding]:
    for name, node in scenario.nodes.items():
        if node.power is not None and node.power.busy < node.power.idle:
            what = f"is below `idle` ({node.power.busy:g} W against {node.power.idle:g} W)"
            yield ("nodes", name, "power", "busy"), f"{what}: a node does not draw less for working"


def _devices(scenario: Scenario) -> Iterator[Finding]:
    for name, group in scenario.devices.items():
        here = ("devices", name)
        if isinstance(group.traffic, str) and group.traffic not in scenario.traffic:
            yield (*here, "traffic"), _known(group.traffic, scenario.traffic)
        if isinstance(group.board, str) and group.board not in scenario.boards:
            yield (*here, "board"), _known(group.board, scenario.boards)
        if group.model is None and len(scenario.models) > 1:
            yield here, f"needs `model`, one of {', '.join(scenario.models)}"
        if group.model is not None and group.model not in scenario.models:
            yield (*here, "model"), _known(group.model, scenario.models)
        traffic = scenario.traffic.get(group.traffic) if isinstance(group.traffic, str) else group.traffic
        if isinstance(traffic, External):
            yield from _external(scenario, name, traffic)
        if group.names is not None:
            yield from _own_names(scenario, name, group.names)
        if group.battery is not None and group.board is None:
            yield (*here, "battery"), "needs `board`: nothing states what the device draws"


def _own_names(scenario: Scenario, group: str, names: list[str]) -> Iterator[Finding]:
    here = ("devices", group, "names")
    if len(names) != scenario.devices[group].count:
        yield here, f"has {len(names)} names for {scenario.devices[group].count} devices"
    for name, count in Counter(names).items():
        if count > 1 or (name != group and name in scenario.devices):
            yield here, f"another device or group is called {name!r}"


def _external(scenario: Scenario, name: str, traffic: External) -> Iterator[Finding]:
    group, rule = scenario.devices[name], scenario.rule(name)
    here = ("devices", name)
    if bool(traffic.command) == bool(traffic.address):
        yield (*here, "traffic"), "needs either `command` or `address`"
    if traffic.address and len(traffic.address) != group.count:
        yield (*here, "traffic", "address"), f"has {len(traffic.address)} addresses for {group.count} devices"
    if group.battery or group.timeout or getattr(rule, "timeout", None) or isinstance(rule, Expression | Custom):
        yield here, "external devices take no battery, no timeouts and no placement that looks at the state"
    if scenario.run.replications > 1:
        yield ("run", "replications"), "external devices run once"


def _placement(scenario: Scenario, group: str) -> Iterator[Finding]:
    rule = scenario.rule(group)
    where: Location = ("placement", group) if group in scenario.placement else ("placement",)
    model = scenario.models.get(scenario.model_of(group))
    if model is None or scenario.devices[group].board not in {None, *_inline_or_known(scenario, group)}:
        return
    if isinstance(rule, Cascade | Fallback) and len(set(tiers_of(rule))) < len(tiers_of(rule)):
        yield where, "names a tier twice"
    if isinstance(rule, Cascade) and sorted(rule.cascade, key=get_args(Tier).index) != rule.cascade:
        yield where, "a cascade goes outwards: device, then edge, then cloud"
        return
    tiers = tiers_of(rule)
    reachable = [tier for tier in tiers if next(_tier(scenario, group, tier), None) is None]
    if isinstance(rule, Custom):
        if not reachable:
            yield where, "no tier can answer this group"
        yield from feasibility_problems(scenario, group, reachable)
        return
    for tier in tiers:
        for what in _tier(scenario, group, tier):
            yield where, what
    yield from feasibility_problems(scenario, group, tiers)


def _inline_or_known(scenario: Scenario, group: str) -> tuple[object, ...]:
    board = scenario.devices[group].board
    return (board,) if not isinstance(board, str) or board in scenario.boards else ()


def _tier(scenario: Scenario, group: str, tier: Tier) -> Iterator[str]:
    """What keeps a tier from answering a group."""
    name = scenario.model_of(group)
    artifact = getattr(scenario.models[name], tier)
    if tier == "device":
        if artifact is None or artifact.service is None:
            stated = f"models.{name}.device.service (or a profile)"
            yield f"tier device: {stated} says how long an inference takes there; it is missing"
            return
        board = scenario.board_of(group)
        if board is not None and board.memory is not None and (artifact.size or 0) > board.memory:
            yield f"tier device: the model ({artifact.size} B) is larger than the board's memory ({board.memory} B)"
        return
    way = route(scenario, group, tier)
    if way is None:
        yield f"tier {tier}: no links lead from {group!r} to a node of this tier"
        return
    node = scenario.nodes[way[1]]
    if node.service is None and (artifact is None or artifact.service is None):
        what = f"neither nodes.{way[1]}.service nor models.{name}.{tier}.service (or a profile) states a service time"
        yield f"tier {tier}: {what}"


def _faults(scenario: Scenario) -> Iterator[Finding]:
    for index, fault in enumerate(scenario.faults):
        here: Location = ("faults", index)
        if isinstance(fault, NodeDown | BrokerRestart) and fault.node not in scenario.nodes:
            yield (*here, "node"), _known(fault.node, scenario.nodes)
        if isinstance(fault, LinkDown | LinkDegraded) and fault.link not in scenario.links:
            yield (*here, "link"), _known(fault.link, scenario.links)
        if isinstance(fault, BatteryOut | ClockDrift):
            if fault.devices not in scenario.devices:
                yield (*here, "devices"), _known(fault.devices, scenario.devices)
        elif (fault.at is None) == (fault.every is None):
            yield here, "needs either `at` or `every`"
