"""Energy, money and carbon of a run, and the constants they rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tierwise.sim.kernel.tables import D_DEAD, L_BYTES, N_BUSY, N_SERVED

if TYPE_CHECKING:
    from tierwise.scenario.schema import Scenario
    from tierwise.sim.plan import Plan

_S = 1e-9
_HOUR = 3600.0
_KWH = 3.6e6


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
        board = scenario.board_of(name)
        if board is not None:
            first = plan.first_device[name]
            alive = np.minimum(plan.devices[first : first + group.count, D_DEAD], duration)
            idle += board.idle_power * float(alive.sum()) * _S
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


def constants_of(scenario: Scenario) -> list[Constant]:
    """Every section with a source."""
    found: list[Constant] = []

    def visit(value: Any, path: str) -> None:  # noqa: ANN401 -- any JSON value
        if isinstance(value, dict):
            if isinstance(value.get("source"), str):
                stated = {
                    key: item
                    for key, item in value.items()
                    if key != "source" and item is not None and isinstance(item, int | float | str)
                }
                found.append(Constant(path, stated, value["source"]))
            for key, item in value.items():
                visit(item, f"{path}.{key}" if path else key)

    visit(scenario.model_dump(warnings=False), "")
    return found
