"""Where a scenario came from, for the page that shows what it led to."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario file as it was read, and the values that replaced some of its own. ``command`` runs it again."""

    file: str
    text: str
    changes: Mapping[str, str]
    command: str


def origin_of(path: Path, changes: Mapping[str, str], command: list[str]) -> Origin:
    """Reads the file once more: it was read and checked a moment ago. ``command`` are the arguments in the shell."""
    return Origin(
        file=path.name, text=path.read_text(encoding="utf-8"), changes=dict(changes), command=shlex.join(command)
    )
