"""Work beside the requests: when it fails, it says so."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine

log = logging.getLogger(__name__)


def in_background(work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
    """Runs ``work`` as a task. An error ends it, with a line in the log at once instead of when somebody awaits it."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_told)
    return task


def _told(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("work in the background failed", extra={"work": task.get_name()}, exc_info=error)
