"""What a run comes to: counts, latency, accuracy, energy, cost, the state of links and nodes, objectives."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tierwise.sim.costs import Constant, Cost, Energy, carbon_g, constants_of, cost_of, energy_of
from tierwise.sim.kernel import tables as t
from tierwise.sim.metrics import ClassCounts, Quality, quality_of
from tierwise.sim.statistics import Interval, batch_means, quantiles
from tierwise.sim.truth import right_answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan
    from tierwise.sim.rows import Rows

TIERS = ("device", "edge", "cloud")
_MS = 1e-6
_HOUR_NS = 3.6e12


class Latency(msgspec.Struct, frozen=True):
    """From the making of a request to its answer at the device, milliseconds."""

    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class Breakdown(msgspec.Struct, frozen=True):
    """Mean milliseconds of an answered request, by where they went."""

    before_sending: float
    uplink: float
    queue: float
    inference: float
    downlink: float


class TierSummary(msgspec.Struct, frozen=True):
    """Of the requests that one tier answered."""

    answered: int
    end_to_end_ms: Latency | None
    breakdown_ms: Breakdown | None
    quality: Quality


class LinkSummary(msgspec.Struct, frozen=True):
    """One direction of a link, over the whole run. Every try is a message."""

    messages: int
    delivered: int
    lost: int
    cut: int
    refused: int
    retries: int
    bytes: int
    utilisation: float
    mean_wait_ms: float


class NodeSummary(msgspec.Struct, frozen=True):
    """A node, over the whole run."""

    offered: int
    served: int
    refused: int
    cut: int
    batches: int
    mean_batch: float
    utilisation: float
    mean_wait_ms: float
    mean_queue: float
    longest_queue: int
    waiting_at_end: int


class Summary(msgspec.Struct, frozen=True):
    """A run. Requests made in the warm-up are left out, except of energy, cost, links and nodes."""

    scenario: str
    seed: int
    requests: int
    answered: int
    in_flight: int
    dropped: dict[str, int]
    end_to_end_ms: Latency | None
    end_to_end_interval_ms: Interval | None
    breakdown_ms: Breakdown | None
    by_tier: dict[str, TierSummary]
    accuracy: float | None
    quality: Quality
    energy_j: Energy
    cost: Cost
    carbon_g: float | None
    links: dict[str, dict[str, LinkSummary]]
    nodes: dict[str, NodeSummary]
    silent_devices: int
    slo: dict[str, bool]
    constants: list[Constant]
    engine: str
    trace_sha256: str
    simulated_s: float
    wall_s: float = 0.0
    replications: dict[str, Interval] = {}


class Accumulator:
    """A sink that keeps what the summary needs: latencies, sums, counts."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.warm_up = plan.scenario.run.warm_up
        self.requests = 0
        self.outcomes = np.zeros(len(t.OUTCOMES), np.int64)
        self.latencies: list[NDArray[np.int64]] = []
        self.tiers: list[NDArray[np.int8] | int] = []
        self.parts = np.zeros((len(TIERS), 5), np.float64)
        self.active_nj = 0
        self.classes: dict[str, ClassCounts] = defaultdict(ClassCounts)

    def take(self, rows: Rows) -> None:
        """See ``Sink``."""
        energy = rows.columns[t.R_ENERGY]
        self.active_nj += energy * rows.size if isinstance(energy, int) else int(energy.sum())
        if self.warm_up:
            rows = rows.take(rows[t.R_CREATED] >= self.warm_up)
        self.requests += rows.size
        outcome = rows.columns[t.R_OUTCOME]
        if isinstance(outcome, int):
            self.outcomes[outcome] += rows.size
        else:
            self.outcomes += np.bincount(outcome, minlength=len(t.OUTCOMES))
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
        names = list(self.plan.groups)
        groups = self.plan.group_of[rows[t.R_DEVICE]] if len(names) > 1 else None
        for name, row in self.plan.groups.items():
            own = rows if groups is None else rows.take(groups == row)
            if own.size:
                model = self.plan.scenario.model_of(name)
                self.classes[TIERS[tier]].add(self.plan, own, model, TIERS[tier], right_answers)

    def summary(self, engine: str, digest: str, silent: int) -> Summary:
        """The summary of all that was taken."""
        plan = self.plan
        latencies = np.concatenate(self.latencies) if self.latencies else np.empty(0, np.int64)
        interval = batch_means(latencies)
        tiers = [
            np.full(len(own), tier, np.int8) if isinstance(tier, int) else tier
            for tier, own in zip(self.tiers, self.latencies, strict=True)
        ]
        self.latencies = []
        codes = np.concatenate(tiers) if tiers else np.empty(0, np.int8)
        present = [code for code in range(len(TIERS)) if (codes == code).any()]
        by_tier = {}
        for code in present:
            own = latencies if len(present) == 1 else latencies[codes == code]
            latency = _latency(own)
            count = len(own)
            by_tier[TIERS[code]] = TierSummary(
                count, latency, _breakdown(self.parts[code], count), quality_of([self.classes[TIERS[code]]])
            )
        quality = quality_of(list(self.classes.values()))
        energy = energy_of(plan, self.active_nj)
        overall = by_tier[TIERS[present[0]]].end_to_end_ms if len(present) == 1 else _latency(latencies)
        cost = cost_of(plan)
        return Summary(
            scenario=plan.scenario.name,
            seed=plan.seed,
            requests=self.requests,
            answered=int(self.outcomes[t.ANSWERED]),
            in_flight=int(self.outcomes[t.IN_FLIGHT]),
            dropped={
                name: int(self.outcomes[code])
                for code, name in enumerate(t.OUTCOMES)
                if code not in {t.ANSWERED, t.IN_FLIGHT} and self.outcomes[code]
            },
            end_to_end_ms=overall,
            end_to_end_interval_ms=None
            if interval is None
            else msgspec.structs.replace(
                interval, mean=interval.mean * _MS, half_width=(interval.half_width or 0.0) * _MS
            ),
            breakdown_ms=_breakdown(self.parts.sum(axis=0), len(latencies)),
            by_tier=by_tier,
            accuracy=quality.accuracy,
            quality=quality,
            energy_j=energy,
            cost=cost,
            carbon_g=carbon_g(plan.scenario, energy.total),
            links=_links(plan),
            nodes=_nodes(plan),
            silent_devices=silent,
            slo=_objectives(plan, self, overall, quality.accuracy, cost.total),
            constants=constants_of(plan.scenario),
            engine=engine,
            trace_sha256=digest,
            simulated_s=plan.scenario.run.duration / 1e9,
        )


