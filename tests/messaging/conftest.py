"""Everything here runs on asyncio's own loop and on uvloop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.loops import LOOP_FACTORIES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOP_FACTORIES
