"""The tables of a run, shown alike in the terminal and in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tierwise.report import words
from tierwise.report.grid import Cell, Grid
from tierwise.sim.kernel.tables import D_DEAD, D_SPENT
from tierwise.sim.results import words as told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tierwise.report.plots import Span
    from tierwise.scenario.schema import Scenario
    from tierwise.sim.metrics import Quality
    from tierwise.sim.plan import Plan
    from tierwise.sim.summary import Latency, Summary


_JUDGED = {True: Cell("met", "good"), False: Cell("MISSED", "bad"), None: Cell("not judged")}


def objectives(scenario: Scenario, summary: Summary) -> Grid | None:
    """Each objective with its figure beside the limit."""
    rows = [(one.name, one.figure, one.limit, _verdict(one)) for one in told.objectives(scenario, summary)]
    return Grid("objectives", ("objective", "figure", "limit", ""), rows) if rows else None


def _verdict(one: told.Objective) -> Cell:
    cell = _JUDGED[one.met]
    return msgspec.structs.replace(cell, text=f"{cell.text}, met {one.where}") if one.where else cell


def tiers(summary: Summary) -> Grid:
    """Who answered how fast and how well."""
    rows = [_tier(name, tier.answered, tier.end_to_end_ms, tier.quality) for name, tier in summary.by_tier.items()]
    if len(rows) != 1:
        rows.insert(0, _tier("all", summary.answered, summary.end_to_end_ms, summary.quality))
    f1 = any(tier.quality.f1 is not None for tier in summary.by_tier.values())
    columns = [
        "tier",
        "answered",
        "mean, ms",
        "p50",
        "p95",
        "p99",
        "max",
        "accuracy",
        *(("F1", "recall", "precision") if f1 else ()),
    ]
    return Grid(
        "answers by tier",
        columns,
        [row[: len(columns)] for row in rows],
        [title for title in columns[1:] if title not in {"max", "recall", "precision"}],
    )


def _tier(name: str, answered: int, latency: Latency | None, quality: Quality) -> list[str | Cell]:
    figures = ("mean", "p50", "p95", "p99", "max")
    return [
        Cell(name, tier=name if name != "all" else ""),
        f"{answered:,}",
        *(words.ms(None if latency is None else getattr(latency, figure)) for figure in figures),
        words.share(quality.accuracy),
        *(words.share(value) for value in (quality.f1, quality.recall, quality.precision)),
    ]


def queries(summary: Summary) -> Grid | None:
    """MultiStream: each group's queries, which are answered when all of their samples are."""
    rows = [
        (
            name,
            f"{own.queries:,}",
            f"{own.answered:,}",
            *(words.ms(getattr(own.end_to_end_ms, figure, None)) for figure in ("mean", "p50", "p95", "p99")),
        )
        for name, own in summary.queries.items()
    ]
    return Grid("queries", ("group", "queries", "answered", "mean, ms", "p50", "p95", "p99"), rows) if rows else None


def losses(summary: Summary) -> Grid | None:
    """Lost requests by cause."""
    rows = [
        (told.CAUSES.get(cause, cause), f"{count:,}", _busy(count / summary.requests))
        for cause, count in sorted(summary.dropped.items(), key=lambda pair: -pair[1])
    ]
    return Grid("lost requests", ("cause", "requests", "of all"), rows) if rows else None


def links(summary: Summary) -> Grid:
    """Each direction of each link."""
    rows: list[Sequence[str | Cell]]
    columns = (
        "link", "messages", "delivered", "lost", "cut off", "refused", "under way at the end", "retries", "bytes",
        "busy", "mean wait, ms",
    )  # fmt: skip
    rows = [
        (
            f"{name} {way}",
            *(f"{value:,}" for value in (link.messages, link.delivered, link.lost, link.cut, link.refused)),
            f"{link.in_flight:,}", f"{link.retries:,}",
            words.quantity(link.bytes, "B"), _busy(link.utilisation), words.ms(link.mean_wait_ms),
        )
        for name, ways in summary.links.items()
        for way, link in ways.items()
    ]  # fmt: skip
    return Grid("links", columns, rows, ("messages", "lost", "cut off", "bytes", "busy", "mean wait, ms"))


def nodes(summary: Summary) -> Grid:
    """Each node."""
    rows: list[Sequence[str | Cell]]
    columns = (
        "node", "offered", "served", "refused", "cut off", "mean batch", "busy", "mean wait, ms", "mean queue",
        "longest queue", "waiting at the end",
    )  # fmt: skip
    rows = [
        (
            name, *(f"{value:,}" for value in (node.offered, node.served, node.refused, node.cut)),
            f"{node.mean_batch:.2f}", _busy(node.utilisation), words.ms(node.mean_wait_ms), f"{node.mean_queue:.3g}",
            f"{node.longest_queue:,}", f"{node.waiting_at_end:,}",
        )
        for name, node in summary.nodes.items()
    ]  # fmt: skip
    lost = [
        title
        for title, numbers in (
            ("refused", [node.refused for node in summary.nodes.values()]),
            ("cut off", [node.cut for node in summary.nodes.values()]),
        )
        if any(numbers)
    ]
    narrow = ("served", *lost, "mean batch", "busy", "mean wait, ms", *(() if lost else ("longest queue",)))
    return Grid("nodes", columns, rows, narrow)


