"""What a run comes to: counts, latency, accuracy, energy, cost, the state of links and nodes, objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from tierwise.scenario.schema import Burst, Periodic
from tierwise.sim.costs import Constant, Cost, Energy, carbon_g, constants_of, cost_of, energy_of
from tierwise.sim.kernel import tables as t
from tierwise.sim.metrics import Quality, quality_of
from tierwise.sim.statistics import Interval, batch_means, quantiles
from tierwise.sim.unstated import Parts, assumptions, parts_of, unstated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.accumulator import Accumulator, Queries
    from tierwise.sim.event import Unseen
    from tierwise.sim.plan import Plan

_MS = 1e-6
_HOUR_NS = 3.6e12
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
"""Of the percentiles that an objective may be about."""


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
    """One direction of a link, up to the end of the run. Every try is a message.

    offered = messages + refused; messages = delivered + lost + cut + in_flight. ``bytes`` and ``utilisation`` count
    what was on the air by then, ``mean_wait_ms`` is of the messages whose sending had begun.
    """

    offered: int
    messages: int
    delivered: int
    lost: int
    cut: int
    in_flight: int
    refused: int
    retries: int
    bytes: int
    utilisation: float
    mean_wait_ms: float


class NodeSummary(msgspec.Struct, frozen=True):
    """A node, up to the end of the run.

    offered = served + refused + cut + running_at_end + waiting_at_end. ``mean_wait_ms`` is of the requests that were
    started, ``mean_queue`` of all time that any waited.
    """

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
    running_at_end: int
    waiting_at_end: int


class QuerySummary(msgspec.Struct, frozen=True):
    """MultiStream queries: answered with their last sample, and only where all samples are."""

    queries: int
    answered: int
    end_to_end_ms: Latency | None


class Summary(msgspec.Struct, frozen=True):
    """A run. Requests made in the warm-up are left out, except of energy, cost, links and nodes."""

    scenario: str
    seed: int
    requests: int
    answered: int
    answered_share: float | None
    """Of the requests that the run could answer. One that is under way at the end counts as unanswered once it is older
    than the longest latency objective, or than half the answers took where there is none: a queue that only grows
    answers nothing, however little it loses. ``None`` where the run is too short for that objective."""
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
    """Devices whose energy ended before the run did."""
    requests_not_made: int
    """What such devices would have asked."""
    slo: dict[str, bool | None]
    """Whether each objective is met; ``None`` where the run cannot tell, see ``not_judged`` and ``unstated``."""
    constants: list[Constant]
    engine: str
    trace_sha256: str
    simulated_s: float
    wall_s: float = 0.0
    replications: dict[str, Interval] = {}
    queries: dict[str, QuerySummary] = {}
    """By device group, where they hold several requests."""
    not_judged: dict[str, int] = {}
    """By objective: requests that were under way at the end, for no longer than it allows. Where no request was made so
    early that it had all of that time, or more are not judged than are, the objective is not judged."""
    slo_met: dict[str, int | None] = {}
    """In how many of several replications each objective was met; ``slo`` is of the first. ``None`` where none missed
    it and not all can judge it."""
    unstated: dict[str, list[str]] = {}
    """``energy_j``, ``cost`` and ``carbon_g`` that are least values, with what would have to be stated for them to be
    whole."""
    assumptions: list[str] = []
    """What the figures rest on though nobody stated it, as sentences."""
    parts: Parts = {}
    """What ``energy_j`` and ``cost`` consist of, and whether it is stated: so the points of a sweep are compared."""


def summarise(counted: Accumulator, engine: str, digest: str, unseen: Unseen) -> Summary:
    """The summary of all that was counted."""
    plan = counted.plan
    latencies = np.concatenate(counted.latencies) if counted.latencies else np.empty(0, np.int64)
    interval = batch_means(latencies)
    tiers = [
        np.full(len(own), tier, np.int8) if isinstance(tier, int) else tier
        for tier, own in zip(counted.tiers, counted.latencies, strict=True)
    ]
    counted.latencies = []  # what is sorted below is large
    codes = np.concatenate(tiers) if tiers else np.empty(0, np.int8)
    present = [code for code in range(len(t.TIERS)) if (codes == code).any()]
    by_tier = {}
    for code in present:
        own = latencies if len(present) == 1 else latencies[codes == code]
        latency = _latency(own)
        count = len(own)
        by_tier[t.TIERS[code]] = TierSummary(
            count, latency, _breakdown(counted.parts[code], count), quality_of([counted.classes[t.TIERS[code]]])
        )
    quality = quality_of(list(counted.classes.values()))
    energy = energy_of(plan, counted.active_nj + unseen.ghost_nj)
    overall = by_tier[t.TIERS[present[0]]].end_to_end_ms if len(present) == 1 else _latency(latencies)
    cost = cost_of(plan)
    ages = counted.ages()
    unjudged = _not_judged(counted, ages, overall)
    share = (
        None if _cannot_tell(counted, unjudged["answered"]) else _answered_share(counted, unjudged["answered"].number)
    )
    return Summary(
        scenario=plan.scenario.name,
        seed=plan.seed,
        requests=counted.requests,
        answered=int(counted.outcomes[t.ANSWERED]),
        answered_share=share,
        in_flight=int(counted.outcomes[t.IN_FLIGHT]),
        dropped={
            name: int(counted.outcomes[code])
            for code, name in enumerate(t.OUTCOMES)
            if code not in {t.ANSWERED, t.IN_FLIGHT} and counted.outcomes[code]
        },
        end_to_end_ms=overall,
        end_to_end_interval_ms=None
        if interval is None
        else msgspec.structs.replace(interval.scaled(_MS), fixed_phases=_has_random_phases(plan.scenario)),
        breakdown_ms=_breakdown(counted.parts.sum(axis=0), len(latencies)),
        by_tier=by_tier,
        accuracy=quality.accuracy,
        quality=quality,
        energy_j=energy,
        cost=cost,
        carbon_g=carbon_g(plan.scenario, energy.total),
        links=_links(plan),
        nodes=_nodes(plan),
        silent_devices=int(np.count_nonzero(plan.devices[:, t.D_DEAD] < plan.scenario.run.duration)),
        requests_not_made=unseen.not_made,
        slo=_latency_objectives(counted, overall, latencies, ages, unjudged)
        | _other_objectives(plan, share, quality.accuracy, cost.total),
        not_judged={
            name: one.number
            for name, one in unjudged.items()
            if one.number and getattr(plan.scenario.slo, name) is not None
        },
        constants=constants_of(plan.scenario),
        engine=engine,
        trace_sha256=digest,
        simulated_s=plan.scenario.run.duration / 1e9,
        queries={name: _queries(counted.queries[row]) for name, row in plan.groups.items() if row in counted.queries},
        unstated=unstated(plan.scenario),
        assumptions=assumptions(plan.scenario),
        parts=parts_of(plan.scenario),
    )


def _has_random_phases(scenario: Scenario) -> bool:
    """Whether how the requests of several devices meet is drawn once for the whole run."""
    patterns = ((scenario.traffic_of(name), group.count) for name, group in scenario.devices.items())
    return sum(count for one, count in patterns if isinstance(one, Periodic | Burst) and one.phase == "random") > 1


def _queries(counted: Queries) -> QuerySummary:
    latencies = np.concatenate(counted.latencies) if counted.latencies else np.empty(0, np.int64)
    return QuerySummary(counted.made, len(latencies), _latency(latencies))


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
        begun = sent - ints[t.L_UNSENT]
        result.setdefault(name, {})["down" if direction else "up"] = LinkSummary(
            offered=sent + ints[t.L_REFUSED],
            messages=sent,
            delivered=ints[t.L_DELIVERED],
            lost=ints[t.L_LOST],
            cut=ints[t.L_CUT],
            in_flight=sent - ints[t.L_DELIVERED] - ints[t.L_LOST] - ints[t.L_CUT],
            refused=ints[t.L_REFUSED],
            retries=ints[t.L_RETRIED],
            bytes=ints[t.L_BYTES],
            utilisation=ints[t.L_BUSY] / capacity,
            mean_wait_ms=ints[t.L_WAIT] * _MS / begun if begun else 0.0,
        )
    return result


def _nodes(plan: Plan) -> dict[str, NodeSummary]:
    result = {}
    duration = plan.scenario.run.duration
    for name, row in plan.nodes.items():
        ints = [int(value) for value in plan.ints[row]]
        started = ints[t.N_STARTED]
        result[name] = NodeSummary(
            offered=ints[t.N_OFFERED],
            served=ints[t.N_SERVED],
            refused=ints[t.N_REFUSED],
            cut=ints[t.N_CUT],
            batches=ints[t.N_BATCHES],
            mean_batch=started / ints[t.N_BATCHES] if ints[t.N_BATCHES] else 0.0,
            utilisation=ints[t.N_BUSY] / duration / plan.scenario.nodes[name].workers,
            mean_wait_ms=ints[t.N_WAIT] * _MS / max(1, started),
            mean_queue=(ints[t.N_WAIT] + ints[t.N_STRANDED]) / duration,
            longest_queue=ints[t.N_LONGEST],
            running_at_end=ints[t.N_OFFERED] - ints[t.N_SERVED] - ints[t.N_REFUSED] - ints[t.N_CUT] - ints[t.N_LENGTH],
            waiting_at_end=ints[t.N_LENGTH],
        )
    return result


class _Unjudged(NamedTuple):
    """Requests under way that are not older than an objective allows (nanoseconds)."""

    limit: int
    number: int
    stated: bool = True


def _not_judged(counted: Accumulator, ages: NDArray[np.int64], latency: Latency | None) -> dict[str, _Unjudged]:
    """By objective. For the share answered the limit is the longest of the latencies', else the median latency."""
    slo = counted.plan.scenario.slo
    limits = {name: limit for name in SHARES if (limit := getattr(slo, name)) is not None}
    median_ns = 0 if latency is None else round(latency.p50 / _MS)
    stated = bool(limits)
    limits["answered"] = max(limits.values(), default=median_ns)
    return {name: _Unjudged(limit, int(np.count_nonzero(ages <= limit)), stated) for name, limit in limits.items()}


