"""The plots of a run: how it went over time, and how its latencies are distributed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tierwise.report.plots import Axis, Curve, Mark, Plot, Span, log_axis, short, shorts
from tierwise.report.trace_plots import peaked
from tierwise.scenario.schema import BatteryOut, ClockDrift
from tierwise.sim.faults import occurrences
from tierwise.sim.histogram import BINS_A_DECADE
from tierwise.sim.kernel.tables import TIERS
from tierwise.sim.results import words as told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.series import Series
    from tierwise.sim.summary import Summary

MOST_POINTS = 1000
"""Of a series over time; where there are more buckets, neighbours are taken together."""
MOST_SPANS = 2000
"""So many faults are shaded; the table below the plots counts all."""
FAULT_COLOURS = {"link_degraded": "warn", "broker_restart": "other", "battery_out": "queue"}
"""Of the shades; what is down is ``bad``."""
_HISTOGRAM_BINS = 2
"""Bins of the series that make one of the histogram: 24 a decade."""


def over_time(scenario: Scenario, summary: Summary, series: Series) -> list[Plot]:
    """Requests a second, latency, the devices' power and how many of them are left, over virtual time."""
    view = _View(series)
    spans = fault_spans(scenario, summary.seed)[:MOST_SPANS]
    marks = warm_up(scenario)

    def plot(name: str, y: Axis, curves: list[Curve], *, height: int = 240, stack: bool = False) -> Plot:
        return Plot(
            id=name, x=Axis("s"), y=y, curves=curves, height=height, stack=stack, lead="after", at=view.ends,
            marks=marks, spans=spans, sync="time", zoom=True,
        )  # fmt: skip

    plots = [plot("rate", Axis(low=0), _rates(view), stack=True)]
    latencies = _latencies(view)
    if latencies:
        known = [value for curve in latencies for value in curve.y if value]
        plots.append(plot("latency", log_axis("ms", known or [1.0]), latencies))
    if series.energy.any():
        watts = _held(view.per_second(series.energy) * 1e-9)
        power = Curve("devices' active power", "device", view.edges, watts, "steps", filled=True)
        plots.append(plot("power", Axis("W", low=0), [power], height=180))
    silent = series.silent_at_s()
    if len(silent):
        plots.append(plot("alive", Axis(low=0), [_alive(series, silent)], height=180))
    return plots


class _View:
    """The series with so few buckets that a plot can show them."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self.starts = np.arange(0, len(series.requests), -(-len(series.requests) // MOST_POINTS))
        duration = series.plan.scenario.run.duration
        edges = np.append(self.starts * series.bucket_ns, duration)
        self.widths_s = np.diff(edges) * 1e-9
        self.edges = [short(edge * 1e-9) for edge in edges.tolist()]
        self.middles = [short(middle * 1e-9) for middle in ((edges[1:] + edges[:-1]) / 2).tolist()]
        self.ends = [0.0, short(duration * 1e-9)]

    def summed(self, values: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(values.astype(np.float64), self.starts))

    def highest(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.maximum.reduceat(values, self.starts))

    def per_second(self, values: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.summed(values) / self.widths_s


def _held(values: NDArray[np.float64]) -> list[float | None]:
    """For a staircase: the last value up to the end of the last bucket."""
    return shorts([*values.tolist(), float(values[-1])])


def _rates(view: _View) -> list[Curve]:
    series = view.series
    shown = [(tier, tier, series.answered[code]) for code, tier in enumerate(TIERS) if series.answered[code].any()]
    under_way = series.requests - series.answered.sum(axis=0) - series.lost
    shown += [
        (name, colour, values)
        for name, colour, values in (("lost", "bad", series.lost), ("under way at the end", "queue", under_way))
        if values.any()
    ]
    return [
        Curve(name, colour, view.edges, _held(view.per_second(values)), "steps", filled=True)
        for name, colour, values in shown
    ]


def _latencies(view: _View) -> list[Curve]:
    """Of all answers the longest and what 99 % did not exceed, and the mean of each tier; a logarithm has no zero."""
    series = view.series
    some = view.summed(series.answered.sum(axis=0)) > 0
    if not some.any():
        return []

    def top(values: NDArray[np.float64]) -> list[float | None]:
        return _above_zero(np.where(some, view.highest(values), math.nan))

    curves = [
        Curve("longest", "soft", view.middles, top(np.asarray(series.longest * 1e-6)), "points"),
        Curve("p99", "ink", view.middles, top(series.p99_ms()), dashed=True),
    ]
    for code, tier in enumerate(TIERS):
        answered = view.summed(series.answered[code])
        if answered.any():
            mean = view.summed(series.latency[code]) / np.where(answered, answered, math.nan) * 1e-6
            curves.append(Curve(f"{tier} mean", tier, view.middles, _above_zero(mean)))
    return curves


def _above_zero(values: NDArray[np.float64]) -> list[float | None]:
    return shorts(np.where(values > 0, values, math.nan).tolist())


def _alive(series: Series, silent: NDArray[np.float64]) -> Curve:
    count = len(series.plan.names)
    kept = np.unique(np.linspace(0, len(silent) - 1, min(len(silent), MOST_POINTS)).astype(np.int64))
    end = series.plan.scenario.run.duration * 1e-9
    x = [0.0, *(short(float(silent[at])) for at in kept), short(end)]
    y = [float(count), *(float(count - at - 1) for at in kept.tolist()), float(count - len(silent))]
    return Curve("devices that are left", "device", x, [*y], "steps", filled=True)


def fault_spans(scenario: Scenario, seed: int) -> list[Span]:
    """When faults struck, in seconds, as far as within the run: the same draws as the engine's."""
    end = scenario.run.duration
    spans = []
    for index, fault in enumerate(scenario.faults):
        if isinstance(fault, ClockDrift):
            continue
        text = " ".join(told.fault(fault))
        if isinstance(fault, BatteryOut):
            windows = [(fault.at, fault.at)] if fault.at < end else []
        else:
            windows = [window for window in occurrences(scenario, index, fault, seed) if window[0] < end]
        colour = FAULT_COLOURS.get(fault.fault, "bad")
        spans += [Span(short(first * 1e-9), short(min(last, end) * 1e-9), text, colour) for first, last in windows]
    return spans


