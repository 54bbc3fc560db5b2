"""A comparison of two scenarios: what differs, by how much, and how sure that is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from tierwise.report import blocks, words
from tierwise.report.blocks import Range, Ruler
from tierwise.report.grid import Cell, Grid
from tierwise.report.markup import Markup, element, join
from tierwise.report.page import Page, render_page
from tierwise.report.plots import PALETTE, Axis, Curve, Mark, Plot, log_axis, shorts, tier_colour
from tierwise.scenario.units import format_ns
from tierwise.sim.results import words as told
from tierwise.sim.results.words import MEASURES, Measure
from tierwise.sim.sensitivity import LEAST_ANSWERED, Flip
from tierwise.sim.statistics import Interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.compare import Comparison, Difference
    from tierwise.sim.results.origin import Origin

_CHANCE = "may be chance"
_NOT_STATED = "not stated"
_SHORT_NAME = 12
_LEGEND_NAME = 24
_MOST_TICKS = 20
_LATENCIES = ("mean_ms", "p50_ms", "p95_ms", "p99_ms")


class Sensitivity(msgspec.Struct, frozen=True):
    """The constants that were tried, by their dotted paths, and those that turn a conclusion round."""

    tried: list[str]
    flips: list[Flip]


class Compared(msgspec.Struct, frozen=True):
    """Both scenarios and what came of them. ``sensitivity`` is ``None`` where nobody asked for it."""

    scenarios: tuple[Scenario, Scenario]
    origins: tuple[Origin, Origin]
    result: Comparison
    sensitivity: Sensitivity | None


def names(result: Comparison) -> tuple[str, str]:
    """Of both; ``first`` and ``second`` where they have the same."""
    return (result.first, result.second) if result.first != result.second else ("first", "second")


def verdict(result: Comparison) -> str:
    """What differs, in a sentence or two."""
    first, second = names(result)
    found: dict[str, list[str]] = {"better": [], "worse": [], _CHANCE: [], "the same": []}
    for name, measure in _measures(result):
        one = result.figures[name]
        judged = judgement(measure, one)
        if judged == _NOT_STATED:
            continue
        text = told.difference(measure, one.difference).partition(" ±")[0]
        found[judged].append(f"{measure.title} ({text})" if judged in {"better", "worse"} else measure.title)
    parts = [f"{what} in {words.listed(found[what])}" for what in ("better", "worse") if found[what]]
    text = (
        f"Against {first}, {second} is {' and '.join(parts)}."
        if parts
        else f"{first} and {second} do not differ for sure."
    )
    if found[_CHANCE]:
        text += f" What differs in {words.listed(found[_CHANCE])} may be chance."
    if found["the same"]:
        text += f" Exactly the same: {words.listed(found['the same'])}."
    return " ".join([text, *_unjudged(result), *_idle(result)])


def _idle(result: Comparison) -> list[str]:
    """A sentence about the nodes of each that are paid for and never asked."""
    both = zip(names(result), (result.first_idle, result.second_idle), strict=True)
    return [
        f"In {scenario} nobody asks {words.listed(nodes)}; idle power and price are counted all the same."
        for scenario, nodes in both
        if nodes
    ]


def _unjudged(result: Comparison) -> list[str]:
    """A sentence about each figure that is not judged, for what nobody stated would win it."""
    found = []
    for name, measure in _measures(result):
        one = result.figures[name]
        if one.undecided:
            both = zip(names(result), (one.first_unstated, one.second_unstated), strict=True)
            parts = [f"of {scenario} ({', '.join(paths)})" for scenario, paths in both if paths]
            found.append(f"No verdict on {measure.title}: part of it is not stated, {words.listed(parts)}.")
    return found


def judgement(measure: Measure, one: Difference) -> str:
    """``better``, ``worse``, ``the same``, that it may be chance, or that it is not all stated."""
    if one.undecided:
        return _NOT_STATED
    if not one.difference.mean and not one.difference.half_width:
        return "the same"
    if not one.significant:
        return _CHANCE
    return "better" if (one.difference.mean > 0) == measure.more_is_better else "worse"


def difference_grid(result: Comparison) -> Grid:
    """Every figure of both, and the paired difference with its 95 % interval."""
    first, second = names(result)
    if max(len(first), len(second)) > _SHORT_NAME:
        first, second = "first", "second"
    tones = {"better": "good", "worse": "bad"}
    rows = []
    for name, measure in _measures(result):
        one = result.figures[name]
        judged = judgement(measure, one)
        rows.append((measure.title, *_cells(measure, one)[:3], Cell(judged, tones.get(judged, ""))))
    return Grid("second minus first, with 95 % intervals", ("", first, second, "difference", ""), rows)


def flip_grid(flips: Sequence[Flip]) -> Grid:
    """Constants that would turn a conclusion round."""
    return Grid(
        "constants that turn it round",
        ("constant", "stated", "times", "figure", "better", "then better", "source"),
        [
            (flip.constant, _stated(flip), f"{flip.factor:g}", MEASURES[flip.figure].title, flip.better,
             flip.better_then, Cell(flip.source or words.NOTHING, prose=True))
            for flip in flips
        ],
        ("times", "figure", "better", "then better"),
    )  # fmt: skip


def _stated(flip: Flip) -> str:
    """The value as a scenario writes it, as far as its unit shows in its name; else in base units."""
    name = flip.constant.rpartition(".")[2]
    if name in {"service", "latency", "jitter"}:
        return format_ns(round(flip.value))
    unit = "bit/s" if name.startswith("bandwidth") else "W" if name in {"idle", "busy"} or "power" in name else ""
    return words.quantity(flip.value, unit) if unit else f"{flip.value:.6g}"


def sensitivity_told(sensitivity: Sensitivity) -> str:
    """What was tried, and where nothing turned round that this is so."""
    if not sensitivity.tried:
        return "Sensitivity: no constant to vary is stated (service times, latencies, bandwidths, power, prices)."
    what = f"Tried, each halved and doubled in both: {', '.join(sensitivity.tried)}."
    least = f"less than {words.percent(LEAST_ANSWERED)}"
    if sensitivity.flips:
        return f"{what} A scenario that alone answers {least} of its requests has lost."
    return f"{what} None of them changes which has the lower energy, cost or mean latency, or makes one answer {least}."


def render_comparison(compared: Compared) -> str:
    """The page."""
    result = compared.result
    first, second = names(result)
    ranges = [_range(measure, result.figures[name]) for name, measure in _measures(result)]
    ends = [end for one in ranges if one.value is not None for end in (one.low, one.high)]
    columns = ("", first, second, "difference", "", "change, with 95 % interval")
    latencies, by_pair = distribution(result), pair_by_pair(result)
    body = join(
        blocks.section(
            "differences", "What differs", blocks.ranges(columns, ranges, _ruler(ends)),
            note=f"Means of {result.replications} pairs of runs. Both runs of a pair meet the same random numbers, so "
            "that the difference has less noise than either figure; its interval is Student's t of the paired "
            "differences.",
        ),
        _distribution(compared, latencies),
        _pairs(compared, by_pair),
        _flips(compared),
        *(
            blocks.section(
                which, f"The {which}: {name}",
                element("p", scenario.description, class_="note") if scenario.description else "",
                blocks.folded(f"The scenario file, {origin.file}", blocks.code(origin.text, f"Scenario file, {which}")),
            )
            for which, name, scenario, origin in zip(
                ("first", "second"), (result.first, result.second), compared.scenarios, compared.origins, strict=True
            )
        ),
        _again(compared),
    )  # fmt: skip
    return render_page(
        Page(
            title=f"{first} against {second}", eyebrow="tierwise comparison", heading=first,
            subheading=f"against {second}", lede=verdict(result), body=body, plots=[*latencies, *by_pair],
        )
    )  # fmt: skip


def distribution(result: Comparison) -> list[Plot]:
    """Cumulative latencies of each tier of both, the first's dashed; nothing where nothing was answered."""
    known = [one for side in result.latencies for one in side.values()]
    if not known:
        return []
    curves = [
        Curve(f"{tier}, {name}", tier_colour(tier), one.ms, [*one.percent], dashed=dashed)
        for name, side, dashed in zip(_short_names(result), result.latencies, (True, False), strict=True)
        for tier, one in side.items()
    ]
    edges = sorted({edge for one in known for edge in one.ms})
    percent = Axis("%", low=0, high=104, ticks=[0, 25, 50, 75, 100])
    return [
        Plot(id="cumulative", x=log_axis("ms", edges), y=percent, curves=curves, lead="within", hold=True, at=edges)
    ]