def _busy(share: float) -> Cell:
    return Cell(words.percent(share), share=share)


def totals(summary: Summary) -> Grid:
    """Energy, cost and carbon of the whole run, and of each answer."""

    def a_thousand(value: float) -> float | None:
        return 1000 * value / summary.answered if summary.answered else None

    def joules(name: str, value: float) -> tuple[str, str, str]:
        return name, words.quantity(value, "J"), words.quantity(a_thousand(value), "J")

    def money(name: str, value: float) -> tuple[str, str, str]:
        return name, words.amount(value), words.amount(a_thousand(value))

    energy, cost = summary.energy_j, summary.cost

    def left_out(figure: str) -> list[tuple[str, str, str]]:
        """What counts as nothing, because nobody has stated it."""
        return [(f"  {path}", "not stated", words.NOTHING) for path in summary.unstated.get(figure, ())]

    rows = [joules("energy", energy.total)] if energy.total else []
    if energy.device_active or energy.device_idle:
        rows += [joules("  devices, active", energy.device_active), joules("  devices, idle", energy.device_idle)]
    rows += [joules(f"  node {name}", value) for name, value in energy.nodes.items()]
    rows += left_out("energy_j") if energy.total else []
    rows += [money("cost", cost.total)] if cost.total else []
    rows += [money(f"  node {name}", value) for name, value in cost.nodes.items()]
    rows += [money(f"  link {name}", value) for name, value in cost.links.items()]
    rows += left_out("cost") if cost.total else []
    if summary.carbon_g is not None:
        whole = "carbon_g" not in summary.unstated
        total, each = (
            told.at_least(told.CARBON, value, whole=whole) for value in (summary.carbon_g, a_thousand(summary.carbon_g))
        )
        rows.append((told.CARBON.title, total, each))
    return Grid("energy and cost", ("", "whole run", "1,000 answers"), rows)


def batteries(scenario: Scenario, plan: Plan) -> Grid | None:
    """What is left in the batteries of each group, and which devices fell silent."""
    rows = []
    duration = scenario.run.duration
    for name, group in scenario.devices.items():
        first = plan.first_device[name]
        devices = plan.devices[first : first + group.count]
        dead = devices[:, D_DEAD]
        silent = int((dead < duration).sum())
        left = words.NOTHING
        if group.battery is not None:
            idle = scenario.idle_power_of(name) * 1e-9 * np.minimum(dead, duration)
            spent = (devices[:, D_SPENT] * 1e-9 + idle) / group.battery.capacity
            left = words.percent(float(np.maximum(0.0, 1 - spent).mean()))
        elif not silent:
            continue
        when = words.seconds(float(dead.min()) * 1e-9) if silent else words.NOTHING
        rows.append((name, f"{group.count:,}", f"{silent:,}", when, left))
    return (
        Grid("batteries", ("group", "devices", "silent at the end", "first after", "left on average"), rows)
        if rows
        else None
    )


def faults(scenario: Scenario, spans: Sequence[Span]) -> Grid | None:
    """How often each fault struck, and for how long in all."""
    rows = []
    for text in dict.fromkeys(" ".join(told.fault(fault)) for fault in scenario.faults):
        own = [span for span in spans if span.text == text]
        lasted = sum(span.end - span.start for span in own)
        first = words.seconds(own[0].start) if own else words.NOTHING
        rows.append((text, f"{len(own):,}", first, words.seconds(lasted) if lasted else words.NOTHING))
    return Grid("faults", ("fault", "times", "first after", "lasted in all"), rows) if rows else None


def intervals(summary: Summary) -> Grid | None:
    """Means with 95 % intervals: of the mean latency within one run, of every figure over replications.

    The first is left out where the second is there and other phases change the mean.
    """
    rows: list[tuple[str | Cell, ...]] = []
    within = summary.end_to_end_interval_ms
    if within is not None and not (within.fixed_phases and summary.replications):
        rows.append(
            (
                "mean latency, within this run",
                told.interval(told.MEASURES["mean_ms"], within),
                Cell(told.method(within), prose=True),
            )
        )
    for name, measure in told.MEASURES.items():
        value = summary.replications.get(name)
        if value is not None and (value.mean or name not in {"energy_j", "cost"}):
            rows.append(
                (f"{measure.title}, over runs", told.interval(measure, value), Cell(told.method(value), prose=True))
            )
    return Grid("95 % intervals", ("figure", "mean ± half width", "from"), rows) if rows else None


def constants(summary: Summary) -> Grid | None:
    """Every stated constant with its source."""
    rows = [
        (
            one.path,
            Cell(", ".join(f"{key} {_plain(value)}" for key, value in one.value.items()) or words.NOTHING, prose=True),
            Cell(one.source, prose=True),
        )
        for one in summary.constants
    ]
    return Grid("constants", ("where", "values, in base units", "source"), rows) if rows else None


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def in_terminal(scenario: Scenario, summary: Summary) -> Iterator[Grid]:
    """What a terminal shows, in order."""
    shown = (
        objectives(scenario, summary), tiers(summary), queries(summary), losses(summary), nodes(summary),
        links(summary), totals(summary), intervals(summary),
    )  # fmt: skip
    yield from (grid for grid in shown if grid is not None and grid.rows)
