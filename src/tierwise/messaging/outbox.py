"""Messages on their way to the broker: packet ids, the window of QoS 1, and what waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
from mqtt5 import PublishPacket, QoS

from tierwise.core.errors import (
    BrokerError,
    ConfigurationError,
    OverloadedError,
    PayloadTooLargeError,
    TierwiseError,
    TransportError,
)
from tierwise.messaging.handshake import in_words
from tierwise.messaging.topics import is_topic_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqtt5 import PubAckPacket

    from tierwise.messaging.wire import Wire

_log = logging.getLogger(__name__)

_AT_LEAST_ONCE = QoS.AT_LEAST_ONCE
_MAX_PACKET_ID = 65_535
_FAILURE = 0x80
"""Reason codes from here on are failures."""


class PublishProperties(TypedDict, total=False):
    """MQTT 5 properties of a message; they do not travel to a 3.1.1 broker."""

    content_type: str | None
    response_topic: str | None
    correlation_data: bytes | None
    message_expiry_interval: int | None
    """Seconds."""
    payload_format_indicator: int
    """1 says that the payload is UTF-8."""
    user_properties: list[tuple[str, str]]


class Outgoing(msgspec.Struct):
    """One message at QoS 1; ``packet_id`` is 0 until it was sent."""

    topic: str
    payload: bytes
    options: dict[str, Any]
    on_done: Callable[[TierwiseError | None], None] | None
    packet_id: int = 0
    duplicate: bool = False

    def packet(self) -> PublishPacket:
        """The message as the codec takes it."""
        return PublishPacket(
            self.topic,
            self.payload,
            qos=_AT_LEAST_ONCE,
            packet_id=self.packet_id,
            duplicate=self.duplicate,
            **self.options,
        )


class Outbox:
    """Keeps every message of QoS 1 until the broker acknowledges it, through any number of connections."""

    def __init__(self, max_queued: int) -> None:
        self.dropped = 0
        """Messages of QoS 0 that were lost because there was no connection or it was stuck."""
        self.reserved: set[int] = set()
        """Packet ids of subscriptions under way; publishes must not take them."""
        self._inflight: dict[int, Outgoing] = {}
        self._waiting: deque[Outgoing] = deque()
        self._max_queued = max_queued
        self._wire: Wire | None = None
        self._window = 0
        self._max_packet_size = 0
        self._last_id = 0
        self._ended: TierwiseError | None = None
        self._changed = asyncio.Event()

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        options: dict[str, Any],
        on_done: Callable[[TierwiseError | None], None] | None,
    ) -> None:
        """Sends now where that is possible; otherwise keeps QoS 1 and drops QoS 0."""
        if not is_topic_name(topic):
            raise ConfigurationError(
                f"not a topic to publish to: {topic!r} is empty or has wildcards or control characters"
            )
        wire = self._wire
        if qos:
            message = Outgoing(topic, payload, options, on_done)
            if wire is not None and wire.writable and not self._waiting and len(self._inflight) < self._window:
                self._send(wire, message)
            else:
                self._queue(message)
        elif wire is None or not wire.writable:
            self.dropped += 1
            _settle(topic, on_done, self._ended or TransportError("no connection to the broker"))
        else:
            data = wire.codec.write(PublishPacket(topic, payload, **options))
            self._check_size(len(data))
            wire.send(data)
            _settle(topic, on_done, None)

    def attach(self, wire: Wire, max_packet_size: int, *, same_session: bool) -> None:
        """A connection is there, for QoS 0. In a new session the broker knows nothing of earlier tries."""
        self._wire, self._window, self._max_packet_size = wire, 0, max_packet_size
        if not same_session:
            for message in self._waiting:
                if not message.packet_id:
                    break
                message.packet_id = 0
                message.duplicate = False

    def open(self, window: int) -> None:
        """The subscriptions stand, so answers will find us: sends what waits, ``window`` messages at a time."""
        self._window = window
        self.pump()

    def detach(self) -> None:
        """The connection is gone: everything unacknowledged waits again, in order, ahead of the rest."""
        self._wire = None
        for message in self._inflight.values():
            message.duplicate = True
        self._waiting.extendleft(reversed(self._inflight.values()))
        self._inflight.clear()
        self._changed.set()

    def end(self, reason: TierwiseError) -> None:
        """There will be no other connection: everything unacknowledged is lost, and whatever comes is refused."""
        self.detach()
        self._ended = reason
        lost = list(self._waiting)
        self._waiting.clear()
        for message in lost:
            _settle(message.topic, message.on_done, reason)

    def pump(self) -> None:
        """Sends what waits, as far as the broker's window and the socket allow."""
        wire = self._wire
        while self._waiting and wire is not None and wire.writable and len(self._inflight) < self._window:
            message = self._waiting.popleft()
            try:
                self._send(wire, message)
            except PayloadTooLargeError as error:
                _settle(message.topic, message.on_done, error)
        self._changed.set()

    def acknowledged(self, packet: PubAckPacket) -> None:
        """The broker has taken a message, or refused it."""
        message = self._inflight.pop(packet.packet_id, None)
        if message is None:
            return
        error = None
        if packet.reason_code.value >= _FAILURE:
            reason = packet.reason_str or in_words(packet.reason_code)
            error = BrokerError(f"the broker refused a message to {message.topic}: {reason}")
        _settle(message.topic, message.on_done, error)
        self.pump()

    def next_id(self) -> int:
        """A packet id that nothing uses."""
        packet_id = self._last_id
        while True:
            packet_id = packet_id % _MAX_PACKET_ID + 1
            if packet_id not in self._inflight and packet_id not in self.reserved:
                self._last_id = packet_id
                return packet_id

    async def drained(self) -> None:
        """Returns when the broker has acknowledged everything or the connection is lost."""
        await self._until(lambda: self._wire is None or not (self._inflight or self._waiting))

    async def room(self) -> None:
        """Returns when ``publish`` takes another message, or never will."""
        await self._until(lambda: len(self._waiting) < self._max_queued or self._ended is not None)

    def _send(self, wire: Wire, message: Outgoing) -> None:
        packet_id = message.packet_id = message.packet_id or self.next_id()
        data = wire.codec.write(message.packet())
        self._check_size(len(data))
        self._inflight[packet_id] = message
        wire.send(data)

    def _queue(self, message: Outgoing) -> None:
        if self._ended is not None:
            raise TransportError(f"cannot publish to {message.topic}: {self._ended}") from self._ended
        if len(self._waiting) >= self._max_queued:
            raise OverloadedError(f"{len(self._waiting)} messages already wait for the broker")
        self._waiting.append(message)

    def _check_size(self, size: int) -> None:
        if size > self._max_packet_size:
            raise PayloadTooLargeError(f"a message of {size} bytes: the broker takes at most {self._max_packet_size}")

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


def _settle(topic: str, on_done: Callable[[TierwiseError | None], None] | None, error: TierwiseError | None) -> None:
    """Tells whoever asked how it ended."""
    if on_done is not None:
        try:
            on_done(error)
        except Exception:  # noqa: BLE001  (whatever it is, the connection goes on)
            _log.exception("the callback of a message to %s failed", topic)
    elif error is not None:
        _log.warning("lost a message to %s: %s", topic, error)
