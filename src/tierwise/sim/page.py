"""One self-contained HTML page about a run: time series, distributions, tables, constants. No script, no network."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from tierwise.report.markup import Markup, element, join
from tierwise.sim.series import TIERS, Series

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.summary import Summary

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760.0, 220.0, 64.0, 26.0
_COLOURS = {"device": "#0a7d4f", "edge": "#1f5fbf", "cloud": "#8a3fb5", "requests": "#888", "lost": "#c0332b"}
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2024;background:#fff}
h1{margin-bottom:0}
h2{margin-top:2rem}
table{border-collapse:collapse;width:100%}
td,th{padding:.25rem .5rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}
svg{width:100%;height:auto}
text{font-size:12px;fill:#555}
@media(prefers-color-scheme:dark){body{background:#15181b;color:#e6e8ea}td,th{border-color:#333}text{fill:#aaa}}
"""


def write_page(scenario: Scenario, summary: Summary, series: Series, path: Path) -> None:
    """Writes the page as UTF-8."""
    path.write_text(render_page(scenario, summary, series), encoding="utf-8")


def render_page(scenario: Scenario, summary: Summary, series: Series) -> str:
    """The page."""
    policy = f"default-src 'none'; style-src 'sha256-{_hash(_STYLE)}'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", **{"http-equiv": "Content-Security-Policy", "content": policy}),
        element("title", scenario.name),
        element("style", Markup(_STYLE)),
    )
    body = element(
        "body",
        element("h1", scenario.name),
        element("p", scenario.description),
        element("p", join(_lede(summary))),
        element("h2", "Requests over time"),
        _chart(series.starts_s(), _rates(series), "requests a second", "s"),
        element("h2", "Mean latency over time"),
        _chart(series.starts_s(), {"edge": series.mean_ms()}, "ms", "s"),
        element("h2", "Distribution of latency"),
        _histogram(series),
        element("h2", "Tiers"),
        _tiers(summary),
        element("h2", "Links"),
        _links(summary),
        element("h2", "Nodes"),
        _nodes(summary),
        element("h2", "Objectives, energy, cost"),
        _table(("", "value"), _totals(summary)),
        element("h2", "Constants and where they come from"),
        _table(
            ("where", "values", "source"),
            [
                (one.path, ", ".join(f"{key} {value}" for key, value in one.value.items()), one.source)
                for one in summary.constants
            ],
        ),
        element("p", f"Engine: {summary.engine}. Seed {summary.seed}. Trace SHA-256 {summary.trace_sha256}."),
    )
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def _lede(summary: Summary) -> str:
    lost = sum(summary.dropped.values())
    latency = summary.end_to_end_ms
    speed = "" if latency is None else f" in {latency.mean:.3g} ms on average, 99 % within {latency.p99:.3g} ms"
    accuracy = "" if summary.accuracy is None else f" {summary.accuracy:.1%} of the judged answers were right."
    return (
        f"{summary.requests:,} requests in {summary.simulated_s:g} s of virtual time: "
        f"{summary.answered:,} answered{speed}, {lost:,} lost, {summary.in_flight:,} under way at the end.{accuracy}"
    )


def _rates(series: Series) -> dict[str, NDArray[np.float64]]:
    a_second = 1e9 / series.bucket_ns
    lines: dict[str, NDArray[np.float64]] = {"requests": np.asarray(series.requests * a_second)}
    for code, tier in enumerate(TIERS):
        if series.answered[code].any():
            lines[tier] = np.asarray(series.answered[code] * a_second)
    if series.lost.any():
        lines["lost"] = np.asarray(series.lost * a_second)
    return lines


