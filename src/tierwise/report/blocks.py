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

_EDGE = 0.06
"""Half of a name's width at the end of an axis."""

_FEW_COLUMNS = 5
"""A table of so few figures is not as wide as the page: names and figures would lie too far apart."""

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
    """A value with its interval, on an axis that several share; nothing is drawn where the value is ``None``."""

    name: str
    value: float | None
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
    name: str, colour: str, *, about: str, big: str, unit: str, beneath: Sequence[str], facts: Sequence[Fact]
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


def span_key(name: str, colour: str) -> Markup:
    """An entry of a legend for a shaded stretch."""
    return element("span", swatch("part-span"), name, class_=ink(colour))


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
    rows = list(grid.cells())
    prose = [any(row[at].prose for row in rows) for at in range(len(grid.columns))]
    head = [
        element("th", title, scope="col", class_="text" if wordy else None)
        for title, wordy in zip(grid.columns, prose, strict=True)
    ]
    body = [
        element(
            "tr",
            element("th", row[0].text, scope="row", class_=_row_class(row[0])),
            *(_cell(cell) for cell in row[1:]),
        )
        for row in rows
    ]
    width = "grid few" if len(grid.columns) <= _FEW_COLUMNS and not any(prose) else "grid"
    content = element("table", element("thead", element("tr", *head)), element("tbody", *body), class_=width)
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


class Ruler(msgspec.Struct, frozen=True):
    """The axis of ``ranges``: its ends, and what stands at its ticks."""

    low: float
    high: float
    ticks: Mapping[float, str]

    def at(self, value: float) -> str:
        """Where a value lies; beyond the ends it lies at the end."""
        return f"{100 * self.share(min(max(value, self.low), self.high)):.3f}%"

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high."""
        return (value - self.low) / (self.high - self.low)


def ranges(columns: Sequence[str], rows: Sequence[Range], ruler: Ruler) -> Markup:
    """Intervals on one axis, a line each, beside their figures; a strong line at zero."""
    head = element("tr", *(element("th", title, scope="col") for title in columns))
    body = [
        element(
            "tr",
            element("th", one.name, scope="row"),
            *(element("td", cell) for cell in one.cells),
            element("td", _range(one, ruler), class_="range-cell"),
            class_=f"tone-{one.tone}",
        )
        for one in rows
    ]
    names = [
        element("text", text, x=ruler.at(tick), y="70%", text_anchor=_anchor(ruler.share(tick)))
        for tick, text in ruler.ticks.items()
    ]
    scale = element("svg", *names, class_="range-scale", aria_hidden="true")
    last = element("tr", element("td", colspan=len(columns) - 1), element("td", scale, class_="range-cell"))
    content = element("table", element("thead", head), element("tbody", *body, last), class_="grid ranges")
    return element("div", content, class_="scroll", tabindex=0, role="region", aria_label=columns[-1])


def _range(one: Range, ruler: Ruler) -> Markup:
    """A dot with whiskers; a whisker that goes on beyond the axis has no end."""
    grid = [
        _line(ruler.at(tick), ruler.at(tick), "0", "100%", "range-grid" if tick else "range-zero")
        for tick in ruler.ticks
    ]
    if one.value is None:
        return element("svg", *grid, class_="range", aria_hidden="true")
    whisker = _line(ruler.at(one.low), ruler.at(one.high), "50%", "50%", "range-line")
    ends = [
        _line(ruler.at(end), ruler.at(end), "32%", "68%", "range-line")
        for end in (one.low, one.high)
        if ruler.low <= end <= ruler.high
    ]
    dot = element("circle", cx=ruler.at(one.value), cy="50%", r=5, class_="range-dot")
    return element("svg", *grid, whisker, *ends, dot, class_="range", aria_hidden="true")


def _line(x1: str, x2: str, y1: str, y2: str, class_: str) -> Markup:
    return element("line", x1=x1, x2=x2, y1=y1, y2=y2, class_=class_)


def _anchor(share: float) -> str:
    """Names at the ends of an axis stay inside it."""
    return "start" if share < _EDGE else "end" if share > 1 - _EDGE else "middle"
