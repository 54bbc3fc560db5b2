"""A timer that is put off: it fires once, in time, and not before."""

from __future__ import annotations

import asyncio

from tests.waiting import until
from tierwise.serving.lazy_timer import LazyTimer


async def test_it_fires_once_after_the_last_time_it_was_set() -> None:
    loop = asyncio.get_running_loop()
    fired: list[float] = []
    timer = LazyTimer(loop, lambda: fired.append(loop.time()))
    for _ in range(5):
        timer.set(0.05)
        last = loop.time()
        await asyncio.sleep(0.02)
    assert not fired
    await until(lambda: bool(fired))
    assert fired[0] >= last + 0.05 - 0.001
    await asyncio.sleep(0.06)
    assert len(fired) == 1


async def test_it_can_be_brought_forward_and_set_again() -> None:
    fired: list[int] = []
    timer = LazyTimer(asyncio.get_running_loop(), lambda: fired.append(1))
    timer.set(3600)
    timer.set(0.01)
    await until(lambda: len(fired) == 1)
    timer.set(0.01)
    await until(lambda: len(fired) == 2)


async def test_it_is_silent_after_cancel() -> None:
    fired: list[int] = []
    timer = LazyTimer(asyncio.get_running_loop(), lambda: fired.append(1))
    timer.set(0.01)
    timer.cancel()
    await asyncio.sleep(0.03)
    assert not fired