def _chart(x: NDArray[np.float64], lines: Mapping[str, NDArray[np.float64]], unit: str, x_unit: str) -> Markup:
    top = max(1e-12, *(float(y.max()) for y in lines.values()))
    right = max(1e-12, float(x[-1]))
    parts = [
        element("text", f"{top:.4g} {unit}", x=0, y=14),
        element("text", "0", x=_LEFT - 12, y=_HEIGHT - _BOTTOM),
        element("text", f"{right:.4g} {x_unit}", x=_WIDTH - 70, y=_HEIGHT - 6),
    ]
    for position, (name, y) in enumerate(lines.items()):
        across = _LEFT + x / right * (_WIDTH - _LEFT - 8)
        up = (_HEIGHT - _BOTTOM) - y / top * (_HEIGHT - _BOTTOM - 20)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across.tolist(), up.tolist(), strict=True))
        colour = _COLOURS.get(name, "#1f5fbf")
        parts.append(element("polyline", points=points, fill="none", stroke=colour, **{"stroke-width": 1.6}))
        if len(lines) > 1:
            parts.append(element("text", f"— {name}", x=_LEFT + 90 * position, y=_HEIGHT - 6))
            parts.append(element("rect", x=_LEFT + 90 * position, y=_HEIGHT - 11, width=11, height=3, fill=colour))
    return element("svg", *parts, viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img")


def _histogram(series: Series) -> Markup:
    used = np.flatnonzero(series.histogram.sum(axis=0))
    if not len(used):
        return element("p", "Nothing was answered.")
    span = slice(max(0, int(used[0]) - 1), int(used[-1]) + 2)
    shares = {
        tier: series.histogram[code, span] / max(1, series.histogram.sum())
        for code, tier in enumerate(TIERS)
        if series.histogram[code].any()
    }
    edges = series.bins_ms()[span]
    axis = np.arange(len(edges), dtype=np.float64)
    caption = f"From {edges[0]:.3g} to {edges[-1]:.3g} ms in {len(edges)} logarithmic steps."
    return join(_chart(axis, shares, "of all answers", "steps"), element("p", caption))


def _tiers(summary: Summary) -> Markup:
    rows = []
    for name, tier in summary.by_tier.items():
        latency, parts = tier.end_to_end_ms, tier.breakdown_ms
        figures = [] if latency is None else [latency.mean, latency.p50, latency.p95, latency.p99]
        spent = [] if parts is None else [parts.uplink, parts.queue, parts.inference, parts.downlink]
        accuracy = "" if tier.quality.accuracy is None else f"{tier.quality.accuracy:.4f}"
        rows.append((name, f"{tier.answered:,}", *(f"{figure:.3f}" for figure in [*figures, *spent]), accuracy))
    header = (
        "tier",
        "answered",
        "mean ms",
        "p50",
        "p95",
        "p99",
        "uplink",
        "queue",
        "inference",
        "downlink",
        "accuracy",
    )
    return _table(header, rows)


def _links(summary: Summary) -> Markup:
    header = ("link", "messages", "delivered", "lost", "cut", "refused", "retries", "bytes", "busy", "mean wait ms")
    return _table(
        header,
        [
            (
                f"{name} {way}", *(f"{value:,}" for value in (
                    link.messages, link.delivered, link.lost, link.cut, link.refused, link.retries, link.bytes
                )), f"{link.utilisation:.1%}", f"{link.mean_wait_ms:.3f}",
            )
            for name, ways in summary.links.items()
            for way, link in ways.items()
        ],
    )  # fmt: skip


def _nodes(summary: Summary) -> Markup:
    header = ("node", "offered", "served", "refused", "cut", "mean batch", "busy", "mean wait ms", "longest queue")
    return _table(
        header,
        [
            (
                name, *(f"{value:,}" for value in (node.offered, node.served, node.refused, node.cut)),
                f"{node.mean_batch:.2f}", f"{node.utilisation:.1%}", f"{node.mean_wait_ms:.3f}",
                f"{node.longest_queue}",
            )
            for name, node in summary.nodes.items()
        ],
    )  # fmt: skip


def _totals(summary: Summary) -> Iterable[tuple[str, str]]:
    yield from ((f"objective {name}", "met" if met else "MISSED") for name, met in summary.slo.items())
    energy = summary.energy_j
    yield "energy, all", f"{energy.total:.6g} J"
    yield "energy of devices, active", f"{energy.device_active:.6g} J"
    yield "energy of devices, idle", f"{energy.device_idle:.6g} J"
    yield from ((f"energy of {name}", f"{joule:.6g} J") for name, joule in energy.nodes.items())
    yield "cost", f"{summary.cost.total:.6g}"
    if summary.carbon_g is not None:
        yield "carbon", f"{summary.carbon_g:.4g} g"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    lines = [element("tr", *(element("th", join(cell)) for cell in header))]
    lines += [element("tr", *(element("td", join(cell)) for cell in row)) for row in rows]
    return element("table", *lines)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
