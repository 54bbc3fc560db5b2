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
from tierwise.sim.results import words as told
from tierwise.sim.results.words import MEASURES, Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.compare import Comparison, Difference
    from tierwise.sim.results.origin import Origin
    from tierwise.sim.sensitivity import Flip

_CHANCE = "may be chance"
_SHORT_NAME = 12


class Compared(msgspec.Struct, frozen=True):
    """Both scenarios and what came of them. ``flips`` is ``None`` where nobody asked for the sensitivity."""

    scenarios: tuple[Scenario, Scenario]
    origins: tuple[Origin, Origin]
    result: Comparison
    flips: list[Flip] | None


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
    return text


def judgement(measure: Measure, one: Difference) -> str:
    """``better``, ``worse``, ``the same``, or that it may be chance."""
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
        ("constant", "stated", "times", "then lower in", "figure", "source"),
        [
            (flip.constant, f"{flip.value:.6g}", f"{flip.factor:g}", flip.better_then, MEASURES[flip.figure].title,
             Cell(flip.source, prose=True))
            for flip in flips
        ],
        ("times", "figure", "then lower in"),
    )  # fmt: skip


NO_FLIPS = "No stated constant, halved or doubled, changes which of the two has the lower energy, cost or latency."


def render_comparison(compared: Compared) -> str:
    """The page."""
    result = compared.result
    first, second = names(result)
    ranges = [_range(measure, result.figures[name]) for name, measure in _measures(result)]
    ends = [end for one in ranges if one.value is not None for end in (one.low, one.high)]
    columns = ("", first, second, "difference", "", "change, with 95 % interval")
    body = join(
        blocks.section(
            "differences", "What differs", blocks.ranges(columns, ranges, _ruler(ends)),
            note=f"Means of {result.replications} pairs of runs. Both runs of a pair meet the same random numbers, so "
            "that the difference has less noise than either figure; its interval is Student's t of the paired "
            "differences.",
        ),
        _flips(compared) if compared.flips is not None else "",
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
            subheading=f"against {second}", lede=verdict(result), body=body,
        )
    )  # fmt: skip


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
    note = "Each stated constant halved and doubled in both scenarios."
    if not compared.flips:
        return blocks.section("flips", "What would turn it round", note=f"{note} {NO_FLIPS}")
    return blocks.section("flips", "What would turn it round", blocks.table(flip_grid(compared.flips)), note=note)


def _measures(result: Comparison) -> list[tuple[str, Measure]]:
    """Those that both have; energy and cost only where there is any."""
    return [
        (name, measure)
        for name, measure in MEASURES.items()
        if name in result.figures
        and not (name in {"energy_j", "cost"} and not result.figures[name].first and not result.figures[name].second)
    ]


def _cells(measure: Measure, one: Difference) -> tuple[str, str, str]:
    return measure.write(one.first), measure.write(one.second), told.difference(measure, one.difference)


def _range(measure: Measure, one: Difference) -> Range:
    judged = judgement(measure, one)
    tone = {"better": "good", "worse": "bad"}.get(judged, "even")
    cells = (*_cells(measure, one), judged)
    if not one.first:
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
