"""A timer that is put off: it fires once, in time, and not before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from tests.waiting import until
from tierwise.serving.lazy_timer import LazyTimer

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """The part of an event loop that timers use, with a time of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.handles: list[tuple[asyncio.TimerHandle, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, (), cast("Any", self))
        self.handles.append((handle, callback))
        return handle

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by ``TimerHandle.cancel``."""

    def advance(self, to: float) -> None:
        """Runs what is due until then, each at its own time."""
        while due := [pair for pair in self.handles if pair[0].when() <= to and not pair[0].cancelled()]:
            first = min(due, key=lambda pair: pair[0].when())
            self.handles.remove(first)
            self.now = first[0].when()
            first[1]()
        self.now = to


def timer_with(clock: Clock) -> tuple[LazyTimer, list[float]]:
    """A timer and the times at which it fires."""
    fired: list[float] = []
    return LazyTimer(cast("Any", clock), lambda: fired.append(clock.now)), fired


def test_it_fires_once_after_the_last_time_it_was_set() -> None:
    clock = Clock()
    timer, fired = timer_with(clock)
    for at in (0, 2, 4, 6):
        clock.advance(at)
        timer.set(5)
    clock.advance(100)
    assert fired == [11]


def test_putting_it_off_starts_no_further_timer() -> None:
    clock = Clock()
    timer, _ = timer_with(clock)
    for _ in range(1000):
        timer.set(5)
    assert len(clock.handles) == 1


def test_it_can_be_brought_forward_and_set_again() -> None:
    clock = Clock()
    timer, fired = timer_with(clock)
    timer.set(3600)
    timer.set(1)
    clock.advance(10)
    timer.set(1)
    clock.advance(7200)
    assert fired == [1, 11]


def test_it_is_silent_after_cancel() -> None:
    clock = Clock()
    timer, fired = timer_with(clock)
    timer.set(1)
    timer.cancel()
    clock.advance(10)
    assert fired == []
    timer.set(1)
    clock.advance(20)
    assert fired == [11]


async def test_it_fires_on_a_real_loop() -> None:
    fired: list[int] = []
    timer = LazyTimer(asyncio.get_running_loop(), lambda: fired.append(1))
    timer.set(0.01)
    await until(lambda: bool(fired))
    assert fired == [1]
