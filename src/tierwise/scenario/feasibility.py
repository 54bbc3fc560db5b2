"""What could never run: messages larger than their bucket, loops that wait for what was lost, too much at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierwise.scenario.batches import ByBatch
from tierwise.scenario.parts import GilbertElliott
from tierwise.scenario.schema import (
    BatteryOut,
    BrokerRestart,
    Burst,
    Cascade,
    External,
    LinkDegraded,
    LinkDown,
    MultiStream,
    NodeDown,
    Offline,
    SingleStream,
)
from tierwise.scenario.topology import route

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tierwise.scenario.document import Location
    from tierwise.scenario.schema import Scenario, Tier

MOST_AT_ONCE = 1 << 24
"""Requests of a group that are laid out together: some 200 bytes each."""


def feasibility_problems(scenario: Scenario, group: str, tiers: Iterable[Tier]) -> Iterator[tuple[Location, str]]:
    """What keeps a group from running as stated, as (location, what)."""
    devices = scenario.devices[group]
    if isinstance(devices.traffic, str) and devices.traffic not in scenario.traffic:
        return  # which has been told
    links, nodes = stations_of(scenario, group, tiers)
    here: Location = ("devices", group)
    traffic = scenario.traffic_of(group)
    if isinstance(traffic, SingleStream | MultiStream) and devices.timeout is None:
        losses = list(_losses(scenario, links, nodes))
        if losses:
            what = f"`{traffic.pattern}` waits for each answer, and {', '.join(losses)} may lose it"
            yield here, f"{what}: state the `timeout` after which the device goes on"
    at_once = traffic.samples if isinstance(traffic, Offline) else traffic.size if isinstance(traffic, Burst) else 1
    if at_once * devices.count > MOST_AT_ONCE:
        what = f"{at_once * devices.count:,} requests at once; the simulator takes {MOST_AT_ONCE:,}"
        yield (*here, "traffic"), f"{what}: use fewer devices or samples"
    if not isinstance(traffic, External):
        yield from _shapers(scenario, group, links)
    for name in nodes:
        yield from _batches(scenario, scenario.model_of(group), name)
    for index, fault in enumerate(scenario.faults):
        if isinstance(fault, BatteryOut) and fault.devices == group and round(fault.share * devices.count) == 0:
            yield ("faults", index, "share"), f"is not even one of {devices.count} devices"


def stations_of(scenario: Scenario, group: str, tiers: Iterable[Tier]) -> tuple[list[str], list[str]]:
    """The links and nodes that a group's requests may take, each once, in order."""
    links: dict[str, None] = {}
    nodes: dict[str, None] = {}
    place = group
    chained = isinstance(scenario.rule(group), Cascade)
    for tier in tiers:
        way = None if tier == "device" else route(scenario, place, tier)
        if way is not None:
            links |= dict.fromkeys(way[0])
            nodes[way[1]] = None
            place = way[1] if chained else group
    return list(links), list(nodes)


def _losses(scenario: Scenario, links: list[str], nodes: list[str]) -> Iterator[str]:
    """What may lose a request or its answer."""
    for name in links:
        link = scenario.links[name]
        if isinstance(link.loss, GilbertElliott) or link.loss > 0 or link.queue is not None:
            yield f"links.{name}"
    for name in nodes:
        if scenario.nodes[name].queue is not None:
            yield f"nodes.{name}"
    for index, fault in enumerate(scenario.faults):
        match fault:
            case LinkDown(link=name) | LinkDegraded(link=name):
                strikes = name in links and (isinstance(fault, LinkDown) or fault.extra_loss > 0)
            case NodeDown(node=name) | BrokerRestart(node=name):
                strikes = name in nodes
            case _:
                strikes = False
        if strikes:
            yield f"faults.{index}"


def _batches(scenario: Scenario, model: str, name: str) -> Iterator[tuple[Location, str]]:
    """A profile knows batches up to the largest that was measured, and what each further sample costs."""
    node = scenario.nodes[name]
    service = getattr(getattr(scenario.models[model], node.tier), "service", None)
    if node.batch is None or node.service is not None or not isinstance(service, ByBatch):
        return
    here: Location = ("nodes", name, "batch")
    profile = f"models.{model}.{node.tier}.profile"
    if node.batch.max_size > service.largest:
        yield (*here, "max_size"), f"{profile} was measured for batches of at most {service.largest}"
    others = (getattr(getattr(other, node.tier), "service", None) for other in scenario.models.values())
    if "marginal" in node.batch.model_fields_set and all(isinstance(other, ByBatch) for other in others):
        yield (*here, "marginal"), f"has no effect: {profile} knows the time of each batch"


def _shapers(scenario: Scenario, group: str, links: list[str]) -> Iterator[tuple[Location, str]]:
    """A token bucket never holds enough for a message larger than its burst."""
    devices = scenario.devices[group]
    upwards = devices.request if devices.request is not None else 4 * devices.features
    for name in links:
        link = scenario.links[name]
        largest = max(upwards, devices.answer) + link.overhead
        if link.shaper is not None and link.shaper.burst < largest:
            what = f"is less than a message of {group!r} ({largest} B with overhead), which would never pass"
            yield ("links", name, "shaper", "burst"), what
