"""The building blocks that pages are made of: sections, cards, bars, keys, tables, plots. Each returns markup."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from tierwise.report import words
from tierwise.report.markup import Markup, element, join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tierwise.report.grid import Cell, Grid

NO_SCRIPT = "The plots need JavaScript; the tables below have the figures."


class Part(msgspec.Struct, frozen=True):
    """A part of a bar. ``kind`` is its style class without ``part-``; ``figure`` is what the list below says of it."""

    kind: str
    title: str
    size: float
    figure: str


class Fact(msgspec.Struct, frozen=True):
    """A figure with its name, and beneath what explains it. ``tone`` is ``good``, ``bad`` or nothing."""

    name: str
    value: str
    note: str = ""
    tone: str = ""


class Range(msgspec.Struct, frozen=True):
    """A value with its interval, on an axis that several share."""

    name: str
    value: float
    low: float
    high: float
    cells: tuple[str, ...]
    tone: str


def ink(colour: str) -> str:
    """The style class that gives an element a colour of ``plots``: names are data, classes are ours."""
    return f"ink-{colour}"


def section(name: str, heading: str, *children: str, note: str | Markup = "") -> Markup:
    """A section with its heading; ``name`` makes the ids of both unique."""
    return element(
        "section",
        element("h2", heading, id=f"{name}-heading"),
        element("p", note, class_="note") if note else "",
        *children,
        aria_labelledby=f"{name}-heading",
    )


def cards(label: str, *content: Markup) -> Markup:
    """Cards beside one another."""
    return element("section", *content, class_="cards", aria_label=label)


def card(
    name: str, about: str, big: str, unit: str, beneath: Sequence[str], facts: Sequence[Fact], colour: str
) -> Markup:
    """What a reader wants to know first of one tier."""
    return element(
        "article",
        element("div", element("h2", name), element("p", about), class_="card-head"),
        element("p", big, element("small", f" {unit}") if unit else "", class_="big"),
        element("p", *beneath, class_="unit"),
        element("dl", *(_fact(fact) for fact in facts)),
        class_=f"card {ink(colour)}",
    )


def _fact(fact: Fact) -> Markup:
    return element("div", element("dt", fact.name), element("dd", fact.value, class_=fact.tone or None))


def stats(label: str, facts: Sequence[Fact]) -> Markup:
    """The figures of the whole, large, in one row that breaks where it must."""
    items = (
        element(
            "div",
            element("dt", fact.name),
            element("dd", fact.value, class_=f"stat {fact.tone}".rstrip()),
            element("dd", fact.note, class_="stat-note") if fact.note else "",
        )
        for fact in facts
    )
    return element("section", element("dl", *items, class_="stats"), aria_label=label)


def bar(name: str, figure: str, parts: Sequence[Part], colour: str, *, over: str = "") -> Markup:
    """A bar of all its parts, 100 % wide, with a list of them. ``over`` is a style class laid over the whole."""
    total = math.fsum(part.size for part in parts) or 1.0
    rectangles, left = [], 0.0
    for part in parts:
        share = part.size / total
        rectangles.append(
            element(
                "rect", x=f"{100 * left:.4f}%", width=f"{100 * share:.4f}%", height="100%", class_=f"part-{part.kind}"
            )
        )
        left += share
    if over:
        rectangles.append(element("rect", width="100%", height="100%", class_=over))
    items = [
        element("li", swatch(f"part-{part.kind}", over), element("span", part.title), element("b", part.figure))
        for part in parts
        if part.figure
    ]
    return element(
        "div",
        bar_head(name, figure),
        element("svg", *rectangles, class_="bar", aria_hidden="true"),
        element("ul", *items, class_="parts"),
        class_=ink(colour),
    )


def bar_head(name: str, figure: str) -> Markup:
    """The name of a bar and what it adds up to."""
    return element("div", element("h3", name), element("p", figure), class_="bar-head")


def swatch(*layers: str) -> Markup:
    """A small square in the colours of the style classes."""
    rectangles = [element("rect", width="100%", height="100%", class_=layer) for layer in layers if layer]
    return element("svg", *rectangles, class_="swatch", width=12, height=12, aria_hidden="true")


def key(name: str, colour: str, *, over: str = "") -> Markup:
    """An entry of a plot's legend. ``colour`` is the name of a tier's or a line's colour."""
    return element("span", swatch("part-inference", over), name, class_=ink(colour))


def line_key(name: str, colour: str) -> Markup:
    """An entry of a legend for a dashed line."""
    return element("span", name, class_=f"line-key {ink(colour)}")


