"""What starts processes is tested on asyncio's own loop and on uvloop; whole runs on one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.loops import LOOP_FACTORIES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    import pytest

ON_EVERY_LOOP = {"test_broker", "test_demo_sensor", "test_processes"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in ON_EVERY_LOOP:
        return LOOP_FACTORIES
    return {"uvloop": LOOP_FACTORIES["uvloop"]}
