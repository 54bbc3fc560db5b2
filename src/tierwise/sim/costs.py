"""Energy, money and carbon of a run, and the constants they rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from pydantic import BaseModel

from tierwise.scenario.distributions import Distribution
from tierwise.scenario.units import format_ns
from tierwise.sim.kernel.tables import D_DEAD, L_BYTES, N_BUSY, N_SERVED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.plan import Plan

_S = 1e-9
_HOUR = 3600.0
_KWH = 3.6e6
Steps = tuple[str, ...]
"""A path, step by step: names may have dots."""
_SHARES = {"confidence"}  # the distributions that are none of durations


class Energy(msgspec.Struct, frozen=True):
    """Joules in the whole run."""

    total: float
    device_active: float
    """Inference and radio."""
    device_idle: float
    nodes: dict[str, float]


class Cost(msgspec.Struct, frozen=True):
    """In the currency of the scenario's prices, for the whole run."""

    total: float
    nodes: dict[str, float]
    links: dict[str, float]


class Constant(msgspec.Struct, frozen=True):
    """A stated constant and where it comes from."""

    path: str
    value: dict[str, Any]
    source: str


def energy_of(plan: Plan, active_nj: int) -> Energy:
    """Energy of all tiers; ``active_nj`` is what the requests cost their devices.

    A node takes P_idle * T + (P_busy - P_idle) * busy time / workers.
    """
    scenario = plan.scenario
    duration = scenario.run.duration
    idle = 0.0
    for name, group in scenario.devices.items():
        first = plan.first_device[name]
        alive = np.minimum(plan.devices[first : first + group.count, D_DEAD], duration)
        idle += scenario.idle_power_of(name) * float(alive.sum()) * _S
    nodes = {}
    for name, node in scenario.nodes.items():
        if node.power is not None:
            busy = int(plan.ints[plan.nodes[name], N_BUSY]) * _S / node.workers
            nodes[name] = node.power.idle * duration * _S + (node.power.busy - node.power.idle) * busy
    active = active_nj * _S
    return Energy(active + idle + sum(nodes.values()), active, idle, nodes)


def cost_of(plan: Plan) -> Cost:
    """Money: nodes by the hour and by the request, links by the byte."""
    scenario = plan.scenario
    hours = scenario.run.duration * _S / _HOUR
    nodes = {}
    for name, node in scenario.nodes.items():
        if node.price is not None:
            served = int(plan.ints[plan.nodes[name], N_SERVED])
            nodes[name] = node.price.per_hour * hours + node.price.per_request * served
    links = {}
    for name, link in scenario.links.items():
        if link.price is not None:
            carried = sum(int(plan.ints[plan.links[name, way], L_BYTES]) for way in (0, 1))
            links[name] = link.price.per_gb * carried / 1e9
    return Cost(sum(nodes.values()) + sum(links.values()), nodes, links)


def carbon_g(scenario: Scenario, energy_j: float) -> float | None:
    """Gram CO2 of the electricity; ``None`` without a stated intensity."""
    return None if scenario.carbon is None else scenario.carbon.intensity * energy_j / _KWH


def sourced(scenario: Scenario) -> Iterator[tuple[Steps, BaseModel, str]]:
    """Every section that names a source: its path, itself, the source."""
    waiting: list[tuple[Steps, object]] = [((), scenario)]
    while waiting:
        path, part = waiting.pop(0)
        inner = part if isinstance(part, dict) else {}
        if isinstance(part, BaseModel):
            source = getattr(part, "source", None)
            if isinstance(source, str):
                yield path, part, source
            inner = {field.alias or name: getattr(part, name) for name, field in type(part).model_fields.items()}
        waiting = [((*path, str(key)), item) for key, item in inner.items()] + waiting


def constants_of(scenario: Scenario) -> list[Constant]:
    """What the sections with a source state; distributions are written as the scenario writes them."""
    found = []
    for path, part, source in sourced(scenario):
        stated = {name: _stated(name, getattr(part, name)) for name in part.model_fields_set if name != "source"}
        value = {name: stated[name] for name in type(part).model_fields if stated.get(name) is not None}
        found.append(Constant(".".join(path), value, source))
    return found


def _stated(name: str, value: object) -> float | str | None:
    if isinstance(value, Distribution):
        return value.written("{:g}".format if name in _SHARES else lambda ns: format_ns(round(ns)))
    return value if isinstance(value, int | float | str) else None
