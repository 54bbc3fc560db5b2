"""The page of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tierwise.report import blocks, words
from tierwise.report.markup import Markup, element, join
from tierwise.report.page import Page, render_page
from tierwise.sim.results import words as told
from tierwise.sim.results.sweep import (
    errors,
    held_together,
    point_grid,
    runs_of,
    short_paths,
    verdict_of,
    whole_figures,
)
from tierwise.sim.results.sweep_plots import MOST_LINES, sweep_plots
from tierwise.sim.results.words import MEASURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierwise.report.plots import Plot
    from tierwise.scenario.schema import Scenario
    from tierwise.sim.results.origin import Origin
    from tierwise.sim.sweep import Point


class Swept(msgspec.Struct, frozen=True):
    """The scenario and its points, in the order of the grid."""

    scenario: Scenario
    origin: Origin
    points: list[Point]


def render_sweep(swept: Swept) -> str:
    """The page."""
    slo = swept.scenario.slo
    plots, across, lines = sweep_plots(swept.points, slo)
    paths = list(swept.points[0].values)
    failed = errors(swept.points)
    drawn: list[Markup] = []
    for plot, title in plots:
        drawn += [
            element("h3", title),
            blocks.legend(*_keys(plot), readout=plot.id),
            blocks.figure(plot.id, told=f"{title} against {across}."),
        ]
    left = f" Only the first {MOST_LINES} of {lines} lines are drawn." if lines > MOST_LINES else ""
    facts = {
        "seed": f"{swept.scenario.run.seed}", "devices": told.devices(swept.scenario),
        "virtual time": words.seconds(swept.scenario.run.duration * 1e-9),
        "set in all": told.changed(list(swept.origin.changes.items())),
    }  # fmt: skip
    body = join(
        blocks.section("plots", "What depends on it", *drawn, blocks.no_script(),
                       note=f"On the x axis {across}; all points have the same seed. "
                f"Shares are drawn around their values, not from zero.{left}")
        if plots else "",
        blocks.section("points", "All points", blocks.table(point_grid(swept.points, slo)), note=_points_note(swept)),
        blocks.section("failed", "Points that could not be run", element("ul", *(element("li", one) for one in failed)))
        if failed else "",
        blocks.section(
            "again", "Make it again",
            element("div", blocks.facts({name: value for name, value in facts.items() if value}), class_="facts"),
            blocks.code(swept.origin.command, "Command"),
            blocks.folded(f"The scenario file, {swept.origin.file}", blocks.code(swept.origin.text, "Scenario file")),
        ),
    )  # fmt: skip
    return render_page(
        Page(
            title=f"{swept.scenario.name}: sweep", eyebrow="tierwise sweep", heading=swept.scenario.name,
            subheading=f"by {words.listed(short_paths(paths))}", lede=_lede(swept.points), body=body,
            plots=[plot for plot, _ in plots],
        )
    )  # fmt: skip


def _points_note(swept: Swept) -> str:
    runs = runs_of(swept.points)
    over = f" Means of {runs} runs each, latencies with half of their 95 % interval." if runs > 1 else ""
    return f"Also in sweep.csv.{over}"


def _keys(plot: Plot) -> list[Markup]:
    return [(blocks.line_key if curve.dashed else blocks.key)(curve.name, curve.colour) for curve in plot.curves]


def _lede(points: Sequence[Point]) -> str:
    """How far the figures spread."""
    points = held_together(points)
    runs = runs_of(points)
    parts = [f"{len(points):,} points of {runs} runs each." if runs > 1 else f"{len(points):,} runs."]
    judged = [point for point in points if (point.summary or {}).get("slo")]
    if judged:
        best = sum(verdict_of(point).tone == "good" for point in judged)
        parts.append(f"{best:,} of {len(judged):,} meet all objectives.")
    for name in ("answered_share", "p99_ms", "accuracy", "energy_j", "cost"):
        known = [(value, point) for point in points if (value := whole_figures(point).get(name)) is not None]
        written = {MEASURES[name].write(value) for value, _ in known}
        if len(written) > 1:
            low, high = min(known, key=lambda pair: pair[0]), max(known, key=lambda pair: pair[0])
            write, title = MEASURES[name].write, MEASURES[name].title
            parts.append(
                f"{title[:1].upper()}{title[1:]} goes from {write(low[0])} ({', '.join(low[1].values.values())}) "
                f"to {write(high[0])} ({', '.join(high[1].values.values())})."
            )
    return " ".join(parts)
