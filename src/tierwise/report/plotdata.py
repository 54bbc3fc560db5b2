"""What the plots show, thinned so that a page of a million requests stays as small as one of a thousand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tierwise.report.summary import ANSWERED, end_to_end_us, tier_rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from tierwise.core.trace import TraceRow

BINS_PER_DECADE = 24
MAX_CURVE_POINTS = 600
MAX_TIMELINE_POINTS = 3000
MAX_CLASSES = 24


class Curve(msgspec.Struct, frozen=True):
    """Points of one plotted line."""

    x: list[float]
    y: list[float]


class TierPlots(msgspec.Struct, frozen=True):
    """One tier's plots. Latencies in milliseconds, instants in seconds since the first request, shares in percent."""

    name: str
    share_by_bin: list[float]
    """Percent of the answered requests in each bin of ``PlotData.bins_ms``."""
    cumulative: Curve
    """x latency, y percent of answered requests that took no longer."""
    timeline: Curve
    """x when a request was created, y its latency."""
    lost_s: list[float]
    """When the requests that failed were created."""


class PlotData(msgspec.Struct, frozen=True):
    """Everything that the plots of a page need."""

    bins_ms: list[float]
    """Edges of the histogram's bins, ``BINS_PER_DECADE`` to a decade, one more than there are bins."""
    tiers: list[TierPlots]


class Confusion(msgspec.Struct, frozen=True):
    """``counts[i][j]``: samples that are ``classes[i]`` and were called ``classes[j]``."""

    classes: list[str]
    counts: list[list[int]]


def plot_data(rows: Iterable[TraceRow]) -> PlotData:
    """Histogram, cumulative distribution and timeline of each tier."""
    by_tier: dict[str, list[TraceRow]] = {}
    for row in sorted(rows, key=lambda row: (tier_rank(row.tier), row.created_us, row.request_id)):
        by_tier.setdefault(row.tier, []).append(row)
    start_us = min((tier[0].created_us for tier in by_tier.values()), default=0)
    latencies = {name: _latencies_ms(tier) for name, tier in by_tier.items()}
    bins = _log_bins(np.concatenate([ms for _, ms in latencies.values()]) if latencies else np.empty(0))
    return PlotData(
        bins_ms=[_short(edge) for edge in bins],
        tiers=[
            TierPlots(
                name=name,
                share_by_bin=_shares(latencies[name][1], bins),
                cumulative=_cumulative(latencies[name][1]),
                timeline=_timeline(*latencies[name], start_us),
                lost_s=_spaced([(row.created_us - start_us) / 1e6 for row in tier if row.outcome != ANSWERED]),
            )
            for name, tier in by_tier.items()
        ],
    )


def confusion(rows: Iterable[TraceRow]) -> Confusion | None:
    """Truth against label of one tier's rows; ``None`` where nothing is labelled or there are too many classes."""
    pairs = [(row.truth, row.label) for row in rows if row.truth is not None and row.label is not None]
    classes = sorted({name for pair in pairs for name in pair}, key=_natural)
    if not 1 <= len(classes) <= MAX_CLASSES:
        return None
    index = {name: position for position, name in enumerate(classes)}
    counts = [[0] * len(classes) for _ in classes]
    for truth, label in pairs:
        counts[index[truth]][index[label]] += 1
    return Confusion(classes, counts)


def _natural(name: str) -> tuple[int, str]:
    """Sorts "2" before "10"."""
    return (int(name), "") if name.isascii() and name.isdigit() else (1 << 62, name)


def _latencies_ms(rows: Sequence[TraceRow]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Creation instants (µs) and latencies (ms) of the answered requests; a log axis needs them above zero."""
    pairs = [
        (row.created_us, max(time, 1) / 1000)
        for row in rows
        if row.outcome == ANSWERED and (time := end_to_end_us(row)) is not None
    ]
    return np.array([at for at, _ in pairs], dtype=np.int64), np.array([ms for _, ms in pairs], dtype=np.float64)


def _log_bins(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not values.size:
        return np.empty(0)
    first = math.floor(math.log10(values.min()) * BINS_PER_DECADE)
    last = math.floor(math.log10(values.max()) * BINS_PER_DECADE) + 1
    edges: NDArray[np.float64] = 10.0 ** (np.arange(first, last + 1) / BINS_PER_DECADE)
    # Rounding in log10 must not push the extremes out of the outermost bins.
    edges[0], edges[-1] = min(edges[0], values.min()), max(edges[-1], np.nextafter(values.max(), np.inf))
    return edges


def _shares(values: NDArray[np.float64], bins: NDArray[np.float64]) -> list[float]:
    if not values.size:
        return [0.0] * max(len(bins) - 1, 0)
    counts, _ = np.histogram(values, bins)
    return [_short(share) for share in 100 * counts / values.size]


def _cumulative(values: NDArray[np.float64]) -> Curve:
    """Every sample, or where there are many an even choice of ranks with the extremes in it."""
    ordered = np.sort(values)
    count = ordered.size
    ranks = np.unique(np.linspace(0, count - 1, min(count, MAX_CURVE_POINTS)).round().astype(np.int64))
    return Curve([_short(ordered[rank]) for rank in ranks], [_short(100 * (rank + 1) / count) for rank in ranks])


def _timeline(at_us: NDArray[np.int64], values: NDArray[np.float64], start_us: int) -> Curve:
    """Every request, or where there are many the slowest and the fastest of each stretch: outliers must stay seen."""
    kept: list[int] = list(range(values.size))
    if values.size > MAX_TIMELINE_POINTS:
        stretches = np.array_split(np.arange(values.size), MAX_TIMELINE_POINTS // 2)
        kept = sorted({int(s[pick(values[s])]) for s in stretches for pick in (np.argmin, np.argmax)})
    return Curve([_short((at_us[i] - start_us) / 1e6) for i in kept], [_short(values[i]) for i in kept])


def _spaced(values: list[float]) -> list[float]:
    """At most ``MAX_TIMELINE_POINTS`` of the values, evenly chosen."""
    step = -(-len(values) // MAX_TIMELINE_POINTS) or 1
    return [_short(value) for value in values[::step]]


def _short(value: float) -> float:
    """Six significant digits: finer than a pixel, and a page half as large."""
    return float(f"{value:.6g}")