def warm_up(scenario: Scenario) -> list[Mark]:
    """Where counting begins."""
    return [Mark(scenario.run.warm_up * 1e-9, "counted from here")] if scenario.run.warm_up else []


def distribution(summary: Summary, series: Series) -> list[Plot]:
    """Histogram and cumulative distribution of each tier's latency; nothing where nothing was answered."""
    histogram = series.latencies.counts
    used = np.flatnonzero(histogram.sum(axis=0))
    latency = summary.end_to_end_ms
    if not len(used) or latency is None:
        return []
    first = int(used[0]) // _HISTOGRAM_BINS * _HISTOGRAM_BINS
    last = -(-(int(used[-1]) + 1) // _HISTOGRAM_BINS) * _HISTOGRAM_BINS
    edges = [
        short(edge)
        for edge in (series.latencies.bins_ms()[0] * 10.0 ** (np.arange(first, last + 1) / BINS_A_DECADE)).tolist()
    ]
    coarse = edges[::_HISTOGRAM_BINS]
    counts = {tier: histogram[code, first:last] for code, tier in enumerate(TIERS) if histogram[code].any()}
    of_all = "" if len(counts) == 1 else " of all"
    marks = [Mark(getattr(latency, name), f"{name}{of_all}", "ink") for name in ("p50", "p95", "p99")]
    shapes = [
        Curve(tier, tier, [short(coarse[0] / 1.0001), *coarse], peaked(_coarse(own)), "steps", filled=True, told=False)
        for tier, own in counts.items()
    ]
    curves = [
        # A bin's answers are counted at its upper edge: so many took no longer.
        Curve(tier, tier, edges[1:], shorts((100 * np.cumsum(own) / own.sum()).tolist()))
        for tier, own in counts.items()
    ]
    return [
        Plot(id="histogram", height=120, x=log_axis("ms", coarse, hidden=True), y=Axis(low=0, high=1.04, hidden=True),
             curves=shapes, marks=[Mark(mark.at, "", mark.colour) for mark in marks], sync="latency"),
        Plot(id="cumulative", x=log_axis("ms", coarse), y=Axis("%", low=0, high=104, ticks=[0, 25, 50, 75, 100]),
             curves=curves, lead="within", hold=True, at=edges, marks=marks, sync="latency"),
    ]  # fmt: skip


def _coarse(counts: NDArray[np.int64]) -> Sequence[float]:
    merged: list[float] = counts.reshape(-1, _HISTOGRAM_BINS).sum(axis=1).astype(np.float64).tolist()
    return merged
