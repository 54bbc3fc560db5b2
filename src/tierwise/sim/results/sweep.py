"""A sweep: how the figures depend on the swept values."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tierwise.report import blocks, words
from tierwise.report.grid import Cell, Grid
from tierwise.report.markup import Markup, element, join
from tierwise.report.page import Page, render_page
from tierwise.report.plots import PALETTE, Axis, Curve, Mark, Plot, log_axis, short
from tierwise.report.summary import TIER_ORDER
from tierwise.scenario import units
from tierwise.sim.results import words as told
from tierwise.sim.results.words import MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tierwise.scenario.schema import Objectives, Scenario
    from tierwise.sim.results.origin import Origin
    from tierwise.sim.sweep import Point

CSV_FIGURES = (
    "requests", "answered", "answered_share", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "accuracy", "energy_j", "cost",
    "carbon_g", "trace_sha256",
)  # fmt: skip
MOST_LINES = 12
_LOG_FROM = 30.0
"""An axis is logarithmic where its largest value is so many times the smallest."""


class Swept(msgspec.Struct, frozen=True):
    """The scenario and its points, in the order of the grid."""

    scenario: Scenario
    origin: Origin
    points: list[Point]


def figures(point: Point) -> dict[str, Any]:
    """What is told of a point, over its replications their means; nothing of one that could not be run."""
    if point.summary is None:
        return {}
    one = point.summary
    latency = one["end_to_end_ms"] or {}
    return {
        "requests": one["requests"],
        "answered": one["answered"],
        "answered_share": one["answered_share"],
        **{f"{name}_ms": latency.get(name) for name in ("mean", "p50", "p95", "p99")},
        "accuracy": one["accuracy"],
        "energy_j": one["energy_j"]["total"],
        "cost": one["cost"]["total"],
        "carbon_g": one["carbon_g"],
        "trace_sha256": one["trace_sha256"],
        **{name: interval["mean"] for name, interval in one.get("replications", {}).items()},
    }


def _runs(points: Sequence[Point]) -> int:
    """How many replications points have."""
    each = [interval for point in points for interval in (point.summary or {}).get("replications", {}).values()]
    return max((interval["samples"] for interval in each), default=1)


def half_widths(point: Point) -> dict[str, float | None]:
    """Of the 95 % intervals over a point's replications; nothing of a single run."""
    replications = (point.summary or {}).get("replications", {})
    return {name: interval["half_width"] for name, interval in replications.items()}


def missed(point: Point) -> list[str]:
    """The objectives that a point misses in any of its runs, with in how many it meets them where some do."""
    one = point.summary or {}
    runs = _runs([point])
    met = one.get("slo_met") or {name: int(met) for name, met in one.get("slo", {}).items() if met is not None}
    return [
        name.replace("_", " ") + (f" (met {count}/{runs})" if count else "")
        for name, count in met.items()
        if count < runs
    ]


def unstated(point: Point) -> dict[str, list[str]]:
    """Figures of a point that are least values, with what is not stated of them."""
    left_out: dict[str, list[str]] = (point.summary or {}).get("unstated", {})
    return left_out


def whole_figures(point: Point) -> dict[str, Any]:
    """``figures`` without those of which a part is not stated: points must not be ranked by them."""
    return {name: value for name, value in figures(point).items() if name not in unstated(point)}


def as_csv(points: Sequence[Point]) -> str:
    """One line a point: the swept values, the figures, and the error where there is one."""
    paths = list(points[0].values)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    halves = [f"{name}_half_width" for name in MEASURES]
    writer.writerow([*paths, *CSV_FIGURES, *halves, "missed", "not_stated", "error"])
    for point in points:
        found = figures(point)
        writer.writerow(
            [
                *point.values.values(),
                *("" if found.get(name) is None else found[name] for name in CSV_FIGURES),
                *("" if half_widths(point).get(name) is None else half_widths(point)[name] for name in MEASURES),
                " ".join(missed(point)),
                " ".join(path for paths in unstated(point).values() for path in paths),
                point.error or "",
            ]
        )
    return text.getvalue()


def point_grid(points: Sequence[Point], slo: Objectives | None = None) -> Grid:
    """One row a point. With objectives their limits stand in the columns' titles, and a column says which are met."""
    paths = list(points[0].values)
    limits = _limits(paths, slo)
    shown = [name for name in MEASURES if name in limits or any(figures(point).get(name) for point in points)]
    judged = any((point.summary or {}).get("slo") for point in points)
    rows: list[list[str | Cell]] = []
    for point in points:
        swept = [value if _is_number(value) else Cell(value, prose=True) for value in point.values.values()]
        cells = ([_judged(point)] if judged else []) + [_cell(name, point) for name in shown]
        if point.error is not None and cells:
            cells[0] = Cell("failed", "bad")
        rows.append([*swept, *cells])
    titles = {name: f"{MEASURES[name].title}{_limit(name, limits)}" for name in shown}
    brief = [title for name, title in titles.items() if name in limits or name not in _SELDOM_ASKED]
    meets = ["objectives"] if judged else []
    return Grid(
        "points",
        [*short_paths(paths), *meets, *titles.values()],
        rows,
        [*short_paths(paths)[1:], *meets, *brief],
    )


