"""Work that needs a package server, which may be away for a moment."""

from __future__ import annotations

import logging
import subprocess
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAUSES_S = (5.0, 30.0)
"""Before the second and the third try."""
Made = TypeVar("Made")
_log = logging.getLogger(__name__)


def insist(attempt: Callable[[], Made], *, pauses_s: Sequence[float] = PAUSES_S) -> Made:
    """What ``attempt`` makes, at the third try at the latest; the last failure is the caller's."""
    for pause_s in pauses_s:
        try:
            return attempt()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            _log.warning("once more in %g s: %s", pause_s, error)
            time.sleep(pause_s)
    return attempt()
