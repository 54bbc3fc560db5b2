"""The page of a measured run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tierwise.report import blocks, sections, words
from tierwise.report.markup import Markup, element, join
from tierwise.report.page import Page, render_page
from tierwise.report.plotdata import MAX_TIMELINE_POINTS, plot_data
from tierwise.report.summary import ANSWERED
from tierwise.report.trace_plots import trace_plots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tierwise.core.trace import TraceRow
    from tierwise.report.summary import Summary


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a page is made of. ``command`` makes it again; ``created`` is when, in words."""

    summary: Summary
    rows: Sequence[TraceRow]
    model_facts: Mapping[str, str]
    environment: Mapping[str, str]
    command: str
    created: str
    trace_name: str = "trace.csv"


def render_html(report: Report) -> str:
    """The page."""
    summary = report.summary
    where = words.where(summary)
    return render_page(
        Page(
            title=f"{summary.model}: {where}",
            eyebrow="tierwise report",
            heading=summary.model,
            subheading=where,
            lede=words.lede(summary),
            body=_body(report),
            plots=trace_plots(summary, plot_data(report.rows)),
            created=report.created,
        )
    )


def write_html(report: Report, path: Path) -> None:
    """Writes the page as UTF-8."""
    path.write_text(render_html(report), encoding="utf-8")


def _body(report: Report) -> Markup:
    summary = report.summary
    return join(
        sections.cards(summary),
        blocks.section(
            "time",
            "Where the time goes",
            sections.breakdown(summary),
            note=Markup(
                "The mean answered request of each tier; every bar is 100&nbsp;% of its own tier's time. "
                "Hatched time was not measured: it was configured, or modelled for a board."
            ),
        ),
        blocks.section(
            "latency",
            "How the latency is distributed",
            blocks.legend(sections.legend(summary), readout="cumulative"),
            blocks.figure("histogram", "cumulative", told=words.distribution(summary)),
            blocks.no_script(),
            note="End to end, from the sample to the answer at the sensor, on a logarithmic axis: above its shape, "
            "every tier scaled to its own peak; below the share of requests that took no longer.",
        ),
        _timeline(report),
        sections.confusions(summary, report.rows),
        blocks.section(
            "figures",
            "All figures",
            element(
                "div", sections.figures(summary), class_="scroll", tabindex=0, role="region",
                aria_labelledby="figures-heading",
            ),
            element(
                "p",
                "Percentiles interpolate linearly between samples. Only answered requests have a latency; shares of "
                "the time are of the sum over all answered requests.",
                class_="note",
            ),
        ),
        blocks.section(
            "honesty",
            "What was measured, and what was not",
            element("ul", sections.honesty(summary), class_="honesty"),
        ),
        element(
            "section",
            element("div", element("h2", "The model"), blocks.facts(report.model_facts)),
            element("div", element("h2", "The machine"), blocks.facts(report.environment)),
            class_="facts",
            aria_label="Model and machine",
        ),
        blocks.section(
            "again",
            "Make it again",
            blocks.code(report.command, "Command"),
            element(
                "p",
                "The same samples go to every tier in the same order. Latencies depend on the machine and on what else "
                "it does; labels, accuracy and modelled times do not. Every request is a row of ",
                element("code", report.trace_name),
                "; the instants of a modelled tier are modelled there too.",
                class_="note",
            ),
        ),
    )  # fmt: skip


def _timeline(report: Report) -> Markup:
    summary = report.summary
    shown = sections.over_time(summary)
    lost = any(
        row.outcome != ANSWERED and (row.tier in shown or not words.is_modelled(summary.tiers[row.tier]))
        for row in report.rows
    )
    thinned = any(tier.answered > MAX_TIMELINE_POINTS for tier in summary.tiers.values())
    left = [name for name, tier in summary.tiers.items() if words.has_times(tier) and name not in shown]
    return blocks.section(
        "timeline",
        "Latency over time",
        blocks.legend(sections.timeline_legend(summary, lost=lost), readout="timeline"),
        blocks.figure("timeline", told=words.distribution(summary)),
        note="One point a request"
        + (", where there are many the extremes of each stretch" if thinned else "")
        + "; drag to zoom, double-click to go back."
        + (f" Modelled times are not in it: {', '.join(left)}." if left else ""),
    )