def figure(*plots: str, told: str) -> Markup:
    """Plots by the ids of their elements; ``told`` is for those who cannot see them."""
    return element(
        "figure",
        element("div", *(element("div", class_="plot", id=plot) for plot in plots), role="img", aria_label=told),
    )


def legend(*keys: Markup, readout: str) -> Markup:
    """The key of a plot, and the text that follows the pointer in the plot ``readout``."""
    return element(
        "div", *keys, element("output", class_="readout", id=f"{readout}-readout"), class_="legend", aria_hidden="true"
    )


def no_script() -> Markup:
    """Told where the script does not run."""
    return element("noscript", element("p", NO_SCRIPT, class_="note"))


def table(grid: Grid) -> Markup:
    """A table that scrolls by itself where the window is narrow."""
    head = [element("th", title, scope="col") for title in grid.columns]
    body = [
        element(
            "tr",
            element("th", row[0].text, scope="row", class_=_row_class(row[0])),
            *(_cell(cell) for cell in row[1:]),
        )
        for row in grid.cells()
    ]
    content = element("table", element("thead", element("tr", *head)), element("tbody", *body), class_="grid")
    return element("div", content, class_="scroll", tabindex=0, role="region", aria_label=grid.title)


def _row_class(cell: Cell) -> str | None:
    return f"named {ink(cell.tier)}" if cell.tier else None


def _cell(cell: Cell) -> Markup:
    classes = " ".join(part for part in (cell.tone, "text" if cell.prose else "") if part)
    if cell.share is None:
        return element("td", cell.text, class_=classes or None)
    return element("td", words.glued(cell.text), meter(cell.share), class_=classes or None)


def meter(share: float) -> Markup:
    """A share as a small bar."""
    full = element("rect", width=f"{100 * min(1.0, max(0.0, share)):.2f}%", height="100%", class_="meter-full")
    return element("svg", full, class_="meter", aria_hidden="true")


def facts(pairs: Mapping[str, str]) -> Markup:
    """Names and values."""
    return element("dl", *(join(element("dt", name), element("dd", value)) for name, value in pairs.items()))


def code(text: str, label: str) -> Markup:
    """Text as it is in a file or typed in a terminal."""
    return element("pre", element("code", text), class_="scroll", tabindex=0, aria_label=label)


def folded(title: str, *children: str) -> Markup:
    """What is opened by those who want it."""
    return element("details", element("summary", title), *children)


def ranges(
    columns: Sequence[str], rows: Sequence[Range], low: float, high: float, ticks: Mapping[float, str]
) -> Markup:
    """Intervals on one axis from ``low`` to ``high``, a line each, beside their figures; a strong line at zero."""

    def at(value: float) -> str:
        return f"{100 * (min(max(value, low), high) - low) / (high - low):.3f}%"

    grid = [
        element("line", x1=at(tick), x2=at(tick), y1="0", y2="100%", class_="range-zero" if tick == 0 else "range-grid")
        for tick in ticks
    ]

    def drawn(one: Range) -> Markup:
        whisker = element("line", x1=at(one.low), x2=at(one.high), y1="50%", y2="50%", class_="range-line")
        ends = [element("line", x1=at(end), x2=at(end), y1="34%", y2="66%", class_="range-line")
                for end in (one.low, one.high) if low <= end <= high]  # fmt: skip
        dot = element("circle", cx=at(one.value), cy="50%", r=5, class_="range-dot")
        return element("svg", *grid, whisker, *ends, dot, class_="range", aria_hidden="true")

    head = element("tr", *(element("th", title, scope="col") for title in columns))
    body = [
        element(
            "tr",
            element("th", one.name, scope="row"),
            *(element("td", cell) for cell in one.cells),
            element("td", drawn(one), class_="range-cell"),
            class_=f"tone-{one.tone}",
        )
        for one in rows
    ]
    names = [
        element("text", text, x=at(tick), y="70%", **{"text-anchor": _anchor(tick, low, high)})
        for tick, text in ticks.items()
    ]
    scale = element("svg", *names, class_="range-scale", aria_hidden="true")
    last = element("tr", element("td", colspan=len(columns) - 1), element("td", scale, class_="range-cell"))
    content = element("table", element("thead", head), element("tbody", *body, last), class_="grid ranges")
    return element("div", content, class_="scroll", tabindex=0, role="region", aria_label=columns[-1])


def _anchor(tick: float, low: float, high: float) -> str:
    """Names at the ends of an axis stay inside it."""
    share = (tick - low) / (high - low)
    return "start" if share < 0.04 else "end" if share > 0.96 else "middle"  # noqa: PLR2004 -- half a name's width