_SELDOM_ASKED = {"mean_ms", "p95_ms"}


def _limits(paths: Sequence[str], slo: Objectives | None) -> dict[str, float]:
    """The limit of each measure in its own unit; nothing of objectives that are swept themselves."""
    if slo is None or "slo" in paths:
        return {}
    stated = {
        **{f"{name}_ms": None if (limit := getattr(slo, name)) is None else limit * 1e-6 for name in _PERCENTILES},
        "answered_share": slo.answered,
        "accuracy": slo.accuracy,
    }
    of = {measure: f"slo.{measure.removesuffix('_ms').removesuffix('_share')}" for measure in stated}
    return {name: limit for name, limit in stated.items() if limit is not None and of[name] not in paths}


_PERCENTILES = ("p50", "p95", "p99")


def _limit(name: str, limits: Mapping[str, float]) -> str:
    if name not in limits:
        return ""
    return f" {'≥' if MEASURES[name].more_is_better else '≤'} {MEASURES[name].write(limits[name])}"


def _cell(name: str, point: Point) -> str | Cell:
    measure, value = MEASURES[name], figures(point).get(name)
    text = told.at_least(measure, value, whole=name not in unstated(point))
    half = half_widths(point).get(name)
    if value is not None and half and not measure.more_is_better and name not in unstated(point):
        text = told.compact(text, value, half)
    own = name.removesuffix("_ms").removesuffix("_share")
    if (point.summary or {}).get("slo", {}).get(own) is None:
        return text
    return Cell(text, "bad" if any(one.split(" (")[0] == own for one in missed(point)) else "good")


def _judged(point: Point) -> Cell:
    if point.summary is None:
        return Cell(words.NOTHING)
    if out := missed(point):
        return Cell(f"MISSED: {', '.join(out)}", "bad", prose=True)
    if open_ := [name for name, met in point.summary["slo"].items() if met is None]:
        return Cell(f"not judged: {', '.join(open_)}", prose=True)
    return Cell("met", "good", prose=True)


def errors(points: Sequence[Point]) -> list[str]:
    """Why points could not be run."""
    return [f"{told.changed(list(point.values.items()))}: {point.error}" for point in points if point.error is not None]


def short_paths(paths: Sequence[str]) -> list[str]:
    """The ends of dotted paths, as far as they tell them apart."""
    for parts in range(1, 9):
        ends = [".".join(path.split(".")[-parts:]) for path in paths]
        if len(set(ends)) == len(paths):
            return ends
    return list(paths)


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
    runs = _runs(swept.points)
    over = f" Means of {runs} runs each, latencies with half of their 95 % interval." if runs > 1 else ""
    return f"Also in sweep.csv.{over}"


def _keys(plot: Plot) -> list[Markup]:
    return [(blocks.line_key if curve.dashed else blocks.key)(curve.name, curve.colour) for curve in plot.curves]


def _lede(points: Sequence[Point]) -> str:
    """How far the figures spread."""
    runs = _runs(points)
    parts = [f"{len(points):,} points of {runs} runs each." if runs > 1 else f"{len(points):,} runs."]
    judged = [point for point in points if (point.summary or {}).get("slo")]
    if judged:
        best = sum(_judged(point).tone == "good" for point in judged)
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


