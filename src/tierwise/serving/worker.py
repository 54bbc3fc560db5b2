"""One thread that runs a model, so that the event loop does not."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")


class Worker(Generic[T]):
    """Runs functions one after the other, in the order in which they came.

    Not a ``ThreadPoolExecutor``: that waits for its threads when Python ends, so a model that hangs would keep the
    service from ever stopping. This thread is a daemon.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[Callable[[], T], Callable[[T], None], asyncio.AbstractEventLoop] | None]
        self._jobs = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: Callable[[], None] | None = None
        self.unfinished = 0
        """Jobs that are waiting or under way."""

    def submit(self, job: Callable[[], T], on_done: Callable[[T], None], loop: asyncio.AbstractEventLoop) -> None:
        """Runs ``job`` on the thread, then ``on_done`` with its result on the event loop. ``job`` must not raise."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self.unfinished += 1
        self._jobs.put((job, on_done, loop))

    def close(self, last: Callable[[], None]) -> None:
        """Calls ``last`` when the jobs are done, and ends the thread. Does not wait for it."""
        self._last = last
        if self._thread is None:
            last()
        else:
            self._jobs.put(None)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, on_done, loop = item
            result = job()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
                loop.call_soon_threadsafe(self._done, on_done, result)
        if self._last is not None:
            self._last()

    def _done(self, on_done: Callable[[T], None], result: T) -> None:
        self.unfinished -= 1  # on the event loop, like the increment
        on_done(result)
