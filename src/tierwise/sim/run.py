"""One call from a scenario to its summary and trace."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import msgspec

from tierwise.core.errors import ConfigurationError
from tierwise.sim.accumulator import Accumulator
from tierwise.sim.collect import Digest, in_order_of_creation
from tierwise.sim.compiled import must_compile
from tierwise.sim.cosim import LockstepEngine, external_groups
from tierwise.sim.decide import decider
from tierwise.sim.event import EventEngine, Unseen
from tierwise.sim.plan import Plan, build_plan
from tierwise.sim.results.page import Run, write_page
from tierwise.sim.series import Series
from tierwise.sim.statistics import Interval, of_independent
from tierwise.sim.summary import Summary, summarise
from tierwise.sim.tracefile import CsvTrace, ParquetTrace
from tierwise.sim.vector import VectorEngine, why_not_vectorised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tierwise.scenario.schema import Devices, Scenario
    from tierwise.sim.answers import Answers
    from tierwise.sim.collect import Sink
    from tierwise.sim.results.origin import Origin
    from tierwise.sim.rows import Rows

EngineChoice = Literal["auto", "event", "vector"]


def finished_rows(plan: Plan, engine: str) -> tuple[Iterator[tuple[int, Rows]], Callable[[], Unseen]]:
    """Runs a plan on ``event`` or ``vector``: its finished requests, and afterwards what they do not show."""
    if engine == "vector":
        return VectorEngine(plan).run(), Unseen
    if external_groups(plan.scenario):
        lockstep = LockstepEngine(plan, decider(plan))
        return lockstep.run(), lockstep.events.unseen
    events = EventEngine(plan, decider(plan))
    return events.run(), events.unseen


def choose_engine(scenario: Scenario, engine: EngineChoice) -> Literal["event", "vector"]:
    """The engine that runs the scenario. Raises ``ConfigurationError`` where the wanted one cannot."""
    if engine == "event":
        return engine
    reasons = reasons_for_events(scenario)
    if engine == "vector" and reasons:
        raise ConfigurationError(f"the vectorised engine cannot run {scenario.name}: {'; '.join(reasons)}")
    return "event" if reasons else "vector"


def reasons_for_events(scenario: Scenario) -> list[str]:
    """Why the event engine is needed; nothing where the vectorised one gives the same trace."""
    reasons = why_not_vectorised(scenario)
    if not reasons and build_plan(scenario.model_copy(update={"devices": _one_of_each(scenario)})).loops:
        return ["links: some lead back to where others come from"]
    return reasons


def _one_of_each(scenario: Scenario) -> dict[str, Devices]:
    """Groups of one: what leads where does not depend on how many devices there are."""
    return {name: group.model_copy(update={"count": 1}) for name, group in scenario.devices.items()}


def simulate(
    scenario: Scenario,
    *,
    seed: int | None = None,
    engine: EngineChoice = "auto",
    out: Path | None = None,
    origin: Origin | None = None,
    answers: Mapping[tuple[str, str], Answers] | None = None,
    sinks: Callable[[Plan], Sequence[Sink]] | None = None,
    on_progress: Callable[[float, int], None] | None = None,
) -> Summary:
    """Runs a scenario in virtual time.

    ``seed`` replaces the scenario's. ``out`` is a folder for the trace, ``series.csv``,
    ``summary.json`` and ``report.html``; ``origin`` is what that page shows of the scenario's file.
    ``answers`` are those of real models (``answers.compute_answers``). ``sinks`` makes further takers of the rows. With
    several replications the first gives the summary and the trace, and ``Summary.replications`` the means and intervals
    over all.
    """
    chosen = choose_engine(scenario, engine)
    first = scenario.run.seed if seed is None else seed
    if must_compile() and not external_groups(scenario):
        _compile(scenario, chosen, answers)
    started = time.perf_counter()
    summaries = []
    series: list[Series] = []

    def with_series(plan: Plan) -> list[Sink]:
        own = list(sinks(plan)) if sinks else []
        if out is not None:
            series.append(Series(plan))
        return own + list(series)

    made = 0
    for number in range(scenario.run.replications):
        folder = out if number == 0 else None
        own = with_series if number == 0 else None
        one = _run_once(
            scenario,
            replication_seed(first, number),
            engine=chosen,
            out=folder,
            answers=answers,
            sinks=own,
            on_progress=None if on_progress is None else _of_all(on_progress, number, scenario.run.replications, made),
        )
        summaries.append(one)
        made += one.requests
    summary = msgspec.structs.replace(
        summaries[0],
        wall_s=time.perf_counter() - started,
        replications=over_replications(summaries),
        slo_met=objectives_met(summaries),
    )
    if out is not None and series:
        with writing_to(out):
            series[0].write_csv(out / "series.csv")
            write_page(Run(scenario, summary, series[0], origin), out / "report.html")
            (out / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary)))
    return summary


def _compile(
    scenario: Scenario, engine: Literal["event", "vector"], answers: Mapping[tuple[str, str], Answers] | None
) -> None:
    """Runs one device of each group, so that the time that is told is the simulation's own."""
    few = scenario.model_copy(update={"devices": _one_of_each(scenario)})
    _run_once(few, scenario.run.seed, engine=engine, out=None, answers=answers, sinks=None, on_progress=None)


