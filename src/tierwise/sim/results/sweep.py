"""The points of a sweep as tables: how the figures depend on the swept values."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import msgspec

from tierwise.report import words
from tierwise.report.grid import Cell, Grid
from tierwise.scenario import units
from tierwise.sim.results import words as told
from tierwise.sim.results.words import MEASURES
from tierwise.sim.unstated import Parts, lacking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tierwise.scenario.schema import Objectives
    from tierwise.sim.results.words import Judged
    from tierwise.sim.sweep import Point

CSV_FIGURES = (
    "requests", "answered", "answered_share", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "accuracy", "energy_j", "cost",
    "carbon_g", "trace_sha256",
)  # fmt: skip
PERCENTILES = ("p50", "p95", "p99")
_SELDOM_ASKED = {"mean_ms", "p95_ms"}


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


def runs_of(points: Sequence[Point]) -> int:
    """How many replications points have."""
    each = [interval for point in points for interval in (point.summary or {}).get("replications", {}).values()]
    return max((interval["samples"] for interval in each), default=1)


def half_widths(point: Point) -> dict[str, float | None]:
    """Of the 95 % intervals over a point's replications; nothing of a single run."""
    replications = (point.summary or {}).get("replications", {})
    return {name: interval["half_width"] for name, interval in replications.items()}


def judged(point: Point) -> dict[str, Judged]:
    """Each objective over all runs of a point."""
    one = point.summary or {}
    return told.judged(one.get("slo", {}), one.get("slo_met", {}), runs_of([point]))


def missed(point: Point) -> list[str]:
    """The objectives that a point misses in any of its runs, with in how many it meets them where some do."""
    runs = runs_of([point])
    return [
        name.replace("_", " ") + (f" (met {one.times}/{runs})" if one.times else "")
        for name, one in judged(point).items()
        if one.met is False
    ]


def unstated(point: Point) -> dict[str, list[str]]:
    """Figures of a point that are least values, with what is not stated of them."""
    left_out: dict[str, list[str]] = (point.summary or {}).get("unstated", {})
    return left_out


def held_together(points: Sequence[Point]) -> list[Point]:
    """The points, each with what it would have to state to be held against the others: as two scenarios that are
    compared (``unstated.lacking``)."""
    parts = [msgspec.convert((point.summary or {}).get("parts", {}), Parts) for point in points]
    keys = [msgspec.json.encode(one) for one in parts]  # few differ: prices and powers are not in them
    different = {key: one for key, one in zip(keys, parts, strict=True) if one}  # a point that failed has none
    left_out = {key: _merged([lacking(one, other) for other in different.values()]) for key, one in different.items()}
    return [_lacking_too(point, left_out.get(key, {})) for point, key in zip(points, keys, strict=True)]


def _lacking_too(point: Point, left_out: dict[str, list[str]]) -> Point:
    """The point with more that is not stated: of its carbon what is not of its energy."""
    if point.summary is None:
        return point
    carbon = {} if point.summary["carbon_g"] is None else {"carbon_g": left_out.get("energy_j", [])}
    return msgspec.structs.replace(
        point, summary=point.summary | {"unstated": _merged([unstated(point), left_out, carbon])}
    )


def _merged(each: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    """The paths of each figure, once each."""
    found: dict[str, dict[str, None]] = {}
    for one in each:
        for figure, paths in one.items():
            found.setdefault(figure, {}).update(dict.fromkeys(paths))
    return {figure: list(paths) for figure, paths in found.items() if paths}


def whole_figures(point: Point) -> dict[str, Any]:
    """``figures`` without those of which a part is not stated: points must not be ranked by them."""
    return {name: value for name, value in figures(point).items() if name not in unstated(point)}


def as_csv(points: Sequence[Point]) -> str:
    """One line a point: the swept values, the figures, and the error where there is one."""
    points = held_together(points)
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
                " ".join(dict.fromkeys(path for paths in unstated(point).values() for path in paths)),
                point.error or "",
            ]
        )
    return text.getvalue()


def point_grid(points: Sequence[Point], slo: Objectives | None = None) -> Grid:
    """One row a point. With objectives their limits stand in the columns' titles, and a column says which are met."""
    points = held_together(points)
    paths = list(points[0].values)
    limits = limits_of(paths, slo)
    shown = [name for name in MEASURES if name in limits or any(figures(point).get(name) for point in points)]
    any_judged = any(map(judged, points))
    rows: list[list[str | Cell]] = []
    for point in points:
        swept = [value if is_number(value) else Cell(value, prose=True) for value in point.values.values()]
        cells = ([verdict_of(point)] if any_judged else []) + [_cell(name, point) for name in shown]
        if point.error is not None and cells:
            cells[0] = Cell("failed", "bad")
        rows.append([*swept, *cells])
    titles = {name: f"{MEASURES[name].title}{limit_words(name, limits)}" for name in shown}
    brief = [title for name, title in titles.items() if name in limits or name not in _SELDOM_ASKED]
    meets = ["objectives"] if any_judged else []
    return Grid(
        "points",
        [*short_paths(paths), *meets, *titles.values()],
        rows,
        [*short_paths(paths)[1:], *meets, *brief],
    )


def limits_of(paths: Sequence[str], slo: Objectives | None) -> dict[str, float]:
    """The limit of each measure in its own unit; nothing of objectives that are swept themselves."""
    if slo is None or "slo" in paths:
        return {}
    stated = {
        **{f"{name}_ms": None if (limit := getattr(slo, name)) is None else limit * 1e-6 for name in PERCENTILES},
        "answered_share": slo.answered,
        "accuracy": slo.accuracy,
    }
    of = {measure: f"slo.{measure.removesuffix('_ms').removesuffix('_share')}" for measure in stated}
    return {name: limit for name, limit in stated.items() if limit is not None and of[name] not in paths}


def limit_words(name: str, limits: Mapping[str, float]) -> str:
    if name not in limits:
        return ""
    return f" {'≥' if MEASURES[name].more_is_better else '≤'} {MEASURES[name].write(limits[name])}"


def _cell(name: str, point: Point) -> str | Cell:
    measure, value = MEASURES[name], figures(point).get(name)
    text = told.at_least(measure, value, whole=name not in unstated(point))
    half = half_widths(point).get(name)
    if value is not None and half and not measure.more_is_better and name not in unstated(point):
        text = told.compact(text, value, half)
    own = judged(point).get(name.removesuffix("_ms").removesuffix("_share"))
    if own is None or own.met is None:
        return text
    return Cell(text, "good" if own.met else "bad")


def verdict_of(point: Point) -> Cell:
    if point.summary is None:
        return Cell(words.NOTHING)
    if out := missed(point):
        return Cell(f"MISSED: {', '.join(out)}", "bad", prose=True)
    if open_ := [name.replace("_", " ") for name, one in judged(point).items() if one.met is None]:
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


def is_number(text: str) -> bool:
    return positions_of([text]) is not None


def positions_of(values: Sequence[str]) -> list[float] | None:
    """The values as numbers in a base unit, where all are of one kind and differ."""
    for kind in (None, *units.DIMENSIONS):
        try:
            found = [float(value) if kind is None else float(units.parse(value, kind)) for value in values]
        except ValueError:
            continue
        if len(set(found)) == len(found):
            return found
    return None
