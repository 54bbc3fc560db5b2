"""The other side of a connection: an inbox, a wait with a deadline, and a broker that follows a script."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

import mqtt5

from tierwise.messaging import mqtt311
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.settings import MqttConnectionSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tierwise.live.broker import PrivateBroker

DEADLINE_S = 60.0


async def eventually(condition: Callable[[], bool], *, timeout_s: float = DEADLINE_S) -> None:
    """Returns as soon as ``condition`` holds; fails after ``timeout_s``."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


class Inbox:
    """Keeps what arrives, and acknowledges it unless told otherwise."""

    def __init__(self, *, acknowledge: bool = True) -> None:
        self.packets: list[mqtt5.PublishPacket] = []
        self.acknowledgements: list[Callable[[], None]] = []
        self._acknowledge = acknowledge

    def __call__(self, packet: mqtt5.PublishPacket, acknowledge: Callable[[], None]) -> None:
        self.packets.append(packet)
        self.acknowledgements.append(acknowledge)
        if self._acknowledge:
            acknowledge()

    @property
    def payloads(self) -> list[bytes]:
        return [packet.payload for packet in self.packets]

    async def holds(self, count: int) -> list[bytes]:
        await eventually(lambda: len(self.packets) >= count)
        return self.payloads


@contextlib.asynccontextmanager
async def connected(
    broker: PrivateBroker | FakeBroker,
    *filters: str,
    on_message: Callable[[mqtt5.PublishPacket, Callable[[], None]], None] | None = None,
    on_oversize: Callable[[mqtt5.PublishPacket, int, Callable[[], None]], None] | None = None,
    on_state: Callable[[bool], None] | None = None,
    **settings: object,
) -> AsyncIterator[MqttConnection]:
    """A connection to ``broker`` that is up and subscribed."""
    options = {"host": broker.host, "port": broker.port, "backoff_base_s": 0.02, "backoff_cap_s": 0.2, **settings}
    connection = MqttConnection(
        MqttConnectionSettings(**options),  # type: ignore[arg-type]  # fields by name
        on_message=on_message,
        on_oversize=on_oversize,
        on_state=on_state,
    )
    await connection.subscribe(*filters) if filters else None
    async with connection:
        await connection.wait_connected(DEADLINE_S)
        yield connection


class Session:
    """One accepted network connection of a ``FakeBroker``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, old: bool) -> None:
        self.writer = writer
        self._reader = reader
        self._read = mqtt311.read if old else mqtt5.read
        self._buffer = b""
        self.packets: list[mqtt5.Packet] = []

    async def receive(self) -> mqtt5.Packet:
        """The next packet. Raises ``EOFError`` at the end."""
        while True:
            try:
                packet, length = self._read(memoryview(self._buffer))
            except IndexError:
                chunk = await self._reader.read(65_536)
                if not chunk:
                    raise EOFError from None
                self._buffer += chunk
            else:
                self._buffer = self._buffer[length:]
                self.packets.append(packet)
                return packet

    async def receive_until(self, kind: type[mqtt5.Packet]) -> mqtt5.Packet:
        while not isinstance(packet := await self.receive(), kind):
            pass
        return packet

    def send(self, *packets: mqtt5.Packet | bytes) -> None:
        self.writer.write(b"".join(p if isinstance(p, bytes) else p.write() for p in packets))


class FakeBroker:
    """Listens on a free port and plays ``script`` with each connection; then reads on until the peer leaves."""

    def __init__(self, script: Callable[[Session], Awaitable[None]], *, old: bool = False) -> None:
        self.sessions: list[Session] = []
        self.failures: list[BaseException] = []
        self._script = script
        self._old = old
        self._tasks: set[asyncio.Task[None]] = set()
        self.host, self.port = "127.0.0.1", 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        assert not self.failures, self.failures

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = Session(reader, writer, old=self._old)
        self.sessions.append(session)
        try:
            # What may end a session: the peer has left, or the test is over.
            with contextlib.suppress(EOFError, ConnectionError, asyncio.CancelledError):
                await self._script(session)
                while not writer.is_closing():
                    await session.receive()
        except BaseException as error:  # noqa: BLE001  (told at the end of the block)
            self.failures.append(error)
        finally:
            writer.close()


async def accept(session: Session, **answer: object) -> None:
    """Takes CONNECT and says yes; grants subscriptions if any come with it."""
    await session.receive_until(mqtt5.ConnectPacket)
    session.send(mqtt5.ConnAckPacket(**answer))  # type: ignore[arg-type]  # fields by name
