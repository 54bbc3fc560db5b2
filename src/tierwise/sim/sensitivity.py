"""Which stated constants flip which conclusions: two scenarios again, with each constant halved and doubled in both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
from pydantic import BaseModel

from tierwise.scenario.distributions import Distribution
from tierwise.scenario.parts import NodePower
from tierwise.sim.costs import sourced
from tierwise.sim.run import figures_of, simulate
from tierwise.sim.unstated import unstated_against

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.summary import Summary

FACTORS = (0.5, 2.0)
FIGURES = ("energy_j", "cost", "mean_ms")
ANSWERED = "answered_share"
NEITHER = "neither"
LEAST_ANSWERED = 0.5
"""A scenario that answers a smaller share, where the other does not, is the worse one in every figure: the few that it
answers are fast and cheap."""
_NOT_SCALED = {"memory", "size", "accuracy", "confidence", "threshold", "intensity"}
"""Fields that change no figure here, or whose half and double mean nothing."""
_WITHOUT_SOURCE = {"nodes": ("service",), "links": ("latency", "jitter", "bandwidth", "bandwidth_down")}
"""What is stated without a source, and decides as much."""


class Flip(msgspec.Struct, frozen=True):
    """A conclusion that another value of a constant turns round."""

    constant: str
    value: float
    """In base units; of a distribution its mean."""
    source: str
    """Empty where the constant states none."""
    factor: float
    figure: str
    """``answered_share`` where one scenario then answers less than half, or no longer does."""
    better: str
    """The scenario with the better figure as stated, or ``neither``."""
    better_then: str


def scaled(part: BaseModel, path: Sequence[str], factor: float) -> BaseModel:
    """A copy in which the number at the path is multiplied. The same object where the path does not exist.

    A node's busy power goes down to its idle power at most, and that up to the busy one.
    """
    name, rest = path[0], path[1:]
    if name not in type(part).model_fields:
        return part
    value = getattr(part, name)
    if not rest:
        if isinstance(value, Distribution):
            return part.model_copy(update={name: value.scaled(factor)})
        return _multiplied(part, name, value, factor) if isinstance(value, int | float) else part
    if isinstance(value, dict) and rest[0] in value:
        inner = value[rest[0]]
        if isinstance(inner, BaseModel) and len(rest) > 1:
            return part.model_copy(update={name: {**value, rest[0]: scaled(inner, rest[1:], factor)}})
    elif isinstance(value, BaseModel):
        return part.model_copy(update={name: scaled(value, rest, factor)})
    return part


def _multiplied(part: BaseModel, name: str, value: float, factor: float) -> BaseModel:
    number = value * factor
    if isinstance(part, NodePower):  # which would draw less for working than for waiting
        number = max(number, part.idle) if name == "busy" else min(number, part.busy)
    return part.model_copy(update={name: number})


def numbers_of(scenario: Scenario) -> dict[str, tuple[float, str]]:
    """Dotted path → (value in base units, source) of each number that is varied: those with a source, service times of
    nodes, latencies and bandwidths of links. Zeros have neither half nor double."""
    found = {}
    for path, part, names, source in _varied(scenario):
        for name in names:
            value = getattr(part, name)
            number = value.mean if isinstance(value, Distribution) else value
            if isinstance(number, int | float) and not isinstance(number, bool) and number:
                found[f"{path}.{name}"] = (float(number), source)
    return dict(sorted(found.items()))


def _varied(scenario: Scenario) -> Iterator[tuple[str, BaseModel, set[str], str]]:
    for path, part, source in sourced(scenario):
        yield path, part, part.model_fields_set - _NOT_SCALED, source
    for section, names in _WITHOUT_SOURCE.items():
        for name, part in getattr(scenario, section).items():
            yield f"{section}.{name}", part, part.model_fields_set & set(names), ""


def tried(first: Scenario, second: Scenario) -> dict[str, tuple[float, str]]:
    """What ``flips`` halves and doubles: the constants of either scenario, as ``numbers_of`` gives them."""
    return dict(sorted({**numbers_of(first), **numbers_of(second)}.items()))


def flips(
    first: Scenario,
    second: Scenario,
    run: Callable[[Scenario], Summary] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Flip]:
    """Halves and doubles each constant of either scenario in both, and tells where the better one changes.

    Figures that are alike as stated, or become alike, are no conclusions that turn round; nor is a figure of which part
    is not stated. Where one scenario then answers less than half of its requests it has lost, whatever the few cost.
    ``on_progress`` is told (runs done, all).
    """
    runs = (run, run) if run is not None else (with_own_answers(first), with_own_answers(second))
    names = (first.name, second.name) if first.name != second.name else ("first", "second")
    left_out = (set(unstated_against(first, second)), set(unstated_against(second, first)))
    stated = _better(runs[0](first), runs[1](second), left_out)
    constants = tried(first, second)
    found = []
    for number, (path, (value, source)) in enumerate(constants.items()):
        for turn, factor in enumerate(FACTORS):
            steps = path.split(".")
            pair = zip(runs, (first, second), strict=True)
            both = [once(scaled(one, steps, factor)) for once, one in pair]  # type: ignore[arg-type]  # its copy
            changed = _better(both[0], both[1], left_out)
            found += [
                Flip(path, value, source, factor, figure, _name(names, stated, figure), _name(names, changed, figure))
                for figure in _turned(stated, changed)
            ]
            if on_progress is not None:
                on_progress(len(FACTORS) * number + turn + 1, len(FACTORS) * len(constants))
    return found


def _turned(stated: dict[str, int], changed: dict[str, int]) -> list[str]:
    """The figures whose better scenario is another; one that stops answering turns all of them at once."""
    if ANSWERED in changed:
        return [ANSWERED] if stated.get(ANSWERED) != changed[ANSWERED] else []
    turned = [figure for figure in stated if figure in changed and changed[figure] != stated[figure]]
    return turned or ([ANSWERED] if ANSWERED in stated else [])


def _name(names: tuple[str, str], better: dict[str, int], figure: str) -> str:
    return names[better[figure]] if figure in better else NEITHER


def with_own_answers(scenario: Scenario) -> Callable[[Scenario], Summary]:
    """Runs variants of a scenario once each with its seed. Its models answer its samples a single time."""
    from tierwise.sim.answers import compute_answers  # noqa: PLC0415 -- only where models are run

    answers = compute_answers(scenario)
    return lambda variant: simulate(variant, answers=answers)


def _better(first: Summary, second: Summary, left_out: tuple[set[str], set[str]]) -> dict[str, int]:
    """Which of two has the better figure; no entry where they are alike or the lower one is not all stated."""
    one, other = figures_of(first), figures_of(second)
    answers = [figures.get(ANSWERED, 1.0) >= LEAST_ANSWERED for figures in (one, other)]
    if answers[0] != answers[1]:
        return dict.fromkeys((ANSWERED, *FIGURES), int(answers[1]))
    common = [name for name in FIGURES if name in one and name in other]
    found = {name: int(other[name] < one[name]) for name in common if not math.isclose(one[name], other[name])}
    return {name: lower for name, lower in found.items() if name not in left_out[lower]}
