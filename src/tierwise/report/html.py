"""One self-contained page: it opens from a mail or a USB stick and loads nothing.

Everything that came from outside (labels, model names, outcomes, versions) is text to ``markup`` and JSON to the
plots. The page's policy lets only the one script and the one style sheet run whose hashes it names, so markup that
slipped in nevertheless could do nothing.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

import msgspec

from tierwise import __version__
from tierwise.report import sections, words
from tierwise.report.markup import join
from tierwise.report.plotdata import MAX_TIMELINE_POINTS, plot_data
from tierwise.report.summary import ANSWERED

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
    style = _asset("uPlot.min.css") + _asset("report.css")
    script = _asset("uPlot.iife.min.js") + "\n" + _asset("report.js")
    data = plot_data(report.rows)
    over_time = sections.over_time(summary)
    lost = any(
        row.outcome != ANSWERED and (row.tier in over_time or not words.is_modelled(summary.tiers[row.tier]))
        for row in report.rows
    )
    thinned = any(tier.answered > MAX_TIMELINE_POINTS for tier in summary.tiers.values())
    parts = {
        "title": join(f"{summary.model}: {words.where(summary)}"),
        "model": join(summary.model),
        "where": join(words.where(summary)),
        "lede": join(words.lede(summary)),
        "cards": sections.cards(summary),
        "breakdown": sections.breakdown(summary),
        "legend": sections.legend(summary),
        "timeline_legend": sections.timeline_legend(summary, lost=lost),
        "distribution_text": join(words.distribution(summary)),
        "timeline_text": join(words.distribution(summary)),
        "not_over_time": join(_not_over_time(summary)),
        "thinned": join(", where there are many the extremes of each stretch" if thinned else ""),
        "confusion": sections.confusions(summary, report.rows),
        "table": sections.figures(summary),
        "honesty": sections.honesty(summary),
        "model_facts": sections.facts(report.model_facts),
        "environment": sections.facts(report.environment),
        "command": join(report.command),
        "trace_name": join(report.trace_name),
        "created": join(report.created),
        "version": join(__version__),
    }
    return Template(_asset("report.html")).substitute(
        parts, policy=_policy(script, style), style=style, script=script, data=_script_json(_plots(summary, data))
    )


def write_html(report: Report, path: Path) -> None:
    """Writes the page as UTF-8."""
    path.write_text(render_html(report), encoding="utf-8")


def _plots(summary: Summary, data: object) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(data)
    plain["configured"] = [
        {"name": name, "ms": tier.configured_delay_ms}
        for name, tier in summary.tiers.items()
        if tier.configured_delay_ms
    ]
    plain["modelled"] = [name for name, tier in summary.tiers.items() if words.is_modelled(tier)]
    plain["over_time"] = sections.over_time(summary)
    return plain


def _not_over_time(summary: Summary) -> str:
    """Why tiers of the other plots are not in the timeline."""
    shown = sections.over_time(summary)
    left = [name for name, tier in summary.tiers.items() if words.has_times(tier) and name not in shown]
    return f" Modelled times are not in it: {', '.join(left)}." if left else ""


def _script_json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = msgspec.json.encode(value).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(script: str, style: str) -> str:
    """Content security policy: this script and this style sheet, nothing else, from nowhere."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return files("tierwise.report").joinpath("assets", name).read_text(encoding="utf-8")
