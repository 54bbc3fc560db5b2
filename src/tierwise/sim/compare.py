"""Two scenarios with common random numbers: each request of one meets the same dice in the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tierwise.sim.run import figures_of, replication_seed, simulate
from tierwise.sim.statistics import Interval, of_independent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.summary import Summary

LEAST_REPLICATIONS = 5


class Difference(msgspec.Struct, frozen=True):
    """One figure of both, and the paired interval of second minus first."""

    first: float
    second: float
    difference: Interval
    significant: bool
    """Whether the interval leaves out zero."""


class Comparison(msgspec.Struct, frozen=True):
    """What changes from the first scenario to the second."""

    first: str
    second: str
    replications: int
    figures: dict[str, Difference]


def compare(
    first: Scenario,
    second: Scenario,
    *,
    seed: int | None = None,
    run: Callable[[Scenario, int], Summary] | None = None,
) -> Comparison:
    """Runs both with the same seeds, at least five times, and gives paired intervals.

    Streams of random numbers belong to entities, purposes and request numbers, so what the scenarios share is drawn
    alike, and the difference has less noise than either figure.
    """
    start = first.run.seed if seed is None else seed
    replications = max(first.run.replications, second.run.replications, LEAST_REPLICATIONS)
    once = run or _simulate_once
    pairs = []
    for number in range(replications):
        own = replication_seed(start, number)
        pairs.append((figures_of(once(first, own)), figures_of(once(second, own))))
    names = [name for name in pairs[0][0] if all(name in one and name in other for one, other in pairs)]
    figures = {}
    for name in names:
        interval = of_independent([other[name] - one[name] for one, other in pairs], "paired replications")
        figures[name] = Difference(
            first=sum(one[name] for one, _ in pairs) / replications,
            second=sum(other[name] for _, other in pairs) / replications,
            difference=interval,
            significant=abs(interval.mean) > (interval.half_width or 0.0),
        )
    return Comparison(first.name, second.name, replications, figures)


def _simulate_once(scenario: Scenario, seed: int) -> Summary:
    from tierwise.sim.answers import compute_answers  # noqa: PLC0415 -- only where models are run

    once = scenario.model_copy(update={"run": scenario.run.model_copy(update={"replications": 1})})
    return simulate(once, seed=seed, answers=compute_answers(scenario))
