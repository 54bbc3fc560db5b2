"""An event loop that stands still is noticed, one that runs is not."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from tierwise.serving.watchdog import watchdog

if TYPE_CHECKING:
    import pytest


def watchdogs() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "watchdog"}


async def test_a_blocked_loop_is_noticed_and_told_where(caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()
    with watchdog(0.1, end=ended.set):
        assert ended.wait(20)  # blocks the loop
    (told,) = [vars(record) for record in caplog.records if record.levelno == logging.CRITICAL]
    assert told["for_s"] == 0.1
    innermost = told["where"].split(" < ")
    assert innermost[0].startswith("wait (")
    assert any(frame.startswith("test_a_blocked_loop_is_noticed_and_told_where (") for frame in innermost)


async def test_a_log_that_hangs_as_well_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierwise.serving.watchdog._TELLING_S", 0.05)
    ended, writing, written = threading.Event(), threading.Event(), threading.Event()

    class Stuck(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            writing.set()
            written.wait(60)

    handler = Stuck(level=logging.CRITICAL)
    logging.getLogger("tierwise.service").addHandler(handler)
    try:
        with watchdog(0.05, end=ended.set):
            assert ended.wait(20)
            assert writing.wait(20)
    finally:
        written.set()
        logging.getLogger("tierwise.service").removeHandler(handler)


async def test_it_ends_with_its_block() -> None:
    before = watchdogs()
    with watchdog(600):
        (watch,) = watchdogs() - before
    await asyncio.to_thread(watch.join, 20)
    assert not watch.is_alive()


async def test_zero_watches_nothing() -> None:
    before = watchdogs()
    with watchdog(0):
        assert watchdogs() <= before