def pair_by_pair(result: Comparison) -> list[Plot]:
    """How much longer the second of each pair of runs takes, in percent of the first's mean."""
    shown = [(name, result.figures[name]) for name in _LATENCIES if name in result.figures]
    shown = [(name, one) for name, one in shown if one.first]
    if not shown:
        return []
    curves = [
        Curve(MEASURES[name].title, colour, [float(number + 1) for number in range(result.replications)],
              shorts(100 * each / one.first for each in one.pairs), "dots")
        for (name, one), colour in zip(shown, PALETTE, strict=False)
    ]  # fmt: skip
    numbers = [float(number + 1) for number in range(result.replications)]
    values = [value for curve in curves for value in curve.y if value is not None]
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.08 * (high - low or 1.0)
    ticks = numbers if len(numbers) <= _MOST_TICKS else []
    x = Axis(low=0.5, high=result.replications + 0.5, ticks=ticks, names=[f"{number:.0f}" for number in ticks])
    y = Axis("%", low=low - room, high=high + room)
    return [Plot(id="pairs", x=x, y=y, curves=curves, lead="pair", height=200, marks=[Mark(0.0, across=True)])]


def _short_names(result: Comparison) -> tuple[str, str]:
    first, second = names(result)
    return (first, second) if max(len(first), len(second)) <= _LEGEND_NAME else ("first", "second")


