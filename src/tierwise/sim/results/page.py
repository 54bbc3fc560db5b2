"""The page of a run: verdict, objectives, tiers, how it went over time, where time, energy and money went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tierwise.report import blocks, words
from tierwise.report.blocks import Fact, Part
from tierwise.report.markup import Markup, element, join
from tierwise.report.page import Page, render_page
from tierwise.report.plots import tier_colour
from tierwise.sim.results import plots, tables
from tierwise.sim.results import words as told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tierwise.report.grid import Grid
    from tierwise.report.plots import Plot
    from tierwise.scenario.schema import Scenario
    from tierwise.sim.results.origin import Origin
    from tierwise.sim.series import Series
    from tierwise.sim.summary import Breakdown, Summary, TierSummary


_NODES_NOTE = "Over the whole run. Busy is the share of all workers' time."


class Run(msgspec.Struct, frozen=True):
    """What the page is about. Without ``origin`` the scenario's text is not shown."""

    scenario: Scenario
    summary: Summary
    series: Series
    origin: Origin | None = None


def write_page(run: Run, path: Path) -> None:
    """Writes the page as UTF-8."""
    path.write_text(render_run(run), encoding="utf-8")


def render_run(run: Run) -> str:
    """The page: the same for the same scenario and seed."""
    scenario, summary = run.scenario, run.summary
    over_time = plots.over_time(scenario, summary, run.series)
    distribution = plots.distribution(summary, run.series)
    sections = (
        _stats(run),
        _section("objectives", "Objectives", tables.objectives(scenario, summary)),
        _cards(summary),
        _over_time(run, over_time),
        _distribution(summary, distribution),
        _breakdown(summary),
        _section("answers", "Answers by tier", tables.tiers(summary), note=_answers_note(run)),
        _queries(summary),
        _losses(summary),
        _energy(run, over_time),
        _section("nodes", "Nodes", tables.nodes(summary), note=_NODES_NOTE),
        _section(
            "links", "Links", tables.links(summary),
            note="Over the whole run; every try of a message counts. Busy is the share of time on the air: of the line "
            "where it is shared, else of all senders.",
        ),
        _section(
            "intervals", "How sure the figures are", tables.intervals(summary),
            note="95 % intervals for the mean. Within a run batches have the run's own phases; over runs everything is "
            "drawn anew. Percentiles of one run are order statistics of all its requests.",
        ),
        _assumptions(summary),
        _section(
            "constants", "Constants and where they come from", tables.constants(summary),
            note="Every stated figure of hardware, radio, models and prices. The result is as good as they are.",
        ),
        _facts(run),
    )  # fmt: skip
    page = Page(
        title=f"{scenario.name}: simulated",
        eyebrow="tierwise simulation",
        heading=scenario.name,
        subheading=f"{told.devices(scenario)}, {words.seconds(summary.simulated_s)}",
        lede=told.verdict(scenario, summary),
        body=join(*(section for section in sections if section is not None)),
        plots=[*over_time, *distribution],
    )
    return render_page(page)


def _assumptions(summary: Summary) -> Markup | None:
    if not summary.assumptions:
        return None
    items = element("ul", *(element("li", one) for one in summary.assumptions))
    note = "Nobody stated these; state them to make the result your own."
    return blocks.section("assumptions", "What is assumed", items, note=note)


def _section(name: str, heading: str, grid: Grid | None, note: str = "") -> Markup | None:
    return blocks.section(name, heading, blocks.table(grid), note=note) if grid is not None and grid.rows else None


def _stats(run: Run) -> Markup:
    summary, latency = run.summary, run.summary.end_to_end_ms
    facts = [
        Fact("answered", words.share(summary.answered_share), f"{summary.answered:,} of {summary.requests:,}"),
        Fact("99 % within", words.latency(None if latency is None else latency.p99),
             f"half within {words.latency(None if latency is None else latency.p50)}"),
    ]  # fmt: skip
    if summary.accuracy is not None:
        facts.append(Fact("accuracy", words.percent(summary.accuracy), f"of {summary.quality.judged:,} judged"))
    stated = told.objectives(run.scenario, summary)
    if stated:
        met = sum(one.met is True for one in stated)
        tone = "bad" if any(one.met is False for one in stated) else "good" if met == len(stated) else ""
        facts.append(Fact("objectives met", f"{met} of {len(stated)}", tone=tone))
    joules = summary.energy_j.total
    if joules:
        facts.append(Fact("energy", words.quantity(joules, "J"), _each(summary, joules, "J")))
    if summary.cost.total:
        hour = summary.cost.total / summary.simulated_s * 3600
        facts.append(Fact("cost", words.amount(summary.cost.total), f"{words.amount(hour)} an hour"))
    if summary.carbon_g is not None:
        whole = "carbon_g" not in summary.unstated
        carbon = told.at_least(told.CARBON, summary.carbon_g, whole=whole)
        facts.append(Fact("carbon", carbon, _each(summary, summary.carbon_g, "g") if whole else ""))
    return blocks.stats("The run at a glance", facts)


