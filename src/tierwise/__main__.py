"""``python -m tierwise``, and what the command ``tierwise`` runs."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

SERVICES = frozenset({"serve", "cloud"})


def main() -> None:
    """Runs the command line. A service that is told to stop while it starts ends at once, with code 0."""
    if SERVICES.intersection(sys.argv[1:2]):
        # Before the imports, which take most of the start: process 1 of a container would ignore the signal, any other
        # be killed by it. The service replaces the handlers when there is something to finish.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
    from tierwise.cli import main as run  # noqa: PLC0415

    run()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    os._exit(0)  # not by an exception: a library that is being imported may take it for an error of its own


if __name__ == "__main__":
    main()
