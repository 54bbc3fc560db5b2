"""Asks placement policies in Python what to do with a request: expressions, and what entry points offer."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple

from tierwise import policy
from tierwise.core.errors import ConfigurationError
from tierwise.scenario.expression import parse_expression
from tierwise.scenario.schema import Custom, Expression
from tierwise.sim.kernel.loop import confidence_of
from tierwise.sim.kernel.tables import (
    C_ASKED,
    C_ASKED_DEVICE,
    C_ASKED_STEP,
    C_NOW,
    D_SPENT,
    G_BATTERY,
    GF_IDLE,
    INTS,
    N_LENGTH,
    N_RUNNING,
    T_ASK_DEVICE,
    T_CODE,
    T_GROUP,
    T_NEXT,
)
from tierwise.sim.programs import TIER_CODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.policy import Decide
    from tierwise.sim.kernel.tables import Machine
    from tierwise.sim.plan import Plan

GROUP = "tierwise.policies"
GIVE_UP = -2
"""A policy's answer instead of a step: it asks nobody, and there is no answer to keep."""
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
    except Exception as error:  # whatever the code of others raises
        raise ConfigurationError(f"the policy {rule.policy!r} cannot be made: {_named(error)}") from error
    return decide


def decider(plan: Plan) -> Callable[[Machine], int] | None:
    """Gives the next step of a request that waits for a decision; ``None`` where no rule in Python is needed."""
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
    points = {pc: _point(plan, pc, rules, names) for pc in plan.queues}
    ints = plan.ints.reshape(-1).data  # gives Python's integers, several times faster than numpy's

    def decide(machine: Machine) -> int:
        clock = machine.clock.data
        point = points[clock[C_ASKED_STEP]]
        device = clock[C_ASKED_DEVICE]
        situation = policy.Situation(
            group=point.name,
            device=device,
            time_s=clock[C_NOW] * 1e-9,
            asked=point.asked,
            failed=point.failed,
            confidence=confidence_of(machine, clock[C_ASKED], point.step) if point.answered else 0.0,
            queues={tier: ints[first + N_LENGTH] + ints[first + N_RUNNING] for tier, first in point.nodes},
            battery=_battery(machine, point.group, device) if point.has_battery else 1.0,
        )
        try:
            tier = point.rule(situation)
        except Exception as error:  # whatever the code of others raises
            what = f"the policy of {point.name!r} failed at {situation.time_s:g} s"
            raise ConfigurationError(f"{what}: {_named(error)}") from error
        following = point.ways.get(tier, -1)
        if following < 0 and tier is None and point.failed:
            return GIVE_UP
        if following < 0:
            what = "no tier for a new request" if tier is None else f"{tier!r}, which cannot answer here"
            raise ConfigurationError(f"the policy of {point.name!r} chose {what}")
        return following

    return decide


class _Point(NamedTuple):
    """A step at which Python decides."""

    step: int
    group: int
    name: str
    rule: Decide
    asked: tuple[str, ...]
    failed: bool
    nodes: tuple[tuple[str, int], ...]
    """Tiers, and where the columns of their nodes begin."""
    ways: dict[str | None, int]
    has_battery: bool

    @property
    def answered(self) -> bool:
        """Whether the last tier has answered."""
        return bool(self.asked) and not self.failed


def _point(plan: Plan, pc: int, rules: dict[int, Decide], names: dict[int, str]) -> _Point:
    step = plan.ints[pc]
    group = int(step[T_GROUP])
    ways: dict[str | None, int] = {tier: int(step[T_ASK_DEVICE + code]) for tier, code in TIER_CODES.items()}
    ways[None] = int(step[T_NEXT])
    return _Point(
        step=pc,
        group=group,
        name=names[group],
        rule=rules[group],
        asked=_asked(int(step[T_CODE])),
        failed=pc in plan.late,
        nodes=tuple((tier, node * INTS) for tier, node in plan.queues[pc].items()),
        ways=ways,
        has_battery=int(plan.ints[group, G_BATTERY]) >= 0,
    )


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


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