def sweep_plots(points: Sequence[Point], slo: Objectives | None = None) -> tuple[list[tuple[Plot, str]], str, int]:
    """The plots with their titles, the path on their x axis, and how many lines there are to draw.

    On the x axis is the first path whose values are numbers, else the first; every combination of the others is a line.
    Limits of objectives are drawn across.
    """
    values = {path: list(dict.fromkeys(point.values[path] for point in points)) for path in points[0].values}
    several = [path for path in values if len(values[path]) > 1] or list(values)
    across = next((path for path in several if _positions(values[path]) is not None), several[0])
    positions = _positions(values[across])
    axis = _axis(values[across], positions)
    at = dict(zip(values[across], axis.ticks, strict=True))
    others = [path for path in several if path != across]
    lines: dict[tuple[str, ...], list[tuple[float, dict[str, Any]]]] = {}
    for point in points:
        lines.setdefault(tuple(point.values[path] for path in others), []).append(
            (at[point.values[across]], whole_figures(point))
        )
    shape: Literal["points", "dots"] = "points" if positions is None else "dots"
    drawn = dict(list(lines.items())[:MOST_LINES])

    def curves(names: Mapping[str, str], factor: float = 1.0) -> list[Curve]:
        return [
            Curve(
                " ".join(part for part in (*line, suffix) if part) or MEASURES[name].title,
                colour,
                [x for x, _ in sorted(own, key=_first)],
                [
                    None if found.get(name) is None else short(factor * found[name])
                    for _, found in sorted(own, key=_first)
                ],
                shape,
                dashed=suffix in {"p95", "p99"},
            )
            for colour, (line, own) in zip(_colours(drawn), drawn.items(), strict=True)
            for name, suffix in names.items()
        ]

    plots = []
    limits = _limits(list(points[0].values), slo)
    percentiles = [name for name in _PERCENTILES if name != "p95" or "p95_ms" in limits]
    latency = curves({f"{name}_ms": name for name in percentiles})
    known = [value for curve in latency for value in curve.y if value]
    common: dict[str, Any] = {"x": axis, "height": 220, "lead": short_paths([across])[0], "sync": "sweep"}
    if known:
        clean = [msgspec.structs.replace(curve, y=[value or None for value in curve.y]) for curve in latency]
        plots.append(
            (
                Plot(
                    id="latency",
                    y=log_axis(
                        "ms", [*known, *(limits[f"{name}_ms"] for name in _PERCENTILES if f"{name}_ms" in limits)]
                    ),
                    curves=clean,
                    marks=[mark for name in _PERCENTILES for mark in _marks(f"{name}_ms", limits)],
                    **common,
                ),
                f"Latency, {_shares_of(percentiles)} of the answers",
            )
        )
    for name, title, unit, factor in (
        ("answered_share", "Answered", "%", 100.0), ("accuracy", "Accuracy", "%", 100.0),
        ("energy_j", "Energy of the whole run", "J", 1.0), ("cost", "Cost of the whole run", "", 1.0),
    ):  # fmt: skip
        found = curves({name: ""}, factor)
        if any(value for curve in found for value in curve.y):
            marks = _marks(name, limits, factor)
            y = _percent_axis(found, [mark.at for mark in marks]) if unit == "%" else Axis(unit, low=0)
            plots.append((Plot(id=name.replace("_", "-"), y=y, curves=found, marks=marks, **common), title))
    return plots, across, len(lines)


def _first(pair: tuple[float, object]) -> float:
    return pair[0]


def _shares_of(percentiles: Sequence[str]) -> str:
    """``half of, 95 % of and 99 %``."""
    return words.listed(["half" if name == "p50" else f"{name[1:]} %" for name in percentiles])


def _marks(name: str, limits: Mapping[str, float], factor: float = 1.0) -> list[Mark]:
    """The limit of an objective, across the plot."""
    if name not in limits:
        return []
    return [Mark(factor * limits[name], f"{MEASURES[name].title}{_limit(name, limits)}", across=True)]


def _percent_axis(curves: Sequence[Curve], limits: Sequence[float]) -> Axis:
    """Shares lie close together: the axis shows them with room around, not from zero."""
    known = [*limits, *(value for curve in curves for value in curve.y if value is not None)]
    margin = max(1.0, 0.2 * (max(known) - min(known)))
    return Axis("%", low=max(0.0, min(known) - margin), high=min(100.0 + margin / 4, max(known) + margin))


def _colours(lines: Iterable[tuple[str, ...]]) -> list[str]:
    """Tiers have their own colours where all lines are tiers."""
    names = [line[0] if len(line) == 1 else "" for line in lines]
    if set(names) <= set(TIER_ORDER):
        return names
    return [PALETTE[number % len(PALETTE)] for number in range(len(names))]


def _axis(values: Sequence[str], positions: Sequence[float] | None) -> Axis:
    """Ticks at exactly the swept values, as they were typed."""
    if positions is None:
        ticks = [float(number) for number in range(len(values))]
        return Axis(low=-0.5, high=len(values) - 0.5, ticks=ticks, names=list(values))
    low, high = min(positions), max(positions)
    if low > 0 and high / low >= _LOG_FROM:
        return Axis(log=True, low=low / 1.15, high=high * 1.15, ticks=list(positions), names=list(values))
    margin = 0.04 * (high - low) or abs(high) * 0.04 or 1.0
    return Axis(low=low - margin, high=high + margin, ticks=list(positions), names=list(values))


def _is_number(text: str) -> bool:
    return _positions([text]) is not None


def _positions(values: Sequence[str]) -> list[float] | None:
    """The values as numbers in a base unit, where all are of one kind and differ."""
    for kind in (None, *units.DIMENSIONS):
        try:
            found = [float(value) if kind is None else float(units.parse(value, kind)) for value in values]
        except ValueError:
            continue
        if len(set(found)) == len(found):
            return found
    return None
