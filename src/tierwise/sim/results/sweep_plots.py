"""The plots of a sweep: each figure against one of the swept values, a line for each combination of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tierwise.report import words
from tierwise.report.plots import PALETTE, Axis, Curve, Mark, Plot, log_axis, short
from tierwise.report.summary import TIER_ORDER
from tierwise.sim.results.sweep import (
    PERCENTILES,
    held_together,
    limit_words,
    limits_of,
    positions_of,
    short_paths,
    whole_figures,
)
from tierwise.sim.results.words import MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tierwise.scenario.schema import Objectives
    from tierwise.sim.sweep import Point

MOST_LINES = 12
_LOG_FROM = 30.0
"""An axis is logarithmic where its largest value is so many times the smallest."""


def sweep_plots(points: Sequence[Point], slo: Objectives | None = None) -> tuple[list[tuple[Plot, str]], str, int]:
    """The plots with their titles, the path on their x axis, and how many lines there are to draw.

    On the x axis is the first path whose values are numbers, else the first; every combination of the others is a line.
    Limits of objectives are drawn across. What is not all stated is not drawn.
    """
    points = held_together(points)
    values = {path: list(dict.fromkeys(point.values[path] for point in points)) for path in points[0].values}
    several = [path for path in values if len(values[path]) > 1] or list(values)
    across = next((path for path in several if positions_of(values[path]) is not None), several[0])
    positions = positions_of(values[across])
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
    limits = limits_of(list(points[0].values), slo)
    percentiles = [name for name in PERCENTILES if name != "p95" or "p95_ms" in limits]
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
                        "ms", [*known, *(limits[f"{name}_ms"] for name in PERCENTILES if f"{name}_ms" in limits)]
                    ),
                    curves=clean,
                    marks=[mark for name in PERCENTILES for mark in _marks(f"{name}_ms", limits)],
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
    return [Mark(factor * limits[name], f"{MEASURES[name].title}{limit_words(name, limits)}", across=True)]


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
