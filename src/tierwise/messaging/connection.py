"""A connection to an MQTT broker that stays: it reconnects, subscribes again and keeps what was not acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from mqtt5 import (
    ConnAckPacket,
    DisconnectPacket,
    DisconnectReasonCode,
    PingRespPacket,
    PubAckPacket,
    PublishPacket,
    SubAckPacket,
    TopicFilter,
    UnsubAckPacket,
)

from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import BrokerError, TierwiseError, TransportError
from tierwise.messaging.codec import MQTT5
from tierwise.messaging.handshake import in_words, open_wire, where
from tierwise.messaging.outbox import Outbox, PublishProperties
from tierwise.messaging.subscriptions import Subscriptions, topic_filter
from tierwise.messaging.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqtt5 import Packet

    from tierwise.messaging.codec import Codec
    from tierwise.messaging.settings import MqttConnectionSettings
    from tierwise.messaging.wire import OnMessage, OnOversize

_log = logging.getLogger(__name__)

_STABLE_S = 5.0
"""A connection that held this long starts the back-off anew."""
_NO_LIMIT = 2**28
"""Bytes that no MQTT packet exceeds."""


class MqttConnection:
    """One client of one broker.

    ``on_message(packet, acknowledge)`` is called on the event loop for every message and must not block. A message of
    QoS 1 stays with the broker until ``acknowledge()`` is called (from the event loop, in any order); one that is
    never acknowledged occupies one place of ``receive_max``, and is delivered again after a reconnect where the broker
    keeps the session (``session_expiry_s``). What is published before ``acknowledge()`` also leaves before it.
    ``on_oversize(packet, payload_bytes, acknowledge)`` is called instead for a message that is larger than
    ``max_packet_size``: the payload of ``packet`` is only the beginning of what was sent, ``payload_bytes`` is its true
    size. Without it such messages are acknowledged and skipped, with a line in the log.
    ``on_state`` hears ``True`` when connected and subscribed, ``False`` when not any more.

    Use it as ``async with MqttConnection(...) as connection``, or call ``start`` and ``stop``.
    """

    def __init__(
        self,
        settings: MqttConnectionSettings,
        *,
        on_message: OnMessage | None = None,
        on_oversize: OnOversize | None = None,
        on_state: Callable[[bool], None] | None = None,
    ) -> None:
        self.settings = settings
        self.failure: TierwiseError | None = None
        """Why the connection has given up for good, if it has."""
        self._on_message = on_message or _ignore
        self._on_oversize = on_oversize or _skip
        self._on_state = on_state
        self._where = where(settings)
        self._codec: Codec | None = None
        self._known_codec: Codec | None = None
        """The version to begin with at the next connection."""
        self._outbox = Outbox(settings.max_queued)
        self._wire: Wire | None = None
        self._client_id = _new_client_id(self.settings.client_id_prefix)
        self._subscriptions = Subscriptions(self._outbox)
        self._connected = False
        self._changed = asyncio.Event()
        self._ended: TierwiseError | None = None
        self._task: asyncio.Task[None] | None = None
        self._ever_connected = False
        self._failed_tries = 0
        """To connect, since the last connection."""

    # --- life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begins to connect, and returns at once; with ``fail_fast`` when connected.

        Raises ``BrokerError`` or ``TransportError`` when ``fail_fast`` is set and the first try fails.
        """
        self._task = asyncio.create_task(self._run(), name=f"mqtt {self.settings.host}:{self.settings.port}")
        self._task.add_done_callback(self._crashed)
        if self.settings.fail_fast:
            await self.wait_connected()

    async def stop(self, *, drain_s: float = 5.0) -> None:
        """Waits up to ``drain_s`` until the broker has acknowledged everything, says goodbye and ends. No will is sent.

        Messages that are still unacknowledged then are told so through ``on_done``.
        """
        if self._wire is not None:
            with contextlib.suppress(TimeoutError):  # what is left then is told so below
                async with asyncio.timeout(drain_s):
                    await self._outbox.drained()
        wire, task = self._wire, self._task
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        if wire is not None and not wire.closed.done():
            await wire.leave()
        self._end(TransportError("the connection was stopped before the broker acknowledged the message"))

    def abort(self) -> None:
        """Cuts the network connection without a goodbye; the connection then reconnects like after any failure."""
        if self._wire is not None:
            self._wire.abort()

    @property
    def read_ns(self) -> int:
        """Instant at which the message that is being handled was read from the network, monotonic nanoseconds.

        Of a burst that came in one piece, every message has waited since then for those before it.
        """
        return monotonic_ns() if self._wire is None else self._wire.read_ns

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached right now and the subscriptions stand."""
        return self._connected

    @property
    def dropped(self) -> int:
        """Messages of QoS 0 that were lost because there was no connection, or it was stuck."""
        return self._outbox.dropped

    @property
    def protocol(self) -> str | None:
        """Version of MQTT that is spoken: ``5`` or ``3.1.1``; ``None`` before the first connection."""
        return self._codec and self._codec.version

    async def wait_connected(self, timeout_s: float | None = None) -> None:
        """Returns when connected. Raises what ended the connection, or ``TransportError`` after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._connected and self._ended is None:
                    await self._changed.wait()
        except TimeoutError as error:
            raise TransportError(f"no connection to {self._where} within {timeout_s:g} s") from error
        if self._ended is not None:
            raise self._ended

    async def wait_failed(self) -> None:
        """Returns when the connection is stopped; raises ``BrokerError`` when it gives up for good."""
        if self._task is not None:
            await asyncio.wait({self._task})
        if self.failure is not None:
            raise self.failure

    # --- messages out

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: Literal[0, 1] = 0,
        retain: bool = False,
        on_done: Callable[[TierwiseError | None], None] | None = None,
        **properties: Unpack[PublishProperties],
    ) -> None:
        """Publishes without waiting.

        QoS 0 goes out now or, without a connection, is lost and counted in ``dropped``. QoS 1 is kept and sent, again
        after a reconnect, until the broker acknowledges it. ``on_done(None)`` is called when the message was written
        (QoS 0) or acknowledged (QoS 1), ``on_done(error)`` when it is lost. Raises ``OverloadedError`` when
        ``max_queued`` messages wait already, ``PayloadTooLargeError`` and ``ConfigurationError`` (a topic that cannot
        be published to).
        """
        options: dict[str, Any] = {**properties, "retain": True} if retain else {**properties}
        self._outbox.publish(topic, payload, qos, options, on_done)

    async def publish_and_wait(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: Literal[0, 1] = 1,
        retain: bool = False,
        **properties: Unpack[PublishProperties],
    ) -> None:
        """Publishes and returns when the broker has acknowledged (QoS 1) or the message was written (QoS 0).

        Waits while the queue is full. Raises ``TransportError`` when the message is lost.
        """
        await self.wait_writable()
        done: asyncio.Future[TierwiseError | None] = asyncio.get_running_loop().create_future()

        def settle(error: TierwiseError | None) -> None:
            if not done.done():
                done.set_result(error)

        self.publish(topic, payload, qos=qos, retain=retain, on_done=settle, **properties)
        if error := await done:
            raise error

    async def wait_writable(self) -> None:
        """Returns when ``publish`` has room at QoS 1; for senders that would otherwise outrun the broker."""
        await self._outbox.room()

    # --- subscriptions

    async def subscribe(self, *filters: str | TopicFilter, qos: Literal[0, 1] = 1) -> None:
        """Subscribes now and after every reconnect. Without a connection it returns at once and is done on connecting.

        QoS 2 is not subscribed: the broker sends such messages at QoS 1. Raises ``BrokerError`` when it refuses.
        """
        await self._subscriptions.add(self._wire, [topic_filter(entry, qos) for entry in filters])

    async def unsubscribe(self, *patterns: str) -> None:
        """Ends subscriptions. Returns when the broker has confirmed, at once without a connection."""
        await self._subscriptions.remove(self._wire, list(patterns))

    # --- inside: connecting

    async def _run(self) -> None:
        loop, settings, attempt = asyncio.get_running_loop(), self.settings, 0
        while True:
            stood = False
            try:
                wire = await self._open()
                stood = True
                since = loop.time()
                await asyncio.wait({wire.closed})
                reason = wire.closed.result()
                attempt = 0 if loop.time() - since >= _STABLE_S else attempt
            except BrokerError as error:
                return self._give_up(error)
            except TransportError as error:
                if settings.fail_fast and not self._ever_connected:
                    return self._give_up(error)
                reason = error
                self._failed_tries += 1
            finally:
                self._lost()
            limit = min(settings.backoff_cap_s, settings.backoff_base_s * 2 ** min(attempt, 32))
            delay = random.uniform(0, limit)  # noqa: S311  (no secret, it spreads reconnects)
            attempt += 1
            # The loss of every connection that stood; of failed tries the first, the second, the fourth ...: a broker
            # that is away for a night does not fill the log.
            is_told = stood or attempt & (attempt - 1) == 0
            _log.log(
                logging.WARNING if is_told else logging.DEBUG,
                "%s; next try in %.1f s (failed tries so far: %d)",
                reason,
                delay,
                self._failed_tries,
            )
            await asyncio.sleep(delay)

    async def _open(self) -> Wire:
        """One try to connect and subscribe."""
        wire, connack, self._known_codec = await open_wire(
            self.settings,
            self._known_codec,
            self._client_id,
            self._make_wire,
            clean_start=not (self._ever_connected and self.settings.session_expiry_s and self._codec is MQTT5),
        )
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                await self._establish(wire, connack)
        except TimeoutError as error:
            wire.abort()
            raise TransportError(f"{self._where} did not confirm the subscriptions") from error
        except asyncio.CancelledError:
            await wire.leave()
            raise
        except BaseException:
            wire.abort()
            raise
        return wire

    def _make_wire(self, codec: Codec) -> Wire:
        return Wire(
            codec,
            self.settings.max_packet_size,
            on_message=self._on_message,
            on_oversize=self._on_oversize,
            on_packet=self._receive,
            on_writable=self._outbox.pump,
        )

    async def _establish(self, wire: Wire, connack: ConnAckPacket) -> None:
        same_session = connack.session_present and self._ever_connected
        self._wire, self._codec = wire, wire.codec
        self._outbox.attach(wire, connack.max_packet_size or _NO_LIMIT, same_session=same_session)
        wire.keep_alive(self.settings.keep_alive_s if connack.server_keep_alive is None else connack.server_keep_alive)
        wire.begin()
        await self._subscriptions.restore(wire, same_session=same_session)
        self._outbox.open(min(connack.receive_max, self.settings.max_inflight))
        self._ever_connected = True
        self._connected = True
        self._announce()
        after = f" after {self._failed_tries} failed tries" if self._failed_tries else ""
        self._failed_tries = 0
        _log.info("connected to %s (MQTT %s) as %s%s", self._where, self.protocol, self._client_id, after)
        self._tell(connected=True)

    def _tell(self, *, connected: bool) -> None:
        if self._on_state is not None:
            try:
                self._on_state(connected)
            except Exception:  # noqa: BLE001  (whatever it is, the connection goes on)
                _log.exception("the handler of the connection's state failed")

    def _lost(self) -> None:
        self._wire = None
        self._outbox.detach()
        if self.connected:
            self._connected = False
            self._tell(connected=False)

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _crashed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the connection to %s failed unexpectedly", self._where, exc_info=error)
            self._give_up(TransportError(f"the connection to {self._where} failed: {error!r}"))

    def _give_up(self, error: TierwiseError) -> None:
        _log.error("%s; giving up", error)
        self.failure = error
        self._end(error)

    def _end(self, error: TierwiseError) -> None:
        self._ended = error
        self._announce()
        self._lost()
        self._outbox.end(error)

    # --- inside: packets

    def _receive(self, wire: Wire, packet: Packet) -> None:
        match packet:
            case PubAckPacket():
                self._outbox.acknowledged(packet)
            case SubAckPacket() | UnsubAckPacket():
                self._subscriptions.answered(packet)
            case PingRespPacket():
                pass
            case DisconnectPacket():
                self._dismissed(wire, packet)
            case _:
                wire.fail(
                    TransportError(f"{self._where} sent an unexpected {type(packet).__name__}"),
                    DisconnectReasonCode.PROTOCOL_ERROR,
                )

    def _dismissed(self, wire: Wire, packet: DisconnectPacket) -> None:
        reason = packet.reason_str or in_words(packet.reason_code)
        if packet.reason_code is DisconnectReasonCode.SESSION_TAKEN_OVER:
            self._client_id = _new_client_id(self.settings.client_id_prefix)
        wire.fail(TransportError(f"{self._where} ended the connection: {reason}"))


def _new_client_id(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(8)}"


def _ignore(packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
    """For connections that only publish."""
    acknowledge()
    _log.debug("nobody listens to %s", packet.topic)


def _skip(packet: PublishPacket, payload_bytes: int, acknowledge: Callable[[], None]) -> None:
    """For connections that do not care about messages that are too large."""
    acknowledge()
    _log.warning("skipped a message to %s with a payload of %d bytes, which is too large", packet.topic, payload_bytes)