def _of_all(
    on_progress: Callable[[float, int], None], number: int, replications: int, made: int
) -> Callable[[float, int], None]:
    """Counts on from the replications before this one."""
    return lambda share, requests: on_progress((number + share) / replications, made + requests)


def replication_seed(seed: int, number: int) -> int:
    """The seed itself, then seeds made from it."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/replication/{number}".encode()).digest()[:7], "little")


def figures_of(summary: Summary) -> dict[str, float]:
    """The figures that are compared and averaged over replications."""
    figures = {} if summary.answered_share is None else {"answered_share": summary.answered_share}
    figures |= {"energy_j": summary.energy_j.total, "cost": summary.cost.total}
    if summary.end_to_end_ms is not None:
        latency = summary.end_to_end_ms
        figures |= {"mean_ms": latency.mean, "p50_ms": latency.p50, "p95_ms": latency.p95, "p99_ms": latency.p99}
    if summary.accuracy is not None:
        figures["accuracy"] = summary.accuracy
    return figures


def over_replications(summaries: Sequence[Summary]) -> dict[str, Interval]:
    """Mean and interval of each figure; nothing for a single run."""
    if len(summaries) == 1:
        return {}
    each = [figures_of(summary) for summary in summaries]
    common = [name for name in each[0] if all(name in figures for figures in each)]
    return {name: of_independent([figures[name] for figures in each]) for name in common}


def objectives_met(summaries: Sequence[Summary]) -> dict[str, int | None]:
    """How many runs met each objective; ``None`` where some run cannot judge it and no other missed it. Nothing for a
    single run."""
    if len(summaries) == 1:
        return {}
    each = {name: [summary.slo.get(name) for summary in summaries] for name in summaries[0].slo}
    return {name: None if None in met and False not in met else met.count(True) for name, met in each.items()}


def _run_once(
    scenario: Scenario,
    seed: int,
    *,
    engine: Literal["event", "vector"],
    out: Path | None,
    answers: Mapping[tuple[str, str], Answers] | None,
    sinks: Callable[[Plan], Sequence[Sink]] | None,
    on_progress: Callable[[float, int], None] | None,
) -> Summary:
    plan = build_plan(scenario, seed, answers)
    digest, accumulator = Digest(), Accumulator(plan)
    takers: list[Sink] = [digest, accumulator, *(sinks(plan) if sinks else ())]
    trace = _trace(plan, out)
    if trace is not None:
        takers.append(trace)
    finished, unseen = finished_rows(plan, engine)
    try:
        count = 0
        for rows in in_order_of_creation(finished):
            count += rows.size
            for taker in takers:
                taker.take(rows)
            if on_progress is not None:
                last = rows.columns[2]
                on_progress((last if isinstance(last, int) else int(last[-1])) / scenario.run.duration, count)
        if on_progress is not None:
            on_progress(1.0, count)
    finally:
        if isinstance(finished, Generator):
            finished.close()  # ends external devices also where a taker fails
        if trace is not None:
            trace.close()
    return summarise(accumulator, engine, digest.hexdigest(), unseen())


def _trace(plan: Plan, out: Path | None) -> CsvTrace | ParquetTrace | None:
    if out is None:
        return None
    kind = plan.scenario.outputs.trace
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        if kind == "none":
            return None
        return CsvTrace(plan, out / "trace.csv") if kind == "csv" else ParquetTrace(plan, out / "trace.parquet")


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Turns what the system says about a folder into a ``ConfigurationError``."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"cannot write the results to {out}: {error.strerror or error}") from error
