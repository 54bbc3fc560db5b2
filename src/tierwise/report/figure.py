"""The latency distribution and where the time goes as one PNG, for a README or a paper. Needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import DependencyError
from tierwise.report import words
from tierwise.report.sections import PARTS
from tierwise.report.summary import ANSWERED, end_to_end_us

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from tierwise.core.trace import TraceRow
    from tierwise.report.summary import Summary, TierSummary

TIER_COLOURS = {"device": "#047857", "edge": "#0b62c4", "cloud": "#c2410c"}
OTHER_COLOUR = "#7e22ce"
_PART_COLOURS = {"queue": "#8b95a7", "inference": "", "network": "#c3cad6", "configured": "#ffffff"}
_MARGIN_IN = 0.12
"""Around the picture and between its parts, in inches."""
_INK, _SOFT, _GRID = "#14181f", "#566072", "#e3e7ee"
_STYLE: Any = {  # matplotlib types the keys as literals

    "font.size": 11, "text.color": _INK, "axes.labelcolor": _SOFT, "xtick.color": _SOFT, "ytick.color": _SOFT,
    "axes.edgecolor": _GRID, "grid.color": _GRID, "axes.axisbelow": True,
    "hatch.color": "#8b95a7", "hatch.linewidth": 1.2,
}  # fmt: skip


def draw_figure(summary: Summary, rows: Sequence[TraceRow], path: Path) -> None:
    """Writes a PNG of 1800 by 1000 pixels.

    Raises ``DependencyError`` without matplotlib and ``ValueError`` where no request was answered.
    """
    if not any(tier.answered for tier in summary.tiers.values()):
        raise ValueError("nothing was answered, so there is nothing to draw")
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an optional extra, and slow to import
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - draws without a display
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise DependencyError(
            "a PNG needs matplotlib: pip install 'tierwise[plot]' (the HTML report does without)"
        ) from error
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 5), dpi=200, facecolor="white")
        figure.set_layout_engine("constrained", w_pad=_MARGIN_IN, h_pad=_MARGIN_IN)
        FigureCanvasAgg(figure)
        figure.suptitle(
            f"{summary.model} {words.where(summary)}", x=_MARGIN_IN / 9, ha="left", fontsize=15, fontweight="bold"
        )
        distribution, breakdown = figure.subplots(2, 1, height_ratios=(1.9, 1))
        _draw_distribution(distribution, summary, rows)
        _draw_breakdown(breakdown, summary)
        figure.savefig(path, metadata={"Software": "tierwise"})


def _draw_distribution(axes: Axes, summary: Summary, rows: Sequence[TraceRow]) -> None:
    for name, tier in summary.tiers.items():
        times_us = [
            time
            for row in rows
            if row.tier == name and row.outcome == ANSWERED and (time := end_to_end_us(row)) is not None
        ]
        if not times_us:
            continue
        values = np.sort(np.maximum(times_us, 1)) / 1000
        shares = 100 * np.arange(1, values.size + 1) / values.size
        colour = TIER_COLOURS.get(name, OTHER_COLOUR)
        axes.fill_between(values, shares, step="post", color=colour, alpha=0.10, linewidth=0)
        axes.step(
            np.concatenate((values[:1], values)), np.concatenate(([0.0], shares)),
            where="post", color=colour, linewidth=2.2, linestyle=(0, (4, 1.6)) if words.is_modelled(tier) else "solid",
            label=_label(name, tier),
        )  # fmt: skip
        if tier.configured_delay_ms:
            axes.axvline(tier.configured_delay_ms, color=_SOFT, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.annotate(
                f"{tier.configured_delay_ms:g} ms \nconfigured ", (tier.configured_delay_ms, 4),
                ha="right", color=_SOFT, fontsize=9.5,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    axes.set(xlabel="end-to-end latency, ms", ylabel="requests, %", ylim=(0, 104))
    axes.grid(visible=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=1, frameon=False, handlelength=1.2)


def _label(name: str, tier: TierSummary) -> str:
    half, most = words.ms(tier.end_to_end_ms.p50), words.ms(tier.end_to_end_ms.p99)
    if not words.is_modelled(tier):
        return f"{name}: half within {half} ms, 99 % within {most} ms"
    joules = "" if tier.energy_mj is None else f" and {words.energy(tier.energy_mj)}"
    return f"{name}: {half} ms{joules}, modelled" + ("" if tier.board is None else f" for {tier.board}")


def _draw_breakdown(axes: Axes, summary: Summary) -> None:
    """A bar a tier, each 100 % of its own time; what was configured or modelled is hatched."""
    from matplotlib.legend_handler import HandlerTuple  # noqa: PLC0415 - an optional extra, and slow to import
    from matplotlib.patches import Patch  # noqa: PLC0415

    shown = [(name, tier.breakdown_ms) for name, tier in summary.tiers.items() if tier.breakdown_ms is not None]
    for position, (name, parts) in enumerate(shown):
        left = 0.0
        modelled = words.is_modelled(summary.tiers[name])
        for part, colour in _PART_COLOURS.items():
            width = 100 * max(0.0, getattr(parts, part)) / parts.total
            axes.barh(
                position, width, left=left, height=0.56, color=colour or TIER_COLOURS.get(name, OTHER_COLOUR),
                hatch="////" if part == "configured" or modelled else None,
                edgecolor="#8b95a7" if part == "configured" else "#ffffff" if modelled else "none", linewidth=0,
            )  # fmt: skip
            left += width
        axes.annotate(
            f"  {words.ms(parts.total)} ms",
            (100, position),
            va="center",
            fontweight="bold",
            annotation_clip=False,
        )
    axes.set_yticks(range(len(shown)), [name for name, _ in shown])
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="share of the tier's mean time, %")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    titles = dict(PARTS)
    if any(words.is_modelled(summary.tiers[name]) for name, _ in shown):
        titles["configured"] = "hatched: configured or modelled"
    own = tuple(Patch(facecolor=TIER_COLOURS.get(name, OTHER_COLOUR)) for name, _ in shown)
    keys = {
        titles[part]: Patch(facecolor=colour, hatch="////" if part == "configured" else None) if colour else own
        for part, colour in _PART_COLOURS.items()
    }
    axes.legend(
        list(keys.values()),
        list(keys),
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=4,
        frameon=False,
        fontsize=10,
        columnspacing=1.4,
    )
