"""A run in the terminal: the same words and tables as in its page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from tierwise.report import words
from tierwise.report.tables import grid_table
from tierwise.sim.results import tables
from tierwise.sim.results import words as told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from tierwise.report.grid import Grid
    from tierwise.scenario.schema import Scenario
    from tierwise.sim.summary import Summary


def run_view(scenario: Scenario, summary: Summary, width: int) -> RenderableType:
    """Verdict, tables, and what makes the run again."""
    head = Text(scenario.name, style="bold")
    head.append(
        f"  {told.devices(scenario)}, {words.seconds(summary.simulated_s)} simulated in "
        f"{words.seconds(summary.wall_s)}, seed {summary.seed}, {summary.engine} engine",
        style="dim",
    )
    return Group(
        head,
        Text(told.verdict(scenario, summary)),
        Text(),
        grids_view(list(tables.in_terminal(scenario, summary)), width),
        Text(f"trace sha256 {summary.trace_sha256}", style="dim", overflow="fold"),
    )


def grids_view(grids: Sequence[Grid], width: int) -> RenderableType:
    """Tables below one another, each no wider than ``width`` columns."""
    return Group(*(grid_table(grid, width) for grid in grids))
