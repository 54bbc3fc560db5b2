"""Results of a simulation: into a folder, onto the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tierwise.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import RenderableType


def command_again(
    scenarios: list[Path], changes: dict[str, str], seed: int | None, out: Path, more: list[str]
) -> list[str]:
    """The arguments that do the same again."""
    given = [part for path, value in changes.items() for part in ("--set", f"{path}={value}")]
    dice = [] if seed is None else ["--seed", str(seed)]
    return ["tierwise", "simulate", *map(str, scenarios), *given, *dice, *more, "--out", str(out)]


def make_folder(out: Path) -> None:
    """Makes the folder for the results. Raises ``ConfigurationError`` before any work is done for nothing."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write results to {out} (--out): {error.strerror}") from error


def write(out: Path, files: dict[str, bytes]) -> None:
    """Writes the files into the folder. Raises ``ConfigurationError``."""
    try:
        for name, content in files.items():
            (out / name).write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"cannot write {error.filename or out} (--out): {error.strerror}") from error


def told_where(out: Path, page: str, others: str) -> None:
    """Where the results are."""
    click.echo(f"report   {out / page} (plots; opens in a browser without a network)")
    click.echo(f"beside   {others}")


def show(view: Callable[[int], RenderableType]) -> None:
    """Prints what fits the terminal's width; in colours only on a terminal."""
    from rich.console import Console  # noqa: PLC0415 -- heavy imports belong to the command

    console = Console(highlight=False)
    console.print(view(console.width))