def _each(summary: Summary, total: float, unit: str) -> str:
    return f"{words.quantity(total / summary.answered, unit)} an answer" if summary.answered else ""


def _cards(summary: Summary) -> Markup | None:
    if not summary.by_tier:
        return None
    return blocks.cards(
        "The tiers at a glance", *(_card(name, tier, summary) for name, tier in summary.by_tier.items())
    )


def _card(name: str, tier: TierSummary, summary: Summary) -> Markup:
    latency = tier.end_to_end_ms
    return blocks.card(
        name,
        tier_colour(name),
        about=f"answered {words.percent(tier.answered / summary.answered)} of all",
        big=words.ms(None if latency is None else latency.p50),
        unit="ms",
        beneath=("median end to end",),
        facts=(
            Fact("99 % within", words.latency(None if latency is None else latency.p99)),
            Fact("accuracy", words.percent(tier.quality.accuracy)),
            Fact("answered", f"{tier.answered:,}"),
        ),
    )


def _over_time(run: Run, over_time: Sequence[Plot]) -> Markup:
    rate, *others = over_time
    faults = blocks.table(grid) if (grid := _faults(run)) is not None else ""
    children = [
        element("h3", "Requests a second, by who answered"),
        blocks.legend(*_keys(rate), *_span_keys(rate), readout="rate"),
        blocks.figure("rate", told="Requests a second over virtual time, by the tier that answered them."),
    ]
    for plot in others:
        if plot.id == "latency":
            children += [
                element("h3", "Latency, by when a request was made"),
                blocks.legend(*_keys(plot), readout="latency"),
                blocks.figure("latency", told=told.verdict(run.scenario, run.summary)),
            ]
    buckets = words.seconds(run.series.bucket_ns * 1e-9)
    together = " and, to fit the plot, neighbours together" if len(run.series.requests) > plots.MOST_POINTS else ""
    note = (
        f"By the time at which requests were made, in steps of {buckets}{together}. "
        "Drag to zoom, double-click to go back."
    )
    if rate.spans:
        note += " Shaded: while a fault lasted."
        note += f" Only {plots.MOST_SPANS:,} are shaded." if len(rate.spans) == plots.MOST_SPANS else ""
    return blocks.section("course", "Over time", *children, blocks.no_script(), faults, note=note)


def _keys(plot: Plot) -> Iterator[Markup]:
    for curve in plot.curves:
        yield (blocks.line_key if curve.dashed else blocks.key)(curve.name, curve.colour)


def _span_keys(plot: Plot) -> Iterator[Markup]:
    for text, colour in dict.fromkeys((span.text, span.colour) for span in plot.spans):
        yield blocks.span_key(text, colour)


def _faults(run: Run) -> Grid | None:
    return tables.faults(run.scenario, plots.fault_spans(run.scenario, run.summary.seed))


def _distribution(summary: Summary, distribution: Sequence[Plot]) -> Markup | None:
    if not distribution:
        return None
    shapes = distribution[0]
    latencies = "; ".join(
        f"{name} {words.ms(own.p50)}, {words.ms(own.p95)}, {words.ms(own.p99)}"
        for name, tier in summary.by_tier.items()
        if (own := tier.end_to_end_ms) is not None
    )
    return blocks.section(
        "latency",
        "How the latency is distributed",
        blocks.legend(*_keys(shapes), readout="cumulative"),
        blocks.figure(
            "histogram", "cumulative", told=f"End-to-end latency in milliseconds, p50, p95 and p99: {latencies}"
        ),
        note="From the making of a request to its answer at the device, on a logarithmic axis: above its shape, every "
        "tier scaled to its own peak; below the share of a tier's answers that took no longer.",
    )


def _breakdown(summary: Summary) -> Markup | None:
    bars = [_bar(name, tier.breakdown_ms) for name, tier in summary.by_tier.items() if tier.breakdown_ms is not None]
    if not bars:
        return None
    return blocks.section(
        "time", "Where the time goes", *bars,
        note=Markup(
            "The mean answered request of each tier; every bar is 100&nbsp;% of its own tier's time. Before sending "
            "is what earlier tiers and the device did first."
        ),
    )  # fmt: skip