def _cannot_tell(counted: Accumulator, unjudged: _Unjudged) -> bool:
    """Whether nobody had all of the time that an objective allows, or most of those who are left did not."""
    if not (unjudged.number and unjudged.stated):
        return not counted.requests
    had_all = counted.plan.scenario.run.duration - counted.first_made > unjudged.limit
    return not had_all or 2 * unjudged.number > counted.requests


def _answered_share(counted: Accumulator, unjudged: int) -> float | None:
    could = counted.requests - unjudged
    return int(counted.outcomes[t.ANSWERED]) / could if could else None


def _latency_objectives(
    counted: Accumulator,
    latency: Latency | None,
    latencies: NDArray[np.int64],
    ages: NDArray[np.int64],
    unjudged: dict[str, _Unjudged],
) -> dict[str, bool | None]:
    """A request that is under way for longer than the limit is one that took longer."""
    met: dict[str, bool | None] = {}
    for name, share in SHARES.items():
        if name not in unjudged:
            continue
        limit = unjudged[name].limit
        if _cannot_tell(counted, unjudged[name]):
            met[name] = None
            continue
        met[name] = latency is not None and getattr(latency, name) <= limit * _MS
        if met[name] and (late := int(np.count_nonzero(ages > limit))):
            within = int(np.count_nonzero(latencies <= limit))
            met[name] = within >= share * (len(latencies) + late)
    return met


def _other_objectives(
    plan: Plan, answered_share: float | None, accuracy: float | None, cost: float
) -> dict[str, bool | None]:
    slo = plan.scenario.slo
    met: dict[str, bool | None] = {}
    if slo.answered is not None:
        met["answered"] = None if answered_share is None else answered_share >= slo.answered
    if slo.accuracy is not None:
        met["accuracy"] = None if accuracy is None else accuracy >= slo.accuracy
    if slo.cost_per_hour is not None:
        within = cost / (plan.scenario.run.duration / _HOUR_NS) <= slo.cost_per_hour
        # A price that nobody stated counts as nothing: the sum may be more, but not less.
        met["cost_per_hour"] = None if within and "cost" in unstated(plan.scenario) else within
    return met
