"""Asks placement policies in Python what to do with a request: expressions, and what entry points offer."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from tierwise import policy
from tierwise.core.errors import ConfigurationError
from tierwise.scenario.expression import parse_expression
from tierwise.scenario.schema import Custom, Expression
from tierwise.sim.kernel.heap import order_of, push
from tierwise.sim.kernel.loop import confidence_of
from tierwise.sim.kernel.tables import (
    C_ASKED,
    C_NOW,
    D_SPENT,
    G_BATTERY,
    GF_IDLE,
    KINDS,
    N_LENGTH,
    N_RUNNING,
    R_DEVICE,
    R_PC,
    STEP,
    T_ASK_DEVICE,
    T_CODE,
    T_GROUP,
    T_NEXT,
    T_RANK,
)
from tierwise.sim.programs import TIER_CODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.policy import Decide
    from tierwise.sim.kernel.tables import Machine
    from tierwise.sim.plan import Plan

GROUP = "tierwise.policies"
_TIERS = tuple(TIER_CODES)


def load_policy(rule: Custom) -> Decide:
    """The policy of an entry point ``name = "module:factory"``; the factory takes the options by name.

    Raises ``ConfigurationError`` where there is none, or where it refuses the options.
    """
    found = [entry for entry in entry_points(group=GROUP) if entry.name == rule.policy]
    if not found:
        known = ", ".join(sorted(entry.name for entry in entry_points(group=GROUP))) or "none"
        raise ConfigurationError(f"no package offers the policy {rule.policy!r} (known: {known})")
    try:
        decide: Decide = found[0].load()(**rule.options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"the policy {rule.policy!r} cannot be made: {error}") from error
    return decide


def decider(plan: Plan) -> Callable[[Machine], None] | None:
    """What the event engine calls when a request waits for a decision; ``None`` where no rule needs it."""
    rules: dict[int, Decide] = {}
    for name, row in plan.groups.items():
        rule = plan.scenario.rule(name)
        if isinstance(rule, Expression):
            rules[row] = policy.expression(parse_expression(rule.expression))
        elif isinstance(rule, Custom):
            rules[row] = load_policy(rule)
    if not rules:
        return None
    names = {row: name for name, row in plan.groups.items()}
    asked_before = {pc: _asked(int(plan.ints[pc, T_CODE])) for pc in plan.queues}
    nodes = {pc: tuple(found.items()) for pc, found in plan.queues.items()}
    groups = {pc: int(plan.ints[pc, T_GROUP]) for pc in plan.queues}

    def decide(machine: Machine) -> None:
        clock, ints = machine.clock, machine.ints
        request = machine.requests[clock[C_ASKED]]
        pc = int(request[R_PC])
        group = groups[pc]
        device = int(request[R_DEVICE])
        asked = asked_before[pc]
        situation = policy.Situation(
            group=names[group],
            device=device,
            time_s=clock[C_NOW] * 1e-9,
            asked=asked,
            confidence=confidence_of(machine, clock[C_ASKED], pc) if asked else 0.0,
            queues={tier: int(ints[node, N_LENGTH] + ints[node, N_RUNNING]) for tier, node in nodes[pc]},
            battery=_battery(machine, group, device),
        )
        tier = rules[group](situation)
        following = int(ints[pc, T_NEXT] if tier is None else ints[pc, T_ASK_DEVICE + TIER_CODES.get(tier, -1)])
        if tier is not None and (tier not in TIER_CODES or following < 0):
            raise ConfigurationError(f"the policy of {names[group]!r} chose {tier!r}, which cannot answer here")
        if tier is None and not asked:
            raise ConfigurationError(f"the policy of {names[group]!r} chose no tier for a new request")
        _go_on(machine, following)

    return decide


def _go_on(machine: Machine, following: int) -> None:
    slot = int(machine.clock[C_ASKED])
    machine.requests[slot, R_PC] = following
    order = order_of(machine, slot, int(machine.ints[following, T_RANK]) * 2 + 1)
    push(machine, int(machine.clock[C_NOW]), order, slot * KINDS + STEP)


def _battery(machine: Machine, group: int, device: int) -> float:
    capacity = int(machine.ints[group, G_BATTERY])
    if capacity < 0:
        return 1.0
    spent = machine.devices[device, D_SPENT] + machine.floats[group, GF_IDLE] * machine.clock[C_NOW]
    return max(0.0, 1.0 - float(spent) / max(1, capacity))


def _asked(code: int) -> tuple[str, ...]:
    tiers = []
    while code:
        tiers.append(_TIERS[code % 4 - 1])
        code //= 4
    return tuple(tiers)
