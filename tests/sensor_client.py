"""A device of the tests: publishes requests and collects what comes back for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tests.waiting import until
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.settings import MqttConnectionSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mqtt5 import PublishPacket

    from tierwise.live.broker import PrivateBroker

REQUEST_TOPIC = "ml/inference/request"


class Device:
    """``received`` holds (topic, packet) of all that came on its topics, in order."""

    def __init__(self, connection: MqttConnection, received: list[PublishPacket]) -> None:
        self.connection = connection
        self.received = received

    def send(
        self, payload: bytes | dict[str, Any], *, topic: str = REQUEST_TOPIC, qos: Literal[0, 1] = 1, **properties: Any
    ) -> None:
        """Publishes a request, JSON unless it is bytes."""
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        self.connection.publish(topic, body, qos=qos, **properties)

    async def receive(self, count: int) -> list[dict[str, Any]]:
        """The first ``count`` messages as JSON, when they are there."""
        await until(lambda: len(self.received) >= count)
        return [msgspec.json.decode(packet.payload) for packet in self.received]

    async def ask(self, payload: bytes | dict[str, Any], **options: Any) -> tuple[str, dict[str, Any]]:
        """Publishes one request and returns topic and JSON of what comes next."""
        before = len(self.received)
        self.send(payload, **options)
        messages = await self.receive(before + 1)
        return self.received[before].topic, messages[before]

    def of_topic(self, topic: str) -> list[bytes]:
        """Payloads that came on one topic."""
        return [packet.payload for packet in self.received if packet.topic == topic]


@contextlib.asynccontextmanager
async def device_on(broker: PrivateBroker, *topics: str) -> AsyncIterator[Device]:
    """A device that hears all results and errors, or ``topics``."""
    received: list[PublishPacket] = []

    def on_message(packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        received.append(packet)
        acknowledge()

    settings = MqttConnectionSettings(host=broker.host, port=broker.port, backoff_base_s=0.02, backoff_cap_s=0.2)
    connection = MqttConnection(settings, on_message=on_message)
    await connection.subscribe(*(topics or ("ml/inference/result/+", "ml/inference/error/+")))
    async with connection:
        await connection.wait_connected(20)
        yield Device(connection, received)
