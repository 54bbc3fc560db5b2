"""The plots of a measured run: how its latency is distributed, and how it went over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierwise.report import words
from tierwise.report.plots import Axis, Curve, Mark, Plot, log_axis, short, tier_colour
from tierwise.report.sections import over_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierwise.report.plotdata import PlotData
    from tierwise.report.summary import Summary


def trace_plots(summary: Summary, data: PlotData) -> list[Plot]:
    """Histogram, cumulative distribution and timeline; nothing where nothing was answered."""
    tiers = [tier for tier in data.tiers if tier.timeline.x]
    if not tiers:
        return []
    modelled = {name for name, tier in summary.tiers.items() if words.is_modelled(tier)}
    marks = [Mark(tier.configured_delay_ms) for tier in summary.tiers.values() if tier.configured_delay_ms]
    edges = [short(data.bins_ms[0] / 1.0001), *data.bins_ms]
    histogram = Plot(
        id="histogram",
        height=120,
        x=log_axis("ms", data.bins_ms, hidden=True),
        y=Axis(low=0, high=1.04, hidden=True),
        curves=[
            Curve(tier.name, tier_colour(tier.name), edges, peaked(tier.share_by_bin), "steps", filled=True,
                  dashed=tier.name in modelled)
            for tier in tiers
        ],
        marks=marks,
        sync="latency",
    )  # fmt: skip
    cumulative = Plot(
        id="cumulative",
        x=log_axis("ms", data.bins_ms),
        y=Axis("%", low=0, high=104, ticks=[0, 25, 50, 75, 100]),
        curves=[
            Curve(tier.name, tier_colour(tier.name), tier.cumulative.x, [*tier.cumulative.y], "steps",
                  dashed=tier.name in modelled)
            for tier in tiers
        ],
        lead="within",
        hold=True,
        at=data.bins_ms,
        marks=marks,
        sync="latency",
    )  # fmt: skip
    return [histogram, cumulative, _timeline(summary, data, modelled)]


def _timeline(summary: Summary, data: PlotData, modelled: set[str]) -> Plot:
    shown = over_time(summary)
    timed = [tier for tier in data.tiers if tier.name in shown and tier.timeline.x]
    return Plot(
        id="timeline",
        x=Axis("s"),
        y=log_axis("ms", (pick(tier.timeline.y) for tier in timed for pick in (min, max))),
        curves=[
            Curve(tier.name, tier_colour(tier.name), tier.timeline.x, [*tier.timeline.y], "points") for tier in timed
        ],
        lead="after",
        crosses=sorted(
            at for tier in data.tiers if tier.name in shown or tier.name not in modelled for at in tier.lost_s
        ),
        zoom=True,
    )


def peaked(shares: Sequence[float]) -> list[float | None]:
    """Heights of a histogram, the highest 1, with a zero on either side so that the outermost bins have both flanks.

    Each tier's highest bin is as high as the plot: a sharp tier must not flatten a broad one.
    """
    top = max(shares)
    return [0.0, *(short(share / top) for share in shares), 0.0]
