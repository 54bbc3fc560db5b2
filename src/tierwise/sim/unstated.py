"""What a scenario leaves out: power and prices that nobody stated count as nothing, and nothing must not win; a
confidence that nobody stated is assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tierwise.scenario.checks import tiers_of
from tierwise.scenario.feasibility import stations_of
from tierwise.scenario.schema import Cascade, Custom

if TYPE_CHECKING:
    from tierwise.scenario.schema import Scenario


class Used(msgspec.Struct, frozen=True):
    """What the requests of a scenario may take: by its placement, whether or not any does."""

    links: frozenset[str]
    nodes: frozenset[str]
    """Those that answer; a node that only passes on is not among them."""
    computing: frozenset[str]
    """Groups whose devices run the model."""


def used_by(scenario: Scenario) -> Used:
    """What the placement of each group may ask."""
    links: set[str] = set()
    nodes: set[str] = set()
    computing: set[str] = set()
    for group in scenario.devices:
        tiers = tiers_of(scenario.rule(group))
        own_links, own_nodes = stations_of(scenario, group, tiers)
        links.update(own_links)
        nodes.update(own_nodes)
        artifact = scenario.models[scenario.model_of(group)].device
        if "device" in tiers and artifact is not None and artifact.service is not None:
            computing.add(group)
    return Used(frozenset(links), frozenset(nodes), frozenset(computing))


def unstated(scenario: Scenario) -> dict[str, list[str]]:
    """Figure → dotted paths that would have to be stated for it to be whole; nothing where all is stated.

    Of nodes that answer, devices that compute, and links that are taken where some link has a price: where none has,
    they are wires.
    """
    used = used_by(scenario)
    priced = any(link.price is not None for link in scenario.links.values())
    links = [
        f"links.{name}.price"
        for name, link in scenario.links.items()
        if priced and name in used.links and link.price is None
    ]
    energy = [*_nodes(scenario, used.nodes, "power"), *_boards(scenario, used.computing)]
    found = {
        "energy_j": energy,
        "cost": [*_nodes(scenario, used.nodes, "price"), *links],
        "carbon_g": energy if scenario.carbon is not None else [],
    }
    return {figure: paths for figure, paths in found.items() if paths}


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that a figure consists of, such as the power of a node: what of it has to be told to compare runs."""

    stated: bool = False
    used: bool = False
    """By the placement, whether or not any request does."""
    standing: bool = False
    """Whether it counts where nothing uses it, too: nodes and devices stand there all the same."""
    own: bool = False
    """Whether it makes a difference though the other has it too and neither states it."""


Parts = dict[str, dict[str, Part]]
"""Figure → dotted path → part."""


def parts_of(scenario: Scenario) -> Parts:
    """What energy and cost of a scenario consist of."""
    used = used_by(scenario)
    energy = {
        f"nodes.{name}.power": Part(node.power is not None, name in used.nodes, standing=True, own=True)
        for name, node in scenario.nodes.items()
    }
    for name in scenario.devices:
        artifact = scenario.models[scenario.model_of(name)].device
        idle_alone = artifact is not None and artifact.energy is not None
        energy[f"devices.{name}.board"] = Part(
            scenario.board_of(name) is not None, name in used.computing, standing=True, own=not idle_alone
        )
    cost = {
        f"nodes.{name}.price": Part(node.price is not None, name in used.nodes, standing=True, own=True)
        for name, node in scenario.nodes.items()
    }
    for name, link in scenario.links.items():
        if set(link.from_) & set(scenario.devices):
            energy[f"links.{name}.radio"] = Part(link.radio is not None, name in used.links)
        cost[f"links.{name}.price"] = Part(link.price is not None, name in used.links)
    return {"energy_j": energy, "cost": cost}


def lacking(mine: Parts, other: Parts) -> dict[str, list[str]]:
    """Figure → dotted paths that one would have to state for its figure to be held against the other's.

    That is what it uses, or the other states, and it has and does not state. A node that it does not ask and neither
    prices is no difference between them, nor is a link that both take and neither states, such as a wired one; one that
    only it takes is: its radio and its price have to be stated, be they nothing. Nor is a board that neither states,
    where the model states the energy of an inference: both draw the same while idle.
    """
    found = {
        figure: [path for path, part in parts.items() if _lacks(part, other.get(figure, {}).get(path, Part()))]
        for figure, parts in mine.items()
    }
    return {figure: paths for figure, paths in found.items() if paths}


def _lacks(mine: Part, theirs: Part) -> bool:
    if mine.stated:
        return False
    if theirs.stated:
        return mine.used or mine.standing
    return mine.used and (mine.own or not (theirs.used or theirs.standing))


def unstated_against(scenario: Scenario, other: Scenario) -> dict[str, list[str]]:
    """``lacking`` of two scenarios."""
    return lacking(parts_of(scenario), parts_of(other))


def bystanders(scenario: Scenario) -> list[str]:
    """Nodes that answer nobody and yet are paid for or draw power."""
    used = used_by(scenario)
    return [
        name
        for name, node in scenario.nodes.items()
        if name not in used.nodes and (node.price is not None or node.power is not None)
    ]


def _nodes(scenario: Scenario, names: frozenset[str], what: str) -> list[str]:
    return [
        f"nodes.{name}.{what}" for name, node in scenario.nodes.items() if name in names and getattr(node, what) is None
    ]


def _boards(scenario: Scenario, groups: frozenset[str]) -> list[str]:
    """Groups without a board: nothing states what their devices draw while idle. The energy of a model does not."""
    return [f"devices.{name}.board" for name in scenario.devices if name in groups and scenario.board_of(name) is None]


def assumptions(scenario: Scenario) -> list[str]:
    """What the results rest on though nobody stated it: confidences that decide what a cascade escalates."""
    found: dict[str, None] = {}
    for group in scenario.devices:
        rule = scenario.rule(group)
        if not isinstance(rule, Cascade | Custom):
            continue
        name = scenario.model_of(group)
        model = scenario.models[name]
        for tier in tiers_of(rule)[: -1 if isinstance(rule, Cascade) else None]:
            artifact = getattr(model, tier)
            computed = model.data is not None and artifact is not None and artifact.artifact is not None
            if computed or (artifact is not None and "confidence" in artifact.model_fields_set):
                continue
            if isinstance(rule, Custom) and artifact is None:
                continue
            effect = (
                f", so that {rule.threshold:.3g} of all is escalated by chance" if isinstance(rule, Cascade) else ""
            )
            taken = "is not stated: taken as uniform from 0 to 1, for right and wrong answers alike"
            found[f"models.{name}.{tier}.confidence {taken}{effect}."] = None
    return list(found)
