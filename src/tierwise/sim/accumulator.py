"""Counts finished requests as they come: what a summary is made of."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from tierwise.scenario.schema import MultiStream
from tierwise.sim.kernel import tables as t
from tierwise.sim.metrics import ClassCounts
from tierwise.sim.truth import right_answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan
    from tierwise.sim.rows import Rows


class Accumulator:
    """A sink that keeps latencies, sums and counts; nanoseconds and nanojoules."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.warm_up = plan.scenario.run.warm_up
        self.requests = 0
        self.first_made = plan.scenario.run.duration
        """When the first of them was made, nanoseconds."""
        self.outcomes = np.zeros(len(t.OUTCOMES), np.int64)
        self.latencies: list[NDArray[np.int64]] = []
        self.unanswered: list[NDArray[np.int64]] = []
        self.tiers: list[NDArray[np.int8] | int] = []
        self.parts = np.zeros((len(t.TIERS), 5), np.int64)
        self.active_nj = 0
        self.classes: dict[str, ClassCounts] = defaultdict(ClassCounts)
        models = list(plan.scenario.models)
        self.models = models
        self.model_of = np.zeros(1 + max(plan.groups.values()), np.int64)
        for name, row in plan.groups.items():
            self.model_of[row] = models.index(plan.scenario.model_of(name))
        self.queries = {
            row: Queries(traffic.samples)
            for name, row in plan.groups.items()
            if isinstance(traffic := plan.scenario.traffic_of(name), MultiStream)
        }

    def take(self, rows: Rows) -> None:
        """See ``Sink``."""
        energy = rows.columns[t.R_ENERGY]
        self.active_nj += energy * rows.size if isinstance(energy, int) else int(energy.sum())
        if self.warm_up:
            rows = rows.take(rows[t.R_CREATED] >= self.warm_up)
        if rows.size:
            self.requests += rows.size
            self.first_made = min(self.first_made, int(rows[t.R_CREATED].min()))
        for row, queries in self.queries.items():
            queries.take(rows.take(self.plan.group_of[rows[t.R_DEVICE]] == row))
        outcome = rows.columns[t.R_OUTCOME]
        if isinstance(outcome, int):
            self.outcomes[outcome] += rows.size
            if outcome == t.IN_FLIGHT:
                self.unanswered.append(rows[t.R_CREATED])
        else:
            self.outcomes += np.bincount(outcome, minlength=len(t.OUTCOMES))
            if (under_way := outcome == t.IN_FLIGHT).any():
                self.unanswered.append(rows.take(under_way)[t.R_CREATED])
            rows = rows.take(outcome == t.ANSWERED)
            outcome = t.ANSWERED
        if outcome != t.ANSWERED or not rows.size:
            return
        self.latencies.append(rows[t.R_ANSWERED] - rows[t.R_CREATED])
        tier = rows.columns[t.R_TIER]
        self.tiers.append(tier if isinstance(tier, int) else tier.astype(np.int8))
        for code in [tier] if isinstance(tier, int) else np.unique(tier).tolist():
            own = rows if isinstance(tier, int) else rows.take(tier == code)
            self._of_tier(own, code)

    def ages(self) -> NDArray[np.int64]:
        """How long the requests that are under way at the end have been so, nanoseconds."""
        created = np.concatenate(self.unanswered) if self.unanswered else np.empty(0, np.int64)
        return self.plan.scenario.run.duration - created

    def _of_tier(self, rows: Rows, tier: int) -> None:
        total = [
            _sum(rows, column)
            for column in (t.R_CREATED, t.R_SENT, t.R_ARRIVED, t.R_STARTED, t.R_FINISHED, t.R_ANSWERED)
        ]
        created, sent, arrived, started, finished, answered = total
        if isinstance(rows.columns[t.R_SENT], int):  # never sent: answered by the device
            sent, arrived_there = created, created
        else:
            arrived_there = arrived
        first = arrived_there if tier else created
        before = (sent - created) if tier else 0
        self.parts[tier] += (before, first - created - before, started - first, finished - started, answered - finished)
        several = len(self.models) > 1
        asked = self.model_of[self.plan.group_of[rows[t.R_DEVICE]]] if several else None
        for number, model in enumerate(self.models):
            own = rows if asked is None else rows.take(asked == number)
            if own.size:
                self.classes[t.TIERS[tier]].add(self.plan, own, model, t.TIERS[tier], right_answers)


class Queries:
    """Counts the queries of a MultiStream group; the samples of one are made at one instant and come together."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.made = 0
        self.latencies: list[NDArray[np.int64]] = []

    def take(self, rows: Rows) -> None:
        """Rows of the group, in the order in which they were made."""
        first = np.flatnonzero(rows[t.R_K] % self.samples == 0)
        if first.size:
            complete = np.logical_and.reduceat(rows[t.R_OUTCOME] == t.ANSWERED, first)
            longest = np.maximum.reduceat(rows[t.R_ANSWERED] - rows[t.R_CREATED], first)
            self.made += first.size
            self.latencies.append(longest[complete])


def _sum(rows: Rows, index: int) -> int:
    column = rows.columns[index]
    return column * rows.size if isinstance(column, int) else int(column.sum())
