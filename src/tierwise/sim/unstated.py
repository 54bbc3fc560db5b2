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
    """Figure → dotted paths that would have to be stated for it to be whole: of nodes that answer and devices that
    compute. Nothing where all is stated."""
    used = used_by(scenario)
    found = {
        "energy_j": [
            *_nodes(scenario, used.nodes, "power"),
            *_boards(scenario, used.computing),
        ],
        "cost": _nodes(scenario, used.nodes, "price"),
    }
    return {figure: paths for figure, paths in found.items() if paths}


def unstated_against(scenario: Scenario, other: Scenario) -> dict[str, list[str]]:
    """The same where two are compared: further what the other states, and this one has and does not state.

    A node that this scenario does not ask and neither prices is no difference between them. A link that both take and neither states, such as a wired one, is no difference between them; one that only this
    scenario takes is: its radio and its price have to be stated, be they nothing. Nor is a board that neither states,
    where the model states the energy of an inference: both draw the same while idle.
    """
    used, theirs = used_by(scenario), used_by(other)
    powered = {name for name, node in other.nodes.items() if node.power is not None}
    priced = {name for name, node in other.nodes.items() if node.price is not None}
    boards = {name for name in other.devices if other.board_of(name) is not None}
    radios = {name for name, link in other.links.items() if link.radio is not None}
    fares = {name for name, link in other.links.items() if link.price is not None}
    common = used.links & theirs.links
    found = {
        "energy_j": [
            *_nodes(scenario, used.nodes | powered, "power"),
            *_boards(scenario, boards | {name for name in used.computing if not _alike(scenario, other, name)}),
            *(
                f"links.{name}.radio"
                for name, link in scenario.links.items()
                if name in (used.links - common) | (used.links & radios)
                and link.radio is None
                and set(link.from_) & set(scenario.devices)
            ),
        ],
        "cost": [
            *_nodes(scenario, used.nodes | priced, "price"),
            *(
                f"links.{name}.price"
                for name, link in scenario.links.items()
                if name in (used.links - common) | (used.links & fares) and link.price is None
            ),
        ],
    }
    return {figure: paths for figure, paths in found.items() if paths}


def bystanders(scenario: Scenario) -> list[str]:
    """Nodes that answer nobody and yet are paid for or draw power."""
    used = used_by(scenario)
    return [
        name
        for name, node in scenario.nodes.items()
        if name not in used.nodes and (node.price is not None or node.power is not None)
    ]


def _nodes(scenario: Scenario, names: frozenset[str] | set[str], what: str) -> list[str]:
    return [
        f"nodes.{name}.{what}" for name, node in scenario.nodes.items() if name in names and getattr(node, what) is None
    ]


def _boards(scenario: Scenario, groups: frozenset[str] | set[str]) -> list[str]:
    """Groups without a board: nothing states what their devices draw while idle. The energy of a model does not."""
    return [f"devices.{name}.board" for name in scenario.devices if name in groups and scenario.board_of(name) is None]


def _alike(scenario: Scenario, other: Scenario, group: str) -> bool:
    """Whether all that is not stated of a computing group is what it draws while idle, as it does in the other."""
    artifact = scenario.models[scenario.model_of(group)].device
    return group in other.devices and artifact is not None and artifact.energy is not None


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
