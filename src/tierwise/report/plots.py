"""What a plot is, as data: Python says what is shown, ``assets/report.js`` draws it with uPlot.

Colours are names of the style sheet's variables, so light and dark need no code. Numbers are in the units that the axes
state; the script chooses how they are written (``0.35 ms``, ``2 h``, ``1.2 kJ``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from tierwise.report.summary import TIER_ORDER

if TYPE_CHECKING:
    from collections.abc import Iterable

LOG_MARGIN = 1.4
"""A logarithmic axis goes on beyond the extremes by this factor."""
PALETTE = ("line-1", "line-2", "line-3", "line-4", "line-5", "line-6")
"""Colours of lines that are no tiers, in the order of use."""


class Axis(msgspec.Struct, frozen=True, omit_defaults=True):
    """``unit`` is ``ms``, ``s`` (instants of a run), ``%``, or what comes after a number: ``J``, ``W``, nothing."""

    unit: str = ""
    log: bool = False
    low: float | None = None
    high: float | None = None
    ticks: list[float] = []
    """Where ticks are; by default the script chooses."""
    names: list[str] = []
    """What stands at them; by default their values."""
    hidden: bool = False
    """Neither ticks nor names, but the same room at the sides."""


class Curve(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line, staircase or cloud of points. ``None`` in ``y`` is a gap."""

    name: str
    colour: str
    x: list[float]
    y: list[float | None]
    shape: Literal["line", "steps", "points", "dots"] = "line"
    """``dots`` are a line with a point at each value; ``steps`` hold each value up to the next."""
    filled: bool = False
    dashed: bool = False
    told: bool = True
    """Whether the line of text that follows the pointer has it."""


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dashed line across the plot at ``at`` of the x axis, or with ``across`` of the y axis."""

    at: float
    text: str = ""
    colour: str = "soft"
    across: bool = False


class Span(msgspec.Struct, frozen=True):
    """A shaded stretch of the x axis."""

    start: float
    end: float
    text: str
    colour: str


class Plot(msgspec.Struct, frozen=True, omit_defaults=True):
    """One plot, drawn into the element ``id``."""

    id: str
    x: Axis
    y: Axis
    curves: list[Curve]
    height: int = 240
    lead: str = ""
    """The word before the x value in the text that follows the pointer: ``within``, ``after``."""
    hold: bool = False
    """Every curve keeps its value between its own points; before the first it is 0."""
    stack: bool = False
    """Curves stand on one another, the first lowest. All have the same ``x``."""
    at: list[float] = []
    """Further values of x that the axis reaches and the pointer finds."""
    marks: list[Mark] = []
    spans: list[Span] = []
    crosses: list[float] = []
    """Small crosses at the bottom, of what failed."""
    sync: str = ""
    """Plots with the same name move their pointers together."""
    zoom: bool = False


def tier_colour(name: str) -> str:
    """The colour of a tier."""
    return name if name in TIER_ORDER else "other"


def log_axis(unit: str, values: Iterable[float], *, hidden: bool = False) -> Axis:
    """A logarithmic axis around the values, which are above zero."""
    known = list(values)
    return Axis(unit, log=True, low=min(known) / LOG_MARGIN, high=max(known) * LOG_MARGIN, hidden=hidden)


def short(value: float) -> float:
    """Six significant digits: finer than a pixel, and a page half as large."""
    return float(f"{value:.6g}")


def shorts(values: Iterable[float]) -> list[float | None]:
    """Six significant digits each; what is no number is a gap."""
    return [short(value) if math.isfinite(value) else None for value in values]
