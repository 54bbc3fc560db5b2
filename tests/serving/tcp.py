"""A small TCP server for the length of a block, that leaves no connection behind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def tcp_server(handle: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Gives its port. ``handle`` gets each connection, which is closed when it returns."""
    under_way: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(asyncio.current_task())
        # A client that goes away in the middle is what several tests are about.
        with contextlib.suppress(OSError, EOFError):
            try:
                await handle(reader, writer)
            finally:
                writer.close()
                await writer.wait_closed()

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*(task for task in under_way if task is not None))
