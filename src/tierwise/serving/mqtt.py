"""The MQTT transport: requests in, results and errors out, status, and acknowledgement after the answer."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import ConfigurationError, TierwiseError
from tierwise.messaging.answers import (
    HEADER_BYTES,
    SESSION_EXPIRY_S,
    answer_message,
    publish_answer,
    read_request,
    sender_of,
    user_properties,
)
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.settings import MqttConnectionSettings
from tierwise.messaging.status import in_time, leave, offline_will, say_online
from tierwise.messaging.topics import TRACEPARENT, shared
from tierwise.serving.metrics import OK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mqtt5 import PublishPacket

    from tierwise.core.messages import Answer
    from tierwise.messaging.payloads import DeviceRequest
    from tierwise.serving.dataplane import DataPlane
    from tierwise.serving.health import Health
    from tierwise.serving.metrics import ServiceMetrics
    from tierwise.serving.settings import Endpoint, MqttSettings
    from tierwise.serving.tracing import Tracer

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
        self._service_id = service_id
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
            say_online(self.connection, self._service_id)

    async def stop_accepting(self) -> None:
        """Ends the subscription: the broker gives further requests to others, or keeps them."""
        await in_time(self.connection.unsubscribe(self._filter), "ending the subscription")

    async def stop(self) -> None:
        """Says ``stopped`` and disconnects. Call it when nothing is under way any more."""
        await leave(self.connection, self._service_id)

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
        trace = self._tracer.begin(properties.get(TRACEPARENT))

        def reply(outcome: Answer | TierwiseError) -> None:
            told = user_properties(properties, outcome, None if trace is None else trace.traceparent)
            sender = sender_of(packet, properties, device)
            message = answer_message(sender, outcome, told)
            failure = publish_answer(self.connection, packet, sender, message, acknowledge)
            code = OK if failure is None else failure.code
            self._meter.finished(code, monotonic_ns() - received_ns, payload_bytes, len(message.payload))
            if trace is not None:
                self._tracer.finish(trace, self._meter, code, received_ns, outcome)

        try:
            device = read_request(
                packet, payload_bytes, received_ns=received_ns, max_payload_bytes=self._max_payload_bytes
            )
        except TierwiseError as error:
            reply(error)
            return
        self._plane.submit(device.request, self._meter, reply)


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
        protocol=settings.protocol,
        client_id_prefix=f"tierwise-{service_id}",
        # A request that was delivered but not answered when the connection broke is delivered again. Not in a group:
        # there the broker would keep giving requests to a member that is gone.
        session_expiry_s=0 if settings.share_group else SESSION_EXPIRY_S,
        max_packet_size=max_payload_bytes + HEADER_BYTES,
        username=settings.username,
        password=password,
        tls=context,
        receive_max=min(receive_max, 65535),
        will=offline_will(service_id),
    )


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path} (--mqtt-password-file): {error}") from error
