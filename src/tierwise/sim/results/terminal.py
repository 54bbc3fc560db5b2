"""Results in the terminal: the same words and tables as in the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from tierwise.report import words
from tierwise.report.tables import grid_table
from tierwise.sim.results import comparison, sweep, tables
from tierwise.sim.results import words as told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from tierwise.report.grid import Grid
    from tierwise.scenario.schema import Objectives, Scenario
    from tierwise.sim.compare import Comparison
    from tierwise.sim.results.comparison import Sensitivity
    from tierwise.sim.summary import Summary
    from tierwise.sim.sweep import Point


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
        *(Text(f"Assumed: {one}", style="yellow") for one in summary.assumptions),
        Text(),
        _grids(list(tables.in_terminal(scenario, summary)), width),
        Text(f"trace sha256 {summary.trace_sha256}", style="dim", overflow="fold"),
    )


def comparison_view(result: Comparison, sensitivity: Sensitivity | None, width: int) -> RenderableType:
    """What differs, and with ``sensitivity`` what would turn it round."""
    head = Text(f"{result.first} against {result.second}", style="bold")
    head.append(f"  {result.replications} pairs of runs with common random numbers", style="dim")
    grids = [comparison.difference_grid(result)]
    if sensitivity is not None and sensitivity.flips:
        grids.append(comparison.flip_grid(sensitivity.flips))
    last = Text("" if sensitivity is None else comparison.sensitivity_told(sensitivity))
    return Group(head, Text(comparison.verdict(result)), Text(), _grids(grids, width), last)


def sweep_view(points: Sequence[Point], width: int, slo: Objectives | None = None) -> RenderableType:
    """A row a point, held against the objectives, and why some could not be run."""
    failed = (Text(error, style="red") for error in sweep.errors(points))
    return Group(_grids([sweep.point_grid(points, slo)], width), *failed)


def _grids(grids: Sequence[Grid], width: int) -> RenderableType:
    """Tables below one another, each no wider than ``width`` columns."""
    return Group(*(grid_table(grid, width) for grid in grids))
