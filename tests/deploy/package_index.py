"""pip against the package index, which may be away for a moment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.components import missing
from tests.network import PAUSES_S

if TYPE_CHECKING:
    from collections.abc import Sequence

QUIET = {"PIP_PROGRESS_BAR": "off"}
"""With a log pip draws its bars on stdout, also where it is told to be quiet."""
_AWAY = re.compile(
    r"Retrying \(Retry|Max retries exceeded|Connection ?(Error|aborted|refused|reset|broken)|[Tt]imed out"
    r"|IncompleteRead|Failed to establish a new connection|Temporary failure in name resolution"
    r"|(429|5\d\d) (Client|Server) Error"
)


def pip(*arguments: str, timeout_s: float, pauses_s: Sequence[float] = PAUSES_S) -> str:
    """What pip says on stdout. It is asked three times; an index that is away is a missing component of the machine.

    Anything else that pip says no to is an ``AssertionError``.
    """
    said = log = ""
    for pause_s in (0.0, *pauses_s):
        time.sleep(pause_s)
        with tempfile.NamedTemporaryFile("r", suffix=".log") as file:
            # What it says of a page that it cannot get is only in its log: it goes on, and finds no such package.
            command = [sys.executable, "-m", "pip", "--log", file.name, *arguments]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=timeout_s, env=os.environ | QUIET
                )
            except subprocess.TimeoutExpired:
                log = f"pip timed out after {timeout_s:g} s"
                continue
            if done.returncode == 0:
                return done.stdout
            said, log = done.stderr, Path(file.name).read_text()
    if away := _AWAY.search(log):
        missing(f"the package index cannot be reached ({away[0]}): {said[-300:]}")
    raise AssertionError(f"pip {arguments[0]}: {said}")
