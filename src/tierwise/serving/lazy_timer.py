"""A timer that is put off far more often than it fires."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_NEVER = float("inf")


class LazyTimer:
    """Calls ``on_passed`` when ``set`` was not called again in time.

    Putting it off is an assignment: the event loop's own timer stays where it is, and is moved when it fires too early.
    """

    __slots__ = ("_due", "_fires_at", "_handle", "_loop", "_now", "_on_passed")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_passed: Callable[[], None]) -> None:
        self._loop = loop
        self._now = loop.time
        self._on_passed = on_passed
        self._due = self._fires_at = _NEVER
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """The time runs from now on."""
        self._due = due = self._now() + seconds
        if due < self._fires_at:
            self._start(due)

    def cancel(self) -> None:
        """It does not fire any more, unless it is set again."""
        if self._handle is not None:
            self._handle.cancel()
        self._due = self._fires_at = _NEVER

    def _start(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._fires_at = at
        self._handle = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._fires_at = _NEVER
        if self._now() < self._due:
            self._start(self._due)
        else:
            self._due = _NEVER
            self._on_passed()
