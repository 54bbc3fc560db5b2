"""Which stated constants flip which conclusions: two scenarios again, with each constant halved and doubled in both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from tierwise.scenario.distributions import Distribution
from tierwise.scenario.parts import NodePower
from tierwise.sim.compare import with_own_answers
from tierwise.sim.costs import sourced
from tierwise.sim.run import figures_of
from tierwise.sim.unstated import unstated_against

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydantic import BaseModel

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.compare import Comparison
    from tierwise.sim.costs import Steps
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


def scaled(scenario: Scenario, path: Steps, factor: float) -> Scenario:
    """A copy in which the number at the path is multiplied. Raises ``LookupError`` or ``AttributeError`` where the
    scenario has none there.

    A node's busy power goes down to its idle power at most, and that up to the busy one.
    """
    copy: Scenario = _scaled(scenario, path, factor)
    return copy


def _scaled(part: Any, path: Sequence[str], factor: float) -> Any:  # noqa: ANN401 -- a section, a mapping or a number
    if not path:
        return part.scaled(factor) if isinstance(part, Distribution) else part * factor
    name, *rest = path
    if isinstance(part, dict):
        return {**part, name: _scaled(part[name], rest, factor)}
    changed = _scaled(getattr(part, name), rest, factor)
    if isinstance(part, NodePower) and name in {"idle", "busy"}:  # would draw less for working than for waiting
        changed = max(changed, part.idle) if name == "busy" else min(changed, part.busy)
    return part.model_copy(update={name: changed})


def numbers_of(scenario: Scenario) -> dict[Steps, tuple[float, str]]:
    """Path → (value in base units, source) of each number that is varied: those with a source, service times of
    nodes, latencies and bandwidths of links. Zeros have neither half nor double."""
    found = {}
    for path, part, names, source in _varied(scenario):
        for name in names:
            value = getattr(part, name)
            number = value.mean if isinstance(value, Distribution) else value
            if isinstance(number, int | float) and not isinstance(number, bool) and number:
                found[*path, name] = (float(number), source)
    return dict(sorted(found.items()))


def _varied(scenario: Scenario) -> Iterator[tuple[Steps, BaseModel, set[str], str]]:
    for path, part, source in sourced(scenario):
        yield path, part, part.model_fields_set - _NOT_SCALED, source
    for section, names in _WITHOUT_SOURCE.items():
        for name, part in getattr(scenario, section).items():
            yield (section, name), part, part.model_fields_set & set(names), ""


def tried(first: Scenario, second: Scenario) -> list[str]:
    """What ``flips`` halves and doubles: the dotted paths of the constants of either scenario."""
    return [".".join(path) for path in _of_both(first, second)]


def _of_both(first: Scenario, second: Scenario) -> dict[Steps, tuple[float, str]]:
    return dict(sorted({**numbers_of(first), **numbers_of(second)}.items()))


def flips(
    first: Scenario,
    second: Scenario,
    *,
    seed: int | None = None,
    compared: Comparison | None = None,
    run: Callable[[Scenario, int], Summary] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Flip]:
    """Halves and doubles each constant of either scenario in both, and tells where the better one changes.

    Each variant of both is run once, with the one ``seed`` (else the first scenario's), as the first pair of a
    comparison is. Of ``compared``, that comparison, only what is significant is a conclusion that can turn round.
    Figures that are alike as stated, or become alike, are none; nor is a figure of which part
    is not stated. Where one scenario then answers less than half of its requests it has lost, whatever the few cost.
    ``on_progress`` is told (runs done, all).
    """
    start = first.run.seed if seed is None else seed
    runs = (run, run) if run is not None else (with_own_answers(first), with_own_answers(second))
    names = (first.name, second.name) if first.name != second.name else ("first", "second")
    left_out = (set(unstated_against(first, second)), set(unstated_against(second, first)))
    stated = _better(runs[0](first, start), runs[1](second, start), left_out)
    if compared is not None:
        stated = _concluded(stated, compared)
    constants = _of_both(first, second)
    own = (numbers_of(first), numbers_of(second))
    found = []
    for number, (path, (value, source)) in enumerate(constants.items()):
        for turn, factor in enumerate(FACTORS):
            both = [
                once(scaled(one, path, factor) if path in has else one, start)
                for once, one, has in zip(runs, (first, second), own, strict=True)
            ]
            changed = _better(both[0], both[1], left_out)
            found += [
                Flip(
                    ".".join(path),
                    value,
                    source,
                    factor,
                    figure,
                    _name(names, stated, figure),
                    _name(names, changed, figure),
                )
                for figure in _turned(stated, changed)
            ]
            if on_progress is not None:
                on_progress(len(FACTORS) * number + turn + 1, len(FACTORS) * len(constants))
    return found


def _concluded(stated: dict[str, int], compared: Comparison) -> dict[str, int]:
    """What one pair of runs says where all pairs of the comparison together say the same."""
    if ANSWERED in stated:
        return stated
    sure = {name: int(one.difference.mean < 0) for name, one in compared.figures.items() if one.significant}
    return {name: lower for name, lower in stated.items() if sure.get(name) == lower}


def _turned(stated: dict[str, int], changed: dict[str, int]) -> list[str]:
    """The figures whose better scenario is another; one that stops answering turns all of them at once."""
    if ANSWERED in changed:
        return [ANSWERED] if stated.get(ANSWERED) != changed[ANSWERED] else []
    turned = [figure for figure in stated if figure in changed and changed[figure] != stated[figure]]
    return turned or ([ANSWERED] if ANSWERED in stated else [])


def _name(names: tuple[str, str], better: dict[str, int], figure: str) -> str:
    return names[better[figure]] if figure in better else NEITHER


def _better(first: Summary, second: Summary, left_out: tuple[set[str], set[str]]) -> dict[str, int]:
    """Which of two has the better figure; no entry where they are alike or the lower one is not all stated."""
    one, other = figures_of(first), figures_of(second)
    answers = [figures.get(ANSWERED, 1.0) >= LEAST_ANSWERED for figures in (one, other)]
    if answers[0] != answers[1]:
        return dict.fromkeys((ANSWERED, *FIGURES), int(answers[1]))
    common = [name for name in FIGURES if name in one and name in other]
    found = {name: int(other[name] < one[name]) for name in common if not math.isclose(one[name], other[name])}
    return {name: lower for name, lower in found.items() if name not in left_out[lower]}
