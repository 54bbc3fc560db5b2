"""The MQTT transport: requests in, results and errors out, status, and acknowledgement after the answer."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Literal

from mqtt5 import QoS

from tierwise.core.clocks import epoch_us, monotonic_ns
from tierwise.core.errors import ConfigurationError, InferenceError, PayloadTooLargeError, TierwiseError, TransportError
from tierwise.core.messages import Answer
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.payloads import (
    RAW_CONTENT_TYPE,
    decode_raw_request,
    decode_request,
    encode_error,
    encode_result,
    salvage_ids,
)
from tierwise.messaging.settings import MqttConnectionSettings, Will
from tierwise.messaging.topics import error_topic, is_device_id, is_topic_name, result_topic, shared, status_topic
from tierwise.serving import traceparent
from tierwise.serving.metrics import OK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mqtt5 import PublishPacket

    from tierwise.messaging.payloads import DeviceRequest
    from tierwise.serving.dataplane import DataPlane
    from tierwise.serving.health import Health
    from tierwise.serving.metrics import ServiceMetrics
    from tierwise.serving.settings import Endpoint, MqttSettings
    from tierwise.serving.traceparent import TraceContext
    from tierwise.serving.tracing import Tracer

TIMING = "tierwise-timing"
"""A request with this user property gets ``arrived_us``, ``started_us`` and ``finished_us`` with its answer."""

GOODBYE_S = 3.0
"""How long a stopping service waits for each answer of the broker."""

SESSION_EXPIRY_S = 60
"""How long the broker keeps requests for a service that has lost its connection."""

_LONGEST_TIMESTAMP = 19

HEADER_BYTES = 65_536
"""Room for topic and properties of the largest request: the payload limit is told by our error, not by the broker."""


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
        if self.connection.connected:
            await _in_time(
                self.connection.publish_and_wait(self._status_topic, b"stopped", retain=True), "saying stopped"
            )
        await self.connection.stop(drain_s=GOODBYE_S)

    def _on_message(self, packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        received_ns = monotonic_ns()
        device: DeviceRequest | None = None
        properties = dict(packet.user_properties) if packet.user_properties else {}
        trace = self._tracer.begin(properties.get(traceparent.HEADER))

        def reply(outcome: Answer | TierwiseError) -> None:
            self._reply(packet, properties, device, outcome, received_ns=received_ns, trace=trace)
            acknowledge()

        try:
            if len(packet.payload) > self._max_payload_bytes:
                size, limit = len(packet.payload), self._max_payload_bytes
                raise PayloadTooLargeError(f"the request has {size} bytes, the limit is {limit} (--max-payload-bytes)")
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

    def _reply(
        self,
        packet: PublishPacket,
        properties: dict[str, str],
        device: DeviceRequest | None,
        outcome: Answer | TierwiseError,
        *,
        received_ns: int,
        trace: TraceContext | None,
    ) -> None:
        code, topic, payload = _encode(packet, properties, device, outcome)
        qos: Literal[0, 1] = 0 if packet.qos is QoS.AT_MOST_ONCE else 1
        told = _user_properties(properties, outcome, trace)
        try:
            self.connection.publish(topic, payload, qos=qos, user_properties=told)
            if packet.response_topic and is_topic_name(packet.response_topic):
                self.connection.publish(
                    packet.response_topic,
                    payload,
                    qos=qos,
                    user_properties=told,
                    correlation_data=packet.correlation_data,
                )
        except TierwiseError as error:
            log.warning("answer not published", extra={"topic": topic, "reason": str(error)})
            code = error.code
        self._meter.finished(code, monotonic_ns() - received_ns, len(packet.payload), len(payload))
        if trace is not None:
            self._tracer.finish(trace, self._meter, code, received_ns, outcome)


async def _in_time(goodbye: Awaitable[None], what: str) -> None:
    """Gives a broker that does not answer a moment, and no more: the service stops all the same."""
    try:
        async with asyncio.timeout(GOODBYE_S):
            await goodbye
    except (TimeoutError, TransportError) as error:
        log.warning("the broker did not answer", extra={"to": what, "reason": str(error) or f"within {GOODBYE_S:g} s"})


def _encode(
    packet: PublishPacket, properties: dict[str, str], device: DeviceRequest | None, outcome: Answer | TierwiseError
) -> tuple[str, str, bytes]:
    """Outcome code, topic and payload. An answer that JSON cannot carry becomes an error."""
    if isinstance(outcome, Answer) and device is not None:
        try:
            payload = encode_result(device.device_id, device.timestamp_us, outcome)
        except TierwiseError as unfit:
            outcome = unfit
        else:
            return OK, result_topic(device.device_id), payload
    error = outcome if isinstance(outcome, TierwiseError) else InferenceError("an answer without a device")
    topic, payload = _error(packet, properties, device, error)
    return error.code, topic, payload


def _error(
    packet: PublishPacket, properties: dict[str, str], device: DeviceRequest | None, error: TierwiseError
) -> tuple[str, bytes]:
    if device is not None:
        return error_topic(device.device_id), encode_error(
            device.device_id, device.timestamp_us, error, request_id=device.request.request_id
        )
    if packet.content_type == RAW_CONTENT_TYPE:
        device_id, timestamp_us = _ids_of(properties)
    else:
        device_id, timestamp_us = salvage_ids(packet.payload)
    return error_topic(device_id), encode_error(device_id, timestamp_us, error)


def _ids_of(properties: dict[str, str]) -> tuple[str | None, int | None]:
    """What ``salvage_ids`` finds in a payload, from the user properties of a raw request."""
    device_id, timestamp_us = properties.get("device_id", ""), properties.get("timestamp_us", "")
    is_number = timestamp_us.removeprefix("-").isdecimal() and len(timestamp_us) <= _LONGEST_TIMESTAMP
    return device_id if is_device_id(device_id) else None, int(timestamp_us) if is_number else None


def _user_properties(
    asked: dict[str, str], outcome: Answer | TierwiseError, trace: TraceContext | None
) -> list[tuple[str, str]]:
    """Passes the trace context on, and the instants to whoever asked for them."""
    told = [] if trace is None else [(traceparent.HEADER, trace.traceparent)]
    if TIMING in asked and isinstance(outcome, Answer):
        instants = {
            "arrived_us": outcome.received_ns,
            "started_us": outcome.started_ns,
            "finished_us": outcome.finished_ns,
        }
        told += [(name, str(epoch_us(at_ns))) for name, at_ns in instants.items()]
    return told


def connection_settings(
    settings: MqttSettings, endpoint: Endpoint, *, service_id: str, receive_max: int, max_payload_bytes: int
) -> MqttConnectionSettings:
    """The connection of a service: its will says ``offline``. Raises ``ConfigurationError`` for unreadable files."""
    password = None
    context = None
    try:
        if settings.password_file is not None:
            password = settings.password_file.read_text(encoding="utf-8").strip()
        if settings.tls or settings.ca_file is not None:
            context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {settings.password_file or settings.ca_file}: {error}") from error
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
