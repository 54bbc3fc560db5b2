"""A private MQTT broker for a demonstration, a live scenario or a test: mosquitto, else the embedded one."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mqtt5 import ConnAckPacket, ConnAckReasonCode, ConnectPacket, DisconnectPacket

from tierwise.core.errors import BrokerError, DependencyError, TransportError
from tierwise.live.embedded_broker import READY
from tierwise.live.processes import Child, child_process, find_program, free_port
from tierwise.messaging import mqtt311

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Kind = Literal["mosquitto", "amqtt"]

_HOST = "127.0.0.1"
_TRIES = 5

# Defaults of mosquitto that would falsify a measurement: Nagle's algorithm delays answers by up to 48 ms, 20 messages
# in flight a client throttle it, and beyond 1000 queued messages a client loses them without a word.
# Started by root it would change to another user, and Linux then forgets to end it with its parent.
_MOSQUITTO_CONF = """\
user root
listener {port} {host}
allow_anonymous true
persistence false
set_tcp_nodelay true
max_inflight_messages 1000
max_queued_messages 100000
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
connection_messages true
"""


@dataclass(frozen=True, slots=True)
class PrivateBroker:
    """A running broker that only this machine can reach."""

    host: str
    port: int
    kind: Kind
    protocol: Literal["5", "3.1.1"]
    """Newest version of MQTT that it speaks."""
    child: Child


@contextlib.asynccontextmanager
async def private_broker(
    kind: Kind | None = None, *, port: int | None = None, timeout_s: float = 15.0
) -> AsyncIterator[PrivateBroker]:
    """A broker on the loopback interface for the length of the block, which begins when the broker answers.

    ``kind`` is chosen by what is installed, ``port`` among the free ones. Nothing is stored on disk. Raises
    ``DependencyError`` where no broker is installed and ``BrokerError`` where it does not start.
    """
    kind = kind or _installed_kind()
    async with contextlib.AsyncExitStack() as stack:
        for attempt in range(_TRIES):
            chosen = port or free_port(_HOST)
            try:
                child = await stack.enter_async_context(_started(kind, chosen, timeout_s))
                break
            except TransportError as error:
                # Someone else may have taken the port between the choice and the start.
                if port is not None or attempt == _TRIES - 1:
                    raise BrokerError(f"cannot start a private broker on {_HOST}:{chosen}: {error}") from error
        yield PrivateBroker(_HOST, chosen, kind, "5" if kind == "mosquitto" else "3.1.1", child)


def _installed_kind() -> Kind:
    if find_program("mosquitto") is not None:
        return "mosquitto"
    if importlib.util.find_spec("amqtt") is not None:
        return "amqtt"
    raise DependencyError(
        "no MQTT broker is installed: install mosquitto (Debian, Ubuntu: apt-get install mosquitto) or the embedded "
        "one (pip install 'tierwise[broker]'), or name the address of yours"
    )


@contextlib.asynccontextmanager
async def _started(kind: Kind, port: int, timeout_s: float) -> AsyncIterator[Child]:
    async with _mosquitto_child(port) if kind == "mosquitto" else _amqtt_child(port) as child:
        if kind == "amqtt":
            await child.wait_line(READY, timeout_s=timeout_s)
        client_id = f"ready-{secrets.token_hex(6)}"
        await child.wait_ready(lambda: _answers(port, client_id), timeout_s=timeout_s)
        if kind == "mosquitto":
            # It was this broker that answered, not someone else's on the same port.
            await child.wait_line(client_id, timeout_s=timeout_s)
        yield child


@contextlib.asynccontextmanager
async def _mosquitto_child(port: int) -> AsyncIterator[Child]:
    program = find_program("mosquitto")
    if program is None:
        raise DependencyError("mosquitto is not installed (Debian, Ubuntu: apt-get install mosquitto)")
    with tempfile.TemporaryDirectory(prefix="tierwise-broker-") as folder:
        configuration = Path(folder) / "mosquitto.conf"
        configuration.write_text(_MOSQUITTO_CONF.format(host=_HOST, port=port), encoding="utf-8")
        async with child_process([program, "-c", configuration], name="mosquitto") as child:
            yield child


@contextlib.asynccontextmanager
async def _amqtt_child(port: int) -> AsyncIterator[Child]:
    if importlib.util.find_spec("amqtt") is None:
        raise DependencyError("the embedded broker is not installed: pip install 'tierwise[broker]'")
    command = [sys.executable, "-m", "tierwise.live.embedded_broker", str(port)]
    async with child_process(command, name="amqtt") as child:
        yield child


async def _answers(port: int, client_id: str) -> bool:
    """Whether a broker on ``port`` accepts a connection."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(_HOST, port)
            try:
                writer.write(mqtt311.write(ConnectPacket(client_id, clean_start=True, keep_alive=10)))
                packet, _ = mqtt311.read(memoryview(await reader.readexactly(4)))
                writer.write(mqtt311.write(DisconnectPacket()))
                await writer.drain()
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return False
    return isinstance(packet, ConnAckPacket) and packet.reason_code is ConnAckReasonCode.SUCCESS
