"""The word that somebody may have meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_CLOSE = 0.75
"""Share of equal letters (difflib) from which on two words count as one with a slip."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean `period`?)`` where one of ``known`` is nearly ``word``, else nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=_CLOSE)
    return f" (did you mean `{close[0]}`?)" if close else ""
