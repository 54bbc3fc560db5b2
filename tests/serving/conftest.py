"""Which event loops the tests of this folder run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.loops import LOOP_FACTORIES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    import pytest


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What talks to sockets by itself runs on uvloop too, which is what services run on."""
    names = ("asyncio", "uvloop") if item.path.stem == "test_http_connection" else ("asyncio",)
    return {name: LOOP_FACTORIES[name] for name in names}
