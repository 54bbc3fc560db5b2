"""Two scenarios with common random numbers: each request of one meets the same dice in the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tierwise.sim.histogram import Cumulative, Histogram
from tierwise.sim.run import figures_of, replication_seed, simulate
from tierwise.sim.statistics import Interval, of_independent
from tierwise.sim.unstated import bystanders, unstated_against

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
    """Whether the interval leaves out zero, and the lower figure is a whole one: see ``undecided``."""
    pairs: list[float] = []
    """Second minus first of each pair of runs."""
    first_unstated: list[str] = []
    """What the first scenario would have to state for its figure to be whole; until then it is a least value."""
    second_unstated: list[str] = []

    @property
    def undecided(self) -> bool:
        """Whether the lower figure may only be the lower one because part of it is not stated.

        What is not stated can only add: a whole figure below a least value stays below.
        """
        lower = self.second_unstated if self.difference.mean < 0 else self.first_unstated
        return bool(lower or (not self.difference.mean and self.second_unstated))


class Comparison(msgspec.Struct, frozen=True):
    """What changes from the first scenario to the second."""

    first: str
    second: str
    replications: int
    figures: dict[str, Difference]
    latencies: tuple[dict[str, Cumulative], dict[str, Cumulative]] = ({}, {})
    """Of the first and the second, by tier: of all runs together. Empty where another ``run`` was given."""
    first_idle: list[str] = []
    """Nodes of the first that answer nobody, and yet are paid for or draw power."""
    second_idle: list[str] = []


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
    histograms = Histogram(), Histogram()
    if run is None:
        runs = with_own_answers(first, histograms[0]), with_own_answers(second, histograms[1])
    else:
        runs = run, run
    pairs = []
    for number in range(replications):
        own = replication_seed(start, number)
        pairs.append((figures_of(runs[0](first, own)), figures_of(runs[1](second, own))))
    names = [name for name in pairs[0][0] if all(name in one and name in other for one, other in pairs)]
    left_out = unstated_against(first, second), unstated_against(second, first)
    figures = {}
    for name in names:
        differences = [other[name] - one[name] for one, other in pairs]
        interval = of_independent(differences, "paired replications")
        difference = Difference(
            first=sum(one[name] for one, _ in pairs) / replications,
            second=sum(other[name] for _, other in pairs) / replications,
            difference=interval,
            significant=interval.half_width is not None and abs(interval.mean) > interval.half_width,
            pairs=differences,
            first_unstated=left_out[0].get(name, []),
            second_unstated=left_out[1].get(name, []),
        )
        sure = difference.significant and not difference.undecided
        figures[name] = msgspec.structs.replace(difference, significant=sure)
    latencies = histograms[0].cumulative(), histograms[1].cumulative()
    return Comparison(first.name, second.name, replications, figures, latencies, bystanders(first), bystanders(second))


def with_own_answers(scenario: Scenario, histogram: Histogram | None = None) -> Callable[[Scenario, int], Summary]:
    """Runs variants of a scenario, each once with a seed. Its models answer its samples a single time, not each time.

    ``histogram`` takes the latencies of all runs.
    """
    from tierwise.sim.answers import compute_answers  # noqa: PLC0415 -- only where models are run

    answers = compute_answers(scenario)

    sinks = None if histogram is None else lambda plan: [histogram.of(plan)]

    def once(one: Scenario, seed: int) -> Summary:
        alone = one.model_copy(update={"run": one.run.model_copy(update={"replications": 1})})
        return simulate(alone, seed=seed, answers=answers, sinks=sinks)

    return once
