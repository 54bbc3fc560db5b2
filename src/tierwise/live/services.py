"""The services of a demonstration as processes of their own, and their status as they publish it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tierwise.live.processes import child_process
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.topics import status_topic
from tierwise.serving.settings import LimitSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from mqtt5 import PublishPacket

    from tierwise.live.processes import Child
    from tierwise.messaging.settings import MqttConnectionSettings

START_TIMEOUT_S = 120.0
"""A cold start imports PyTorch, on a small machine from a slow disk."""
STOP_TIMEOUT_S = LimitSettings().drain_s + 8.0
"""A service that stops finishes its requests, takes some six seconds more at most, and says that it has stopped."""

_OURS = ("TIERWISE_", "MODEL_PATH", "MQTT_BROKER_")
_CREDENTIALS = ("TIERWISE_MQTT_USERNAME", "TIERWISE_MQTT_PASSWORD_FILE", "TIERWISE_MQTT_TLS", "TIERWISE_MQTT_CA_FILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One service: which model folder it serves, with which runtime, on which topic."""

    tier: str
    service_id: str
    model: Path
    runtime: str
    topic: str
    latency_ms: float = 0.0
    """One-way delay to configure; 0 for none."""

    def command(self, broker: str, protocol: str) -> list[str]:
        """The command that starts it against the broker at HOST:PORT, which speaks that version of MQTT."""
        return [
            sys.executable, "-m", "tierwise", "cloud" if self.tier == "cloud" else "serve",
            "--tier", self.tier, "--service-id", self.service_id, "--model", str(self.model), "--runtime", self.runtime,
            "--mqtt", broker, "--mqtt-protocol", protocol, "--http", "off", "--request-topic", self.topic,
            "--latency-ms", f"{self.latency_ms:g}",
        ]  # fmt: skip


@contextlib.asynccontextmanager
async def started(spec: ServiceSpec, broker: str, *, is_shared: bool, protocol: str = "auto") -> AsyncIterator[Child]:
    """Runs a service for the length of the block; it may not be ready yet.

    Settings of services in this process's environment are not meant for it, but the credentials are, where the broker
    is the user's own. What it says goes to the log.
    """
    kept = _CREDENTIALS if is_shared else ()
    # An empty variable counts as not set.
    hidden = {name: "" for name in os.environ if name.startswith(_OURS) and name not in kept}
    log = logging.getLogger(f"{__name__}.{spec.tier}")
    command = spec.command(broker, protocol)
    async with child_process(
        command, name=f"{spec.tier} service", env=hidden, on_line=log.info, grace_s=STOP_TIMEOUT_S
    ) as child:
        yield child


class StatusWatch:
    """Hears the retained status of services. Use it as ``async with``; entering connects.

    ``is_shared``: the broker outlives us, so leaving removes the services' retained status from it.
    """

    def __init__(self, settings: MqttConnectionSettings, service_ids: list[str], *, is_shared: bool) -> None:
        self._topics = {status_topic(service_id): service_id for service_id in service_ids}
        self._status: dict[str, str] = {}
        self._is_shared = is_shared
        self.connection = MqttConnection(settings, on_message=self._on_message)

    async def __aenter__(self) -> Self:
        """Raises ``BrokerError`` or ``TransportError`` where the broker is out of reach."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.connection)
            await self.connection.wait_connected(self.connection.settings.connect_timeout_s)
            await self.connection.subscribe(*self._topics)
            stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._is_shared and self.connection.connected:
            for topic in self._topics:
                self.connection.publish(topic, b"", qos=1, retain=True)
        await self.connection.stop()

    async def is_online(self, service_id: str) -> bool:
        """Whether the service says that it answers."""
        return self._status.get(service_id) == "online"

    def _on_message(self, packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        acknowledge()
        service_id = self._topics.get(packet.topic)
        if service_id is not None:
            self._status[service_id] = packet.payload.decode(errors="replace")
