"""One network connection to a broker: packets in, packets out, keep-alive. No task or future per message."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, cast

from mqtt5 import (
    ConnAckPacket,
    DisconnectPacket,
    DisconnectReasonCode,
    PingReqPacket,
    PublishPacket,
    QoS,
)

from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import TransportError
from tierwise.messaging.codec import MQTT5, read_old_form
from tierwise.messaging.framing import HEAD_BYTES, is_publish, packet_size, shortened

if TYPE_CHECKING:
    from mqtt5 import Packet

    from tierwise.messaging.codec import Codec

_log = logging.getLogger(__name__)

# The codec's enumerations are not integers: every one of their values is true.
_AT_MOST_ONCE = QoS.AT_MOST_ONCE
_EXACTLY_ONCE = QoS.EXACTLY_ONCE
_MAX_CORK_S = 0.001
"""Answers given while a read is worked off leave together, but none waits longer than this for the others."""
_GOODBYE_S = 1.0
"""A peer that does not take our last bytes in this time is cut off."""


OnMessage = Callable[[PublishPacket, Callable[[], None]], None]
OnOversize = Callable[[PublishPacket, int, Callable[[], None]], None]


def nothing_to_acknowledge() -> None:
    """The acknowledgement of a QoS 0 message."""


class Wire(asyncio.Protocol):
    """Frames, corks and counts. What packets mean is its owner's business.

    ``connack`` is done with the broker's answer to CONNECT; whatever follows it waits for ``begin``. From then on
    ``on_message(packet, acknowledge)`` gets every PUBLISH, ``on_packet(wire, packet)`` every other packet, and
    ``on_writable`` is called when the peer takes data again. A PUBLISH of more than ``max_packet_size`` bytes is not
    kept: when it has passed, ``on_oversize(packet, payload_bytes, acknowledge)`` gets its beginning. ``closed`` is
    done when the connection is over; its result says why.
    """

    def __init__(
        self,
        codec: Codec,
        max_packet_size: int,
        *,
        on_message: OnMessage,
        on_oversize: OnOversize,
        on_packet: Callable[[Wire, Packet], None],
        on_writable: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.codec = codec
        self.read_ns = monotonic_ns()
        """When the bytes that are being handled were read: messages behind one another share it."""
        self.writable = False
        self.heard = False
        """Whether the peer has ever sent anything."""
        self.connack: asyncio.Future[ConnAckPacket | TransportError] = loop.create_future()
        self.closed: asyncio.Future[TransportError] = loop.create_future()
        self._loop = loop
        self._max_packet_size = max_packet_size
        self._on_message = on_message
        self._on_oversize = on_oversize
        self._on_packet = on_packet
        self._on_writable = on_writable
        self._transport: asyncio.Transport | None = None
        self._reason: TransportError | None = None
        self._held: bytes | None = None
        self._parts: list[bytes] = []
        self._missing = 0
        self._oversize_head = b""
        self._skip = 0
        self._out: list[bytes] = []
        self._corked_until = 0.0
        self._flush_scheduled = False
        self._unacknowledged: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._received = self._sent = self._pinged = False

    # --- the event loop calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.writable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable = False
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        reason = self._reason or TransportError(f"the broker closed the connection{f': {exc}' if exc else ''}")
        for future in (self.connack, self.closed):
            if not future.done():
                future.set_result(reason)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._on_writable()

    def data_received(self, data: bytes) -> None:
        self._received = self.heard = True
        self.read_ns = monotonic_ns()
        if self._missing:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts = []
            self._missing = 0
        self._corked_until = monotonic() + _MAX_CORK_S
        try:
            self._read_packets(data)
        finally:
            self._corked_until = 0.0
            self._flush()

    # --- its owner calls these

    def begin(self) -> None:
        """Takes what came after the broker's answer to CONNECT."""
        held, self._held = self._held, None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            if held:
                self.data_received(held)

    def send(self, data: bytes) -> None:
        """Sends the bytes of a packet, joined with others of the same moment into one write."""
        self._out.append(data)
        if self._corked_until:
            if monotonic() > self._corked_until:
                self._flush()
                self._corked_until = monotonic() + _MAX_CORK_S
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def keep_alive(self, interval_s: float) -> None:
        """Starts to ping a silent peer, so that neither side takes the other for dead within ``interval_s``."""
        if interval_s:
            self._timer = self._loop.call_later(interval_s / 2, self._tick, interval_s / 2)

    def close(self) -> None:
        """Says goodbye for good, sends what is left and closes. The broker forgets the session."""
        if self._transport is not None:
            self.send(self.codec.write(DisconnectPacket(session_expiry_interval=0)))
            self._flush()
            self._transport.close()
            self._loop.call_later(_GOODBYE_S, self._transport.abort)

    async def leave(self) -> None:
        """Says goodbye, also in the middle of connecting, and returns when the connection is closed."""
        if self._transport is not None:
            self.close()
            await asyncio.wait({self.closed})

    def fail(self, reason: TransportError, code: DisconnectReasonCode | None = None) -> None:
        """Breaks the connection off; an MQTT 5 peer is told ``code``."""
        transport, self._reason = self._transport, self._reason or reason
        self.writable = False
        if transport is None or transport.is_closing():
            return
        if code is None or self.codec is not MQTT5:
            transport.abort()
            return
        self.send(self.codec.write(DisconnectPacket(reason_code=code)))
        self._flush()
        transport.close()
        self._loop.call_later(_GOODBYE_S, transport.abort)

    def abort(self) -> None:
        """Cuts the connection without a word, as a crash would."""
        if self._transport is not None:
            self._transport.abort()

    # --- inside

    def _flush(self) -> None:
        self._flush_scheduled = False
        out = self._out
        if out and self._transport is not None:
            self._out = []
            self._sent = True
            self._transport.write(b"".join(out) if len(out) > 1 else out[0])

    def _read_packets(self, data: bytes) -> None:
        read, view, size, offset = self.codec.read, memoryview(data), len(data), 0
        try:
            offset = self._pass_by(size)
            while offset < size and self._reason is None:
                try:
                    packet, length = read(view[offset:])
                except IndexError:
                    self._keep(data[offset:])
                    return
                offset += length
                if not self.connack.done():
                    if self._welcome(packet):
                        self._held = data[offset:]
                    return
                if length > self._max_packet_size:
                    self._passed(data[offset - length : offset][:HEAD_BYTES])
                elif type(packet) is PublishPacket:
                    self._deliver(packet, self._on_message)
                else:
                    self._on_packet(self, packet)
        except ValueError as error:
            self._malformed(data[offset:], error)
        except BaseException as error:
            # The codec panics on text that is not UTF-8; its exception has no importable name and no Exception base.
            if type(error).__name__ != "PanicException":
                raise
            self._malformed(data[offset:], error)

    def _deliver(self, packet: PublishPacket, handler: OnMessage) -> None:
        acknowledge: Callable[[], None] = nothing_to_acknowledge
        if packet.qos is not _AT_MOST_ONCE:
            if packet.qos is _EXACTLY_ONCE or packet.packet_id is None:
                self.fail(
                    TransportError("the broker sent QoS 2, which was not subscribed"),
                    DisconnectReasonCode.QOS_NOT_SUPPORTED,
                )
                return
            self._unacknowledged.add(packet.packet_id)
            acknowledge = partial(self._acknowledge, packet.packet_id)
        try:
            handler(packet, acknowledge)
        except Exception:  # noqa: BLE001  (whatever it is, the connection goes on)
            _log.exception("the handler of a message on %s failed", packet.topic)

    def _acknowledge(self, packet_id: int) -> None:
        if packet_id in self._unacknowledged:
            self._unacknowledged.discard(packet_id)
            # A PUBACK that means success has the same four bytes in both versions.
            self.send(b"\x40\x02" + packet_id.to_bytes(2))

    def _welcome(self, packet: Packet) -> bool:
        """Takes the broker's answer to CONNECT. The owner needs a turn of the loop before it can take the rest."""
        if isinstance(packet, ConnAckPacket) and self._transport is not None:
            self._transport.pause_reading()
            self.connack.set_result(packet)
            return True
        self.fail(TransportError(f"the broker began with {type(packet).__name__}"), DisconnectReasonCode.PROTOCOL_ERROR)
        return False

    def _keep(self, rest: bytes) -> None:
        """Waits for the rest of a packet; of one that is too large for its beginning, then for its end."""
        size = packet_size(rest)
        wanted = size if size <= self._max_packet_size else min(size, HEAD_BYTES)
        if len(rest) < wanted or not size:
            self._parts = [rest]
            self._missing = max(wanted - len(rest), 1)
        else:
            self._oversize_head = rest[:HEAD_BYTES]
            self._skip = size - len(rest)

    def _pass_by(self, size: int) -> int:
        """How many of the ``size`` bytes that have come still belong to a packet that is too large."""
        skipped = min(self._skip, size)
        self._skip -= skipped
        if skipped and not self._skip:
            self._passed(self._oversize_head)
        return skipped

    def _passed(self, head: bytes) -> None:
        """A packet that is too large has passed, of which ``head`` was kept."""
        self._oversize_head = b""
        if not is_publish(head):
            _log.warning(
                "skipped a packet of %d bytes, at most %d are accepted", packet_size(head), self._max_packet_size
            )
            return
        whole, payload_bytes = shortened(head, has_properties=self.codec is MQTT5)
        packet, _ = self.codec.read(memoryview(whole))
        if not self.connack.done():
            self._welcome(packet)
        elif isinstance(packet, PublishPacket):
            self._deliver(packet, lambda packet, acknowledge: self._on_oversize(packet, payload_bytes, acknowledge))

    def _malformed(self, data: bytes, error: BaseException) -> None:
        if not self.connack.done() and (packet := read_old_form(data)) is not None:
            self._welcome(packet)
            return
        self.fail(
            TransportError(f"the peer does not speak MQTT {self.codec.version}: {error}"),
            DisconnectReasonCode.MALFORMED_PACKET,
        )

    def _tick(self, interval_s: float) -> None:
        if self._pinged and not self._received:
            self.fail(TransportError(f"the broker has been silent for {2 * interval_s:g} s"))
            return
        self._pinged = not (self._received and self._sent)
        self._received = self._sent = False
        if self._pinged:
            self.send(self.codec.write(PingReqPacket()))
        self._timer = self._loop.call_later(interval_s, self._tick, interval_s)
