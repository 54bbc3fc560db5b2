"""What a connection wants to hear, and what the broker of the moment has granted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from mqtt5 import QoS, SubscribePacket, TopicFilter, UnsubscribePacket

from tierwise.core.errors import BrokerError
from tierwise.messaging.handshake import in_words

if TYPE_CHECKING:
    from mqtt5 import SubAckPacket, SubAckReasonCode, UnsubAckPacket, UnsubAckReasonCode

    from tierwise.messaging.outbox import Outbox
    from tierwise.messaging.wire import Wire

    ReasonCodes = list[SubAckReasonCode] | list[UnsubAckReasonCode]

_QOS = (QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE)
_REFUSED = 0x80
"""Codes from here on refuse a subscription."""


class Subscriptions:
    """Remembers filters through reconnects. ``outbox`` gives the packet ids, which publishes use too."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._wanted: dict[str, TopicFilter] = {}
        self._granted: set[str] = set()
        self._replies: dict[int, asyncio.Future[ReasonCodes]] = {}

    async def add(self, wire: Wire | None, filters: list[TopicFilter]) -> None:
        """Wants ``filters`` from now on; asks the broker where there is one. Raises ``BrokerError`` when it refuses."""
        self._wanted.update((entry.pattern, entry) for entry in filters)
        if wire is None:
            return
        try:
            await self._ask(wire, filters)
        except BrokerError:
            for entry in filters:
                self._wanted.pop(entry.pattern, None)
            raise

    async def remove(self, wire: Wire | None, patterns: list[str]) -> None:
        """Wants ``patterns`` no more."""
        for pattern in patterns:
            self._wanted.pop(pattern, None)
            self._granted.discard(pattern)
        if wire is not None:
            packet_id = self._outbox.next_id()
            await self._request(wire, packet_id, UnsubscribePacket(packet_id, patterns))

    async def restore(self, wire: Wire, *, same_session: bool) -> None:
        """Asks a broker for everything that it has not granted in this session."""
        if not same_session:
            self._granted.clear()
        missing = [entry for pattern, entry in self._wanted.items() if pattern not in self._granted]
        if missing:
            await self._ask(wire, missing)

    def answered(self, packet: SubAckPacket | UnsubAckPacket) -> None:
        """The broker's reply to one of the requests."""
        reply = self._replies.get(packet.packet_id)
        if reply is not None and not reply.done():
            reply.set_result(packet.reason_codes)

    async def _ask(self, wire: Wire, filters: list[TopicFilter]) -> None:
        packet_id = self._outbox.next_id()
        codes = await self._request(wire, packet_id, SubscribePacket(packet_id, filters))
        if len(codes) != len(filters):
            raise BrokerError(f"the broker answered {len(codes)} of {len(filters)} subscriptions")
        for entry, code in zip(filters, codes, strict=True):
            if code.value >= _REFUSED:
                reason = in_words(code)
                raise BrokerError(f"the broker refused the subscription to {entry.pattern}: {reason}")
            self._granted.add(entry.pattern)

    async def _request(self, wire: Wire, packet_id: int, packet: SubscribePacket | UnsubscribePacket) -> ReasonCodes:
        reply: asyncio.Future[ReasonCodes] = asyncio.get_running_loop().create_future()
        self._replies[packet_id] = reply
        self._outbox.reserved.add(packet_id)
        futures: set[asyncio.Future[Any]] = {reply, wire.closed}
        try:
            wire.send(wire.codec.write(packet))
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._replies[packet_id]
            self._outbox.reserved.discard(packet_id)
        if not reply.done():
            raise wire.closed.result()
        return reply.result()


def topic_filter(entry: str | TopicFilter, qos: Literal[0, 1]) -> TopicFilter:
    """``entry`` with at most QoS 1."""
    if isinstance(entry, str):
        return TopicFilter(entry, max_qos=_QOS[qos])
    return TopicFilter(
        entry.pattern,
        max_qos=QoS.AT_MOST_ONCE if entry.max_qos is QoS.AT_MOST_ONCE else QoS.AT_LEAST_ONCE,
        no_local=entry.no_local,
        retain_as_published=entry.retain_as_published,
        retain_handling=entry.retain_handling,
    )