def _bar(name: str, times: Breakdown) -> Markup:
    sizes = {part: max(0.0, getattr(times, part)) for part in told.PARTS}
    total = sum(sizes.values())
    parts = [
        Part(
            kind,
            title,
            sizes[part],
            f"{words.latency(sizes[part])} · {words.percent(sizes[part] / total if total else 0)}",
        )
        for part, (kind, title) in told.PARTS.items()
        if sizes[part]
    ]
    return blocks.bar(name, f"{words.latency(total)} on average", parts, tier_colour(name))


def _answers_note(run: Run) -> str:
    warm_up = run.scenario.run.warm_up
    left = f" Requests of the first {words.seconds(warm_up * 1e-9)} are left out." if warm_up else ""
    return f"Only answered requests have a latency; percentiles are order statistics.{left}"


def _queries(summary: Summary) -> Markup | None:
    grid = tables.queries(summary)
    if grid is None:
        return None
    return _section("queries", "Queries", grid, note="A query is answered when all of its samples are.")


def _losses(summary: Summary) -> Markup | None:
    grid = tables.losses(summary)
    if grid is None:
        return None
    return blocks.section(
        "losses", "What was lost, and why", blocks.table(grid),
        note="Where a request was lost for good. What was sent again and arrived is not lost: see the links.",
    )  # fmt: skip


def _energy(run: Run, over_time: Sequence[Plot]) -> Markup | None:
    summary = run.summary
    energy, cost = summary.energy_j, summary.cost
    if not (energy.total or cost.total):
        return None
    tier_of = {name: node.tier for name, node in run.scenario.nodes.items()}
    joules: list[tuple[str, str, float]] = [
        ("device", "devices, active", energy.device_active),
        ("idle", "devices, idle", energy.device_idle),
    ]
    joules += [(tier_of[name], f"node {name}", value) for name, value in energy.nodes.items()]
    money: list[tuple[str, str, float]] = [(tier_of[name], f"node {name}", value) for name, value in cost.nodes.items()]
    money += [("uplink", f"link {name}", value) for name, value in cost.links.items()]
    children: list[Markup] = []
    if energy.total:
        children.append(_shares("Energy", joules, energy.total, "J"))
    if cost.total:
        children.append(_shares("Cost", money, cost.total, ""))
    for plot in over_time:
        if plot.id in {"power", "alive"}:
            title = plot.curves[0].name.capitalize()
            children += [
                element("h3", title, class_="plot-title"),
                blocks.legend(*_span_keys(plot), readout=plot.id),
                blocks.figure(plot.id, told=f"{title} over virtual time."),
            ]
    batteries = tables.batteries(run.scenario, run.series.plan)
    if batteries is not None:
        children.append(blocks.table(batteries))
    children.append(blocks.table(tables.totals(summary)))
    note = (
        "Active is inference and radio, idle is everything else of a device. Sums of money are in the currency of the "
    )
    note += "scenario's prices. What states no power or price counts as nothing."
    if run.scenario.carbon is not None:
        intensity = f"{run.scenario.carbon.intensity:g} g/kWh"
        note += f" Carbon is energy at {intensity} ({run.scenario.carbon.source})."
    return blocks.section("energy", "Energy and cost", *children, note=note)


def _shares(name: str, values: Sequence[tuple[str, str, float]], total: float, unit: str) -> Markup:
    def written(value: float) -> str:
        return words.quantity(value, unit) if unit else words.amount(value)

    parts = [
        Part(kind, title, value, f"{written(value)} · {words.percent(value / total)}")
        for kind, title, value in values
        if value
    ]
    return blocks.bar(name, written(total), parts, "ink")


def _facts(run: Run) -> Markup:
    summary, origin = run.summary, run.origin
    about = {
        "scenario": run.scenario.name,
        "what it is": run.scenario.description,
        "devices": ", ".join(f"{group.count:,} {name}" for name, group in run.scenario.devices.items()),
        "virtual time": words.seconds(summary.simulated_s),
        "warm-up": words.seconds(run.scenario.run.warm_up * 1e-9) if run.scenario.run.warm_up else "",
        "replications": f"{run.scenario.run.replications}" if run.scenario.run.replications > 1 else "",
        "seed": f"{summary.seed}",
        "engine": summary.engine,
        "trace SHA-256": summary.trace_sha256,
        "set instead": told.changed(list(origin.changes.items())) if origin is not None else "",
    }
    children = [element("div", blocks.facts({name: value for name, value in about.items() if value}), class_="facts")]
    if origin is not None:
        children += [
            blocks.code(origin.command, "Command"),
            blocks.folded(f"The scenario file, {origin.file}", blocks.code(origin.text, "Scenario file")),
        ]
    children.append(
        element(
            "p",
            "The same file, seed and version give the same trace, byte for byte, on any machine, and this same page. "
            "Nothing here was measured: times, energy and losses are what the scenario's figures lead to.",
            class_="note",
        )
    )
    return blocks.section("again", "Make it again", *children)
