"""A scenario in virtual time: exact, deterministic, path-wise the same on both engines.

``simulate`` and ``Summary`` are imported when they are first used, so that an external node that imports
``tierwise.sim.node`` starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tierwise.sim.run import simulate
    from tierwise.sim.summary import Summary

__all__ = ["Summary", "simulate"]

_HOMES = {"simulate": "tierwise.sim.run", "Summary": "tierwise.sim.summary"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
