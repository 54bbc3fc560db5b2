"""Which stated constants flip which conclusions: two scenarios again, with each constant halved and doubled in both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
from pydantic import BaseModel

from tierwise.scenario.distributions import Distribution
from tierwise.sim.costs import sourced
from tierwise.sim.run import figures_of, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.summary import Summary

FACTORS = (0.5, 2.0)
FIGURES = ("energy_j", "cost", "mean_ms")
_NOT_SCALED = {"memory", "size", "accuracy", "confidence", "threshold", "intensity"}
"""Fields that change no figure here, or whose half and double mean nothing."""


class Flip(msgspec.Struct, frozen=True):
    """A conclusion that another value of a constant turns round."""

    constant: str
    value: float
    """In base units; of a distribution its mean."""
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
        if isinstance(value, Distribution):
            return part.model_copy(update={name: value.scaled(factor)})
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
    for path, part, source in sourced(scenario):
        for name in part.model_fields_set - _NOT_SCALED:
            value = getattr(part, name)
            number = value.mean if isinstance(value, Distribution) else value
            if isinstance(number, int | float) and not isinstance(number, bool) and number:
                found[f"{path}.{name}"] = (float(number), source)
    return dict(sorted(found.items()))


def flips(first: Scenario, second: Scenario, run: Callable[[Scenario], Summary] | None = None) -> list[Flip]:
    """Halves and doubles each constant of either scenario in both, and tells where the better one changes.

    Figures that are alike as stated, or become alike, are no conclusions that turn round.
    """
    runs = (run, run) if run is not None else (with_own_answers(first), with_own_answers(second))
    names = (first.name, second.name) if first.name != second.name else ("first", "second")
    stated = _better(runs[0](first), runs[1](second))
    found = []
    for path, (value, source) in {**numbers_of(first), **numbers_of(second)}.items():
        for factor in FACTORS:
            steps = path.split(".")
            pair = zip(runs, (first, second), strict=True)
            changed = _better(*(once(scaled(one, steps, factor)) for once, one in pair))  # type: ignore[arg-type]  # its copy
            found += [
                Flip(path, value, source, factor, figure, names[stated[figure]], names[changed[figure]])
                for figure in stated
                if figure in changed and changed[figure] != stated[figure]
            ]
    return found


def with_own_answers(scenario: Scenario) -> Callable[[Scenario], Summary]:
    """Runs variants of a scenario once each with its seed. Its models answer its samples a single time."""
    from tierwise.sim.answers import compute_answers  # noqa: PLC0415 -- only where models are run

    answers = compute_answers(scenario)
    return lambda variant: simulate(variant, answers=answers)


def _better(first: Summary, second: Summary) -> dict[str, int]:
    """Which of two has the lower figure; no entry where they are alike."""
    one, other = figures_of(first), figures_of(second)
    common = [name for name in FIGURES if name in one and name in other]
    return {name: int(other[name] < one[name]) for name in common if not math.isclose(one[name], other[name])}
