"""One row for each figure, with what it is compared to, the ratio and the target."""

from __future__ import annotations

import operator
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_HOLDS = {"<=": operator.le, ">=": operator.ge}


class Row(NamedTuple):
    """``figure`` is what the target speaks of: mostly ours divided by the peer's, both measured in this run."""

    name: str
    ours: str
    peer: str
    figure: float
    comparison: str
    target: float
    unit: str = "×"

    @property
    def holds(self) -> bool:
        """Whether the figure meets its target."""
        return bool(_HOLDS[self.comparison](self.figure, self.target))


def show(rows: list[Row]) -> None:
    """Prints the table."""
    table = Table(title="Benchmarks: ratios within this run", title_justify="left")
    for name in ("what", "tierwise", "compared to"):
        table.add_column(name)
    for name in ("figure", "target", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        sign = "≤" if row.comparison == "<=" else "≥"
        table.add_row(
            escape(row.name),
            row.ours,
            row.peer,
            f"{row.figure:.2f} {row.unit}",
            f"{sign} {row.target:g} {row.unit}",
            "[green]met[/]" if row.holds else "[red]missed[/]",
        )
    Console(width=None if Console().is_terminal else 130).print(table)
