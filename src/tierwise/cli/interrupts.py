"""Ctrl-C and SIGTERM in the midst of work that has processes of its own."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from tierwise.core.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextlib.contextmanager
def ended_with_its_workers() -> Iterator[None]:
    """Ctrl-C and SIGTERM end a sweep's processes first, which then ends the sweep.

    An exception in the midst of the pool's own work would leave its locks held, and its end would wait for ever.
    """
    import multiprocessing  # noqa: PLC0415 -- only a sweep needs it

    ended_by = 0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended_by
        ended_by = number
        workers = multiprocessing.active_children()
        for worker in workers:
            worker.terminate()
        if not workers:
            leave(number, frame)

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        if number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except TransportError:
        if ended_by:
            leave(ended_by, None)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
