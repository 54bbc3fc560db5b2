"""Ends a service whose event loop stands still, so that whoever restarts it can: nothing else would ever end it.

Such a process still holds its port, and the kernel goes on taking connections for it. Docker calls it unhealthy and
does no more about it; Kubernetes restarts it, without a word on where it hung.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXIT_CODE = 1
_LOOKS = 10
"""In the time after which a loop counts as hung."""
_TELLING_S = 2.0
"""How long the last words may take: the event loop may hang in writing to the same log."""

log = logging.getLogger("tierwise.service")


@contextlib.contextmanager
def watchdog(hang_s: float, *, end: Callable[[], object] | None = None) -> Iterator[None]:
    """Ends the process when the event loop that runs this does nothing for ``hang_s`` seconds; 0 never does.

    The log tells what it was doing. A process that was itself stopped meanwhile (a paused container, a machine that
    slept) is not meant: looks at the loop are counted, and none is taken in such a time. ``end`` is called instead of
    ending the process.
    """
    if not hang_s:
        yield
        return
    watch = _Watch(asyncio.get_running_loop(), hang_s, end or _end_process)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


class _Watch:
    """The event loop ticks; a thread looks whether it has."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hang_s: float, end: Callable[[], object]) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._hang_s = hang_s
        self._step_s = hang_s / _LOOKS
        self._end = end
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)

    def start(self) -> None:
        self._tick()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._ticks += 1
        self._timer = self._loop.call_later(self._step_s / 2, self._tick)

    def _look(self) -> None:
        seen, silent = 0, 0
        while not self._stopped.wait(self._step_s):
            ticks = self._ticks
            silent = silent + 1 if ticks == seen else 0
            seen = ticks
            if silent >= _LOOKS:
                teller = threading.Thread(target=self._tell, daemon=True)
                teller.start()
                teller.join(_TELLING_S)
                self._end()
                return

    def _tell(self) -> None:
        stack = reversed(traceback.extract_stack(sys._current_frames()[self._loop_thread]))  # noqa: SLF001 -- documented
        where = " < ".join(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in stack)
        log.critical("the event loop hangs: giving up", extra={"for_s": self._hang_s, "where": where})


def _end_process() -> None:
    os._exit(EXIT_CODE)  # an orderly end needs the event loop
