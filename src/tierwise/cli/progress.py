"""A line on the terminal that says how far long work is."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """Rewrites one line of standard error; at the end of the ``with`` block the line is ended, whatever happened.

    Nothing is shown in a pipe, nor where ``wanted`` is false.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        self._shows = wanted and sys.stderr.isatty()
        self._width = 0
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            click.echo("", err=True)

    @property
    def elapsed_s(self) -> float:
        """Wall time since the work began."""
        return max(1e-9, time.monotonic() - self._started)

    def tell(self, text: str) -> None:
        """Replaces the line."""
        if self._shows:
            click.echo(f"\r{text:<{self._width}}", nl=False, err=True)
            self._width = len(text)

    def simulation(self, simulated_s: float) -> Callable[[float, int], None] | None:
        """Takes (share done, requests) of a simulation of so many seconds; ``None`` where nobody looks."""
        if not self._shows:
            return None

        def show(share: float, requests: int) -> None:
            speed = share * simulated_s / self.elapsed_s
            self.tell(f"{share:6.1%}  {requests:,} requests  {speed:,.0f} simulated s/s")

        return show