def _distribution(compared: Compared, plots: Sequence[Plot]) -> Markup | str:
    if not plots:
        return ""
    result = compared.result
    shares = "; ".join(
        f"{name}: " + words.listed([f"{one.answered:,} {tier}" for tier, one in side.items()] or ["none"])
        for name, side in zip(_short_names(result), result.latencies, strict=True)
    )
    return blocks.section(
        "latency", "How the latency is distributed",
        blocks.legend(*_keys(plots[0]), readout="cumulative"),
        blocks.figure("cumulative", told=f"Share of answers by end-to-end latency. {shares}."),
        blocks.no_script(),
        note=f"The share of a tier's answers that took no longer, from all {result.replications} runs of each; "
        f"{_short_names(result)[0]} is dashed. Answers: {shares}.",
    )  # fmt: skip


def _pairs(compared: Compared, plots: Sequence[Plot]) -> Markup | str:
    if not plots:
        return ""
    result = compared.result
    measures = [
        (name, measure)
        for name, measure in _measures(result)
        if (one := result.figures[name]).pairs and not one.undecided
    ]
    rows = [
        (f"{number + 1}", *(_signed(measure, result.figures[name].pairs[number]) for name, measure in measures))
        for number in range(result.replications)
    ]
    grid = Grid("second minus first, by pair", ("pair", *(measure.title for _, measure in measures)), rows)
    return blocks.section(
        "by-pair", "Pair by pair",
        blocks.legend(*_keys(plots[0]), readout="pairs"),
        blocks.figure("pairs", told="The change of each latency figure in each pair of runs."),
        blocks.table(grid),
        note="Second minus first in each pair of runs; the plot in percent of the first's mean. Where all pairs lie on "
        "one side of zero, no dice turn it round.",
    )  # fmt: skip


def _signed(measure: Measure, value: float) -> str:
    """A difference without an interval."""
    return told.difference(measure, Interval(value, None, "paired replications", 1))


def _keys(plot: Plot) -> Iterator[Markup]:
    for curve in plot.curves:
        yield (blocks.line_key if curve.dashed else blocks.key)(curve.name, curve.colour)


def _again(compared: Compared) -> Markup:
    origin = compared.origins[0]
    facts = {
        "seed": f"{compared.scenarios[0].run.seed}",
        "set instead in both": told.changed(list(origin.changes.items())),
    }
    return blocks.section(
        "again",
        "Make it again",
        element("div", blocks.facts({name: value for name, value in facts.items() if value}), class_="facts"),
        blocks.code(origin.command, "Command"),
    )


def _flips(compared: Compared) -> Markup:
    if compared.sensitivity is None:
        return Markup("")
    note, flips = sensitivity_told(compared.sensitivity), compared.sensitivity.flips
    tables = [blocks.table(flip_grid(flips))] if flips else []
    return blocks.section("flips", "What would turn it round", *tables, note=note)


def _measures(result: Comparison) -> list[tuple[str, Measure]]:
    """Those that both have; energy and cost only where there is any."""
    return [
        (name, measure)
        for name, measure in MEASURES.items()
        if name in result.figures
        and not (name in {"energy_j", "cost"} and not result.figures[name].first and not result.figures[name].second)
    ]


def _cells(measure: Measure, one: Difference) -> tuple[str, str, str]:
    first = told.at_least(measure, one.first, whole=not one.first_unstated)
    second = told.at_least(measure, one.second, whole=not one.second_unstated)
    return first, second, words.NOTHING if one.undecided else told.difference(measure, one.difference)


def _range(measure: Measure, one: Difference) -> Range:
    judged = judgement(measure, one)
    tone = {"better": "good", "worse": "bad"}.get(judged, "even")
    cells = (*_cells(measure, one), judged)
    if not one.first or one.undecided:
        return Range(measure.title, None, 0.0, 0.0, cells, tone)
    scale, half = 100 / abs(one.first), one.difference.half_width or 0.0
    mean = one.difference.mean
    return Range(measure.title, mean * scale, (mean - half) * scale, (mean + half) * scale, cells, tone)


def _ruler(ends: Sequence[float]) -> Ruler:
    """From the lowest to the highest end, with zero in it and about five round ticks."""
    low, high = min([0.0, *ends]), max([0.0, *ends])
    rough = (high - low or 1.0) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        first, last = -1, 1
    ticks = {position * step: f"{position * step:+.6g} %" if position else "0" for position in range(first, last + 1)}
    margin = 0.02 * (last - first) * step
    return Ruler(
        first * step - margin, last * step + margin, {at: text.replace("-", "−") for at, text in ticks.items()}
    )
