"""Which stated constants flip which conclusions: two scenarios again, with each constant halved and doubled in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from pydantic import BaseModel

from tierwise.sim.costs import constants_of
from tierwise.sim.run import figures_of, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.summary import Summary

FACTORS = (0.5, 2.0)
FIGURES = ("energy_j", "cost", "mean_ms")
_NOT_SCALED = {"memory", "size", "accuracy", "threshold"}


class Flip(msgspec.Struct, frozen=True):
    """A conclusion that another value of a constant turns round."""

    constant: str
    value: float
    source: str
    factor: float
    figure: str
    better: str
    """The scenario with the lower figure as stated."""
    better_then: str


def scaled(part: BaseModel, path: Sequence[str], factor: float) -> BaseModel:
    """A copy in which the number at the path is multiplied. The same object where the path does not exist."""
    name, rest = path[0], path[1:]
    if name not in type(part).model_fields:
        return part
    value = getattr(part, name)
    if not rest:
        return part.model_copy(update={name: value * factor}) if isinstance(value, int | float) else part
    if isinstance(value, dict) and rest[0] in value:
        inner = value[rest[0]]
        if isinstance(inner, BaseModel) and len(rest) > 1:
            return part.model_copy(update={name: {**value, rest[0]: scaled(inner, rest[1:], factor)}})
    elif isinstance(value, BaseModel):
        return part.model_copy(update={name: scaled(value, rest, factor)})
    return part


def numbers_of(scenario: Scenario) -> dict[str, tuple[float, str]]:
    """Dotted path → (value in base units, source) of each number with a source that is not zero."""
    found = {}
    for constant in constants_of(scenario):
        for key, value in constant.value.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and value and key not in _NOT_SCALED:
                found[f"{constant.path}.{key}"] = (float(value), constant.source)
    return found


def flips(first: Scenario, second: Scenario, run: Callable[[Scenario], Summary] | None = None) -> list[Flip]:
    """Halves and doubles each constant of either scenario in both, and tells where the better one changes."""
    once = run or simulate_once
    names = (first.name, second.name) if first.name != second.name else ("first", "second")
    stated = _better(once(first), once(second))
    found = []
    for path, (value, source) in {**numbers_of(first), **numbers_of(second)}.items():
        for factor in FACTORS:
            steps = path.split(".")
            pair = [once(scaled(one, steps, factor)) for one in (first, second)]  # type: ignore[arg-type]  # its copy
            changed = _better(*pair)
            found += [
                Flip(path, value, source, factor, figure, names[stated[figure]], names[changed[figure]])
                for figure in stated
                if figure in changed and changed[figure] != stated[figure]
            ]
    return found


def simulate_once(scenario: Scenario) -> Summary:
    """One run with the scenario's own seed."""
    from tierwise.sim.answers import compute_answers  # noqa: PLC0415 -- only where models are run

    return simulate(scenario, answers=compute_answers(scenario))


def _better(first: Summary, second: Summary) -> dict[str, int]:
    one, other = figures_of(first), figures_of(second)
    return {name: int(other[name] < one[name]) for name in FIGURES if name in one and name in other}
