"""A table as data, shown alike in the terminal and in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Cell(msgspec.Struct, frozen=True):
    """``tone`` is ``good``, ``bad`` or nothing; ``share`` (0…1) is drawn as a small bar; ``tier`` colours a name."""

    text: str
    tone: str = ""
    share: float | None = None
    tier: str = ""
    prose: bool = False
    """Words, that may take several lines, instead of a figure."""


class Grid(msgspec.Struct, frozen=True):
    """The first column names the rows; ``brief`` are the columns that a terminal shows, by default all."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    brief: Sequence[str] = ()

    def cells(self) -> Iterator[list[Cell]]:
        """The rows, every cell spelled out."""
        for row in self.rows:
            yield [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]

    def shortened(self) -> Grid:
        """Only the columns that a terminal shows."""
        if not self.brief:
            return self
        kept = [0, *(self.columns.index(title) for title in self.brief)]
        return msgspec.structs.replace(
            self,
            columns=[self.columns[position] for position in kept],
            rows=[[row[position] for position in kept] for row in self.rows],
            brief=(),
        )