def _sum(rows: Rows, index: int) -> int:
    column = rows.columns[index]
    return column * rows.size if isinstance(column, int) else int(column.sum())


def _latency(latencies: NDArray[np.int64]) -> Latency | None:
    if not len(latencies):
        return None
    mean = float(latencies.mean()) * _MS
    p50, p95, p99, top = (value * _MS for value in quantiles(latencies, (0.5, 0.95, 0.99, 1.0)))
    return Latency(mean, p50, p95, p99, top)


def _breakdown(parts: NDArray[np.float64], count: int) -> Breakdown | None:
    return Breakdown(*(float(part) * _MS / count for part in parts)) if count else None


def _links(plan: Plan) -> dict[str, dict[str, LinkSummary]]:
    result: dict[str, dict[str, LinkSummary]] = {}
    for (name, direction), row in plan.links.items():
        ints = [int(value) for value in plan.ints[row]]
        link = plan.scenario.links[name]
        senders = 1 if link.shared else sum(plan.scenario.devices[group].count for group in link.from_)
        capacity = plan.scenario.run.duration * senders
        sent = ints[t.L_MESSAGES]
        result.setdefault(name, {})["down" if direction else "up"] = LinkSummary(
            messages=sent,
            delivered=ints[t.L_DELIVERED],
            lost=ints[t.L_LOST],
            cut=ints[t.L_CUT],
            refused=ints[t.L_REFUSED],
            retries=ints[t.L_RETRIED],
            bytes=ints[t.L_BYTES],
            utilisation=ints[t.L_BUSY] / capacity,
            mean_wait_ms=ints[t.L_WAIT] * _MS / sent if sent else 0.0,
        )
    return result


def _nodes(plan: Plan) -> dict[str, NodeSummary]:
    result = {}
    duration = plan.scenario.run.duration
    for name, row in plan.nodes.items():
        ints = [int(value) for value in plan.ints[row]]
        started = ints[t.N_OFFERED] - ints[t.N_REFUSED] - ints[t.N_CUT] - ints[t.N_LENGTH]
        result[name] = NodeSummary(
            offered=ints[t.N_OFFERED],
            served=ints[t.N_SERVED],
            refused=ints[t.N_REFUSED],
            cut=ints[t.N_CUT],
            batches=ints[t.N_BATCHES],
            mean_batch=max(started, ints[t.N_SERVED]) / ints[t.N_BATCHES] if ints[t.N_BATCHES] else 0.0,
            utilisation=ints[t.N_BUSY] / duration / plan.scenario.nodes[name].workers,
            mean_wait_ms=ints[t.N_WAIT] * _MS / max(1, started),
            mean_queue=ints[t.N_WAIT] / duration,
            longest_queue=ints[t.N_LONGEST],
            waiting_at_end=ints[t.N_LENGTH],
        )
    return result


def _objectives(
    plan: Plan, counts: Accumulator, latency: Latency | None, accuracy: float | None, cost: float
) -> dict[str, bool]:
    slo = plan.scenario.slo
    met: dict[str, bool] = {}
    for name in ("p50", "p95", "p99"):
        limit = getattr(slo, name)
        if limit is not None:
            met[name] = latency is not None and getattr(latency, name) <= limit * _MS
    settled = counts.requests - int(counts.outcomes[t.IN_FLIGHT])
    if slo.answered is not None:
        met["answered"] = settled > 0 and int(counts.outcomes[t.ANSWERED]) >= slo.answered * settled
    if slo.accuracy is not None:
        met["accuracy"] = accuracy is not None and accuracy >= slo.accuracy
    if slo.cost_per_hour is not None:
        met["cost_per_hour"] = cost / (plan.scenario.run.duration / _HOUR_NS) <= slo.cost_per_hour
    return met
