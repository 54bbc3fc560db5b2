"""The MQTT transport: requests in, results and errors out, status, and acknowledgement after the answer."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Literal

from mqtt5 import QoS

from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import (
    BrokerError,
    ConfigurationError,
    InferenceError,
    PayloadTooLargeError,
    TierwiseError,
    TransportError,
)
from tierwise.core.messages import Answer
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.payloads import RAW_CONTENT_TYPE, decode_raw_request, decode_request
from tierwise.messaging.settings import MqttConnectionSettings, Will
from tierwise.messaging.topics import shared, status_topic
from tierwise.serving import traceparent
from tierwise.serving.mqtt_answers import error_message, may_answer_on, result_message, sender_of, user_properties

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from mqtt5 import PublishPacket

    from tierwise.messaging.payloads import DeviceRequest
    from tierwise.serving.dataplane import DataPlane
    from tierwise.serving.health import Health
    from tierwise.serving.metrics import ServiceMetrics
    from tierwise.serving.mqtt_answers import Outgoing, Sender
    from tierwise.serving.settings import Endpoint, MqttSettings
    from tierwise.serving.tracing import Tracer

GOODBYE_S = 3.0
"""How long a stopping service waits for each answer of the broker."""

SESSION_EXPIRY_S = 60
"""How long the broker keeps requests for a service that has lost its connection."""

HEADER_BYTES = 65_536
"""Room for topic and properties of the largest request that is read."""


log = logging.getLogger("tierwise.mqtt")


class MqttTransport:
    """Answers what arrives on the request topic."""

    def __init__(
        self,
        plane: DataPlane,
        settings: MqttSettings,
        *,
        service_id: str,
        metrics: ServiceMetrics,
        health: Health,
        tracer: Tracer,
        queue_size: int,
        max_payload_bytes: int,
    ) -> None:
        if settings.endpoint is None:
            raise ConfigurationError("the MQTT transport needs a broker: --mqtt HOST:PORT")
        self._plane = plane
        self._tracer = tracer
        self._health = health
        self._max_payload_bytes = max_payload_bytes
        self._meter = metrics.meter(plane.model.name, plane.model.version, "mqtt")
        self._status_topic = status_topic(service_id)
        self.request_topic = settings.request_topic
        self._filter = (
            shared(settings.request_topic, settings.share_group) if settings.share_group else settings.request_topic
        )
        health.mqtt_connected = False
        self.connection = MqttConnection(
            connection_settings(
                settings,
                settings.endpoint,
                service_id=service_id,
                receive_max=queue_size,
                max_payload_bytes=max_payload_bytes,
            ),
            on_message=self._on_message,
            on_oversize=self._on_request,
            on_state=self._on_state,
        )

    async def start(self) -> None:
        """Connects in the background and subscribes, now and after every reconnect."""
        await self.connection.subscribe(self._filter)
        await self.connection.start()

    def _on_state(self, connected: bool) -> None:  # noqa: FBT001 -- the connection's callback
        self._health.mqtt_connected = connected
        if connected:
            self.connection.publish(self._status_topic, b"online", qos=1, retain=True)

    async def stop_accepting(self) -> None:
        """Ends the subscription: the broker gives further requests to others, or keeps them."""
        await _in_time(self.connection.unsubscribe(self._filter), "ending the subscription")

    async def stop(self) -> None:
        """Says ``stopped`` and disconnects. Call it when nothing is under way any more."""
        loop = asyncio.get_running_loop()
        until = loop.time() + GOODBYE_S
        if self.connection.connected:
            await _in_time(
                self.connection.publish_and_wait(self._status_topic, b"stopped", retain=True), "saying stopped"
            )
        await self.connection.stop(drain_s=max(0.0, until - loop.time()))

    def _on_message(self, packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        self._on_request(packet, len(packet.payload), acknowledge)

    def _on_request(self, packet: PublishPacket, payload_bytes: int, acknowledge: Callable[[], None]) -> None:
        """Takes a request. Of one that is far too large ``packet`` has only the beginning of the payload."""
        if packet.topic != self.request_topic:
            acknowledge()  # amqtt gives every subscriber all retained messages
            log.debug("not asked for", extra={"topic": packet.topic})
            return
        received_ns = self.connection.read_ns
        device: DeviceRequest | None = None
        properties = dict(packet.user_properties) if packet.user_properties else {}
        trace = self._tracer.begin(properties.get(traceparent.HEADER))

        def reply(outcome: Answer | TierwiseError) -> None:
            told = user_properties(properties, outcome, trace)
            sender = sender_of(packet, properties, device)
            if device is not None and isinstance(outcome, Answer):
                message = result_message(device, outcome, told)
            else:
                message = error_message(sender, _as_error(outcome), told)
            code = self._publish(packet, sender, message, acknowledge)
            self._meter.finished(code, monotonic_ns() - received_ns, payload_bytes, len(message.payload))
            if trace is not None:
                self._tracer.finish(trace, self._meter, code, received_ns, outcome)

        try:
            if payload_bytes > self._max_payload_bytes:
                limit = f"the limit is {self._max_payload_bytes} (--max-payload-bytes)"
                raise PayloadTooLargeError(f"the request has {payload_bytes} bytes, {limit}")
            if payload_bytes > len(packet.payload):
                raise PayloadTooLargeError(f"topic and properties have more than {HEADER_BYTES} bytes")
            if packet.content_type == RAW_CONTENT_TYPE:
                device = decode_raw_request(packet.payload, packet.user_properties, received_ns=received_ns)
            else:
                device = decode_request(packet.payload, received_ns=received_ns)
        except TierwiseError as error:
            reply(error)
            return
        request = device.request
        if packet.message_expiry_interval is not None:
            expires_ns = received_ns + packet.message_expiry_interval * 1_000_000_000
            request.deadline_ns = expires_ns if request.deadline_ns is None else min(expires_ns, request.deadline_ns)
        self._plane.submit(request, self._meter, reply)

    def _publish(
        self, packet: PublishPacket, sender: Sender, message: Outgoing, acknowledge: Callable[[], None]
    ) -> str:
        """Publishes an answer, and acknowledges its request once the broker has it. Returns the outcome's code.

        A request whose answer cannot be handed over (the broker is away and too much waits for it) stays
        unacknowledged: the broker keeps it and delivers it again.
        """
        topics: list[tuple[str, bytes | None]] = [(message.topic, None)]
        if packet.response_topic is not None and may_answer_on(packet.response_topic):
            topics.append((packet.response_topic, packet.correlation_data))
        qos: Literal[0, 1] = 0 if packet.qos is QoS.AT_MOST_ONCE else 1
        left = len(topics)

        def handed_over(error: TierwiseError | None) -> None:
            nonlocal left
            # What the broker refuses it would refuse again, and the request would occupy its place for ever.
            refused = isinstance(error, BrokerError | PayloadTooLargeError)
            if refused:
                log.warning("answer refused", extra={"topic": message.topic, "reason": str(error)})
            left -= error is None or refused
            if not left:
                acknowledge()

        try:
            for topic, correlation_data in topics:
                self.connection.publish(
                    topic,
                    message.payload,
                    qos=qos,
                    on_done=handed_over if qos else None,
                    user_properties=message.user_properties,
                    correlation_data=correlation_data,
                )
        except PayloadTooLargeError as error:
            log.warning("answer too large for the broker", extra={"topic": message.topic, "reason": str(error)})
            return self._publish(packet, sender, error_message(sender, error, []), acknowledge)
        except TierwiseError as error:
            log.warning("answer not published", extra={"topic": message.topic, "reason": str(error)})
            return error.code
        return message.code


def _as_error(outcome: Answer | TierwiseError) -> TierwiseError:
    return outcome if isinstance(outcome, TierwiseError) else InferenceError("an answer without a device")


async def _in_time(goodbye: Awaitable[None], what: str) -> None:
    """Gives a broker that does not answer a moment, and no more: the service stops all the same."""
    try:
        async with asyncio.timeout(GOODBYE_S):
            await goodbye
    except (TimeoutError, TransportError) as error:
        log.warning("the broker did not answer", extra={"to": what, "reason": str(error) or f"within {GOODBYE_S:g} s"})


def connection_settings(
    settings: MqttSettings, endpoint: Endpoint, *, service_id: str, receive_max: int, max_payload_bytes: int
) -> MqttConnectionSettings:
    """The connection of a service: its will says ``offline``. Raises ``ConfigurationError`` for unreadable files."""
    password = None if settings.password_file is None else _secret(settings.password_file)
    context = None
    if settings.tls or settings.ca_file is not None:
        try:
            context = ssl.create_default_context(cafile=settings.ca_file)
        except OSError as error:  # also what ssl raises for a file that holds no certificate
            raise ConfigurationError(f"cannot read {settings.ca_file} (--mqtt-ca-file): {error}") from error
    return MqttConnectionSettings(
        host=endpoint.host,
        port=endpoint.port,
        client_id_prefix=f"tierwise-{service_id}",
        # A request that was delivered but not answered when the connection broke is delivered again. Not in a group:
        # there the broker would keep giving requests to a member that is gone.
        session_expiry_s=0 if settings.share_group else SESSION_EXPIRY_S,
        max_packet_size=max_payload_bytes + HEADER_BYTES,
        username=settings.username,
        password=password,
        tls=context,
        receive_max=min(receive_max, 65535),
        will=Will(status_topic(service_id), b"offline"),
    )


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path} (--mqtt-password-file): {error}") from error
