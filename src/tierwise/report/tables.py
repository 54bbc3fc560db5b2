"""The summary as a table for the terminal: one column a tier, so that it fits 80 columns with three of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tierwise.report import words
from tierwise.report.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from tierwise.report.grid import Cell
    from tierwise.report.summary import Summary, TierSummary

_GAP = 2
"""Spaces between the columns of a grid; one of them is the box's."""
_PROSE = 22
"""Words in a grid are broken into lines of at least so many characters."""

TIER_STYLES = {"device": "green", "edge": "blue", "cloud": "yellow"}

ACCURACY = "accuracy"
METRICS: tuple[tuple[str, Callable[[TierSummary], str]], ...] = (
    ("requests", lambda tier: str(tier.requests)),
    ("answered", lambda tier: str(tier.answered)),
    ("errors", words.errors),
    (ACCURACY, lambda tier: words.percent(tier.accuracy)),
    ("inference p50, ms", lambda tier: words.ms(tier.inference_ms.p50)),
    ("  p95", lambda tier: words.ms(tier.inference_ms.p95)),
    ("  p99", lambda tier: words.ms(tier.inference_ms.p99)),
    ("end to end p50, ms", lambda tier: words.ms(tier.end_to_end_ms.p50)),
    ("  p95", lambda tier: words.ms(tier.end_to_end_ms.p95)),
    ("  p99", lambda tier: words.ms(tier.end_to_end_ms.p99)),
    ("bytes a request", lambda tier: f"{tier.bytes_per_request:.0f}"),
    ("network share of the time", lambda tier: words.percent(tier.network_share)),
    ("  measured", lambda tier: words.percent(tier.network_share_measured)),
    ("  configured, not measured", lambda tier: words.percent(tier.network_share_configured)),
)
"""What is shown of each tier, in this order; an indented line belongs to the one above. The page shows the same."""

DEVICE_METRICS: tuple[tuple[str, Callable[[TierSummary], str]], ...] = (
    ("energy an inference", lambda tier: words.energy(tier.energy_mj)),
    ("instructions, counted", lambda tier: words.count(tier.instructions)),
)
"""What only a device tells."""


def metrics(summary: Summary) -> tuple[tuple[str, Callable[[TierSummary], str]], ...]:
    """The rows of the table; those of a device only where there is one, accuracy where it is known of any tier."""
    tiers = summary.tiers.values()
    has_device = any(tier.energy_mj is not None or tier.instructions is not None for tier in tiers)
    rows = METRICS + DEVICE_METRICS if has_device else METRICS
    if all(tier.accuracy is None for tier in tiers):
        return tuple(row for row in rows if row[0] != ACCURACY)
    return rows


def heading(name: str, tier: TierSummary) -> str:
    """A tier's name with its runtime below; a modelled tier says so in a line of its own."""
    note = words.basis(tier) if words.is_modelled(tier) else None
    return "\n".join(part for part in (name, tier.runtime, note) if part)


def summary_table(summary: Summary) -> Table:
    """The figures of all tiers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(escape(summary.model), header_style="bold", vertical="bottom")
    for name, tier in summary.tiers.items():
        table.add_column(
            escape(heading(name, tier)), header_style=f"bold {_style(name)}", justify="right", vertical="bottom"
        )
    for title, show in metrics(summary):
        style = "dim" if title.startswith(" ") else ""
        table.add_row(title, *(escape(show(tier)) for tier in summary.tiers.values()), style=style)
    return table


def basis_table(summary: Summary) -> Table:
    """For each tier in words what was measured and what was configured, or why it did not run."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, tier in summary.tiers.items():
        table.add_row(Text(name, style=f"bold {_style(name)}"), Text(words.sentence(tier)))
    for name, why in summary.left_out.items():
        table.add_row(Text(name, style="dim"), Text(words.left_out(why)))
    return table


def summary_view(summary: Summary) -> RenderableType:
    """The figures, the agreement, and what was measured."""
    said = [Text(words.agreement(summary), style="bold")]
    said += [Text(summary.caveat)] if summary.caveat else []
    return Group(summary_table(summary), *said, Text(), basis_table(summary))


def grid_table(grid: Grid, width: int) -> RenderableType:
    """A grid with its title, no wider than ``width`` columns; where it is too wide, its rows become columns."""
    short = grid.shortened()
    parts = [short] if _fits(short, width) else _turned(short, width)
    return Group(Text(grid.title, style="bold"), *(_table(part, width) for part in parts))


def _widths(grid: Grid, *, tight: bool) -> list[int]:
    """What the columns need; ``tight`` breaks titles between words, and prose wherever it must."""
    widths = [max(map(cell_len, title.split() if tight else [title]), default=0) for title in grid.columns]
    for row in grid.cells():
        for at, cell in enumerate(row):
            needed = cell_len(cell.text)
            widths[at] = max(widths[at], min(needed, _PROSE) if tight and cell.prose else needed)
    return widths


def _turned(grid: Grid, width: int) -> Iterator[Grid]:
    """Figures as rows, and as many of the former rows side by side as fit."""
    rows = list(grid.cells())
    while rows:
        fitting = 1
        while fitting < len(rows) and _fits(_beside(grid, rows[: fitting + 1]), width):
            fitting += 1
        yield _beside(grid, rows[:fitting])
        rows = rows[fitting:]


def _fits(grid: Grid, width: int) -> bool:
    return sum(_widths(grid, tight=True)) + _GAP * len(grid.columns) <= width


def _beside(grid: Grid, rows: Sequence[Sequence[Cell]]) -> Grid:
    columns = [grid.columns[0], *(row[0].text for row in rows)]
    return Grid(
        grid.title,
        columns,
        [[title, *(row[at] for row in rows)] for at, title in enumerate(grid.columns) if at],
    )


def _table(grid: Grid, width: int) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, _GAP - 1, 0, 0), show_edge=False, header_style="bold")
    widths = _widths(grid, tight=False)
    if sum(widths) + _GAP * len(widths) > width:
        widths = _widths(grid, tight=True)
    rows = list(grid.cells())
    for at, title in enumerate(grid.columns):
        wordy = not at or 2 * sum(row[at].prose for row in rows) > len(rows)
        style = f"bold {TIER_STYLES[title]}" if title in TIER_STYLES else ""
        # Only a single column that is wider than the terminal is left to be broken anywhere.
        fixed = widths[at] if widths[at] <= width // 2 else None
        table.add_column(Text(title, style=style), justify="left" if wordy else "right", overflow="fold", width=fixed)
    for row in rows:
        table.add_row(*(Text(cell.text, style=_tone(cell)) for cell in row))
    return Group(table, Text())


def _tone(cell: Cell) -> str:
    return {"good": "green", "bad": "bold red"}.get(cell.tone, "") or TIER_STYLES.get(cell.tier, "")


def _style(name: str) -> str:
    return TIER_STYLES.get(name, "magenta")
