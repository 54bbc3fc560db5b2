"""A running service: loads the model, opens its transports, logs its figures, and stops without losing a request."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
from typing import TYPE_CHECKING, Any, Self

import uvloop

from tierwise.core.background import in_background
from tierwise.serving.dataplane import DataPlane
from tierwise.serving.delay import Delay
from tierwise.serving.health import Health
from tierwise.serving.http import http_app
from tierwise.serving.http_server import HttpServer, listen
from tierwise.serving.influx import InfluxWriter
from tierwise.serving.metrics import HTTP_CONNECTIONS, MQTT_CONNECTED, QUEUE_LIMIT, ServiceMetrics
from tierwise.serving.model import load_model
from tierwise.serving.mqtt import MqttTransport
from tierwise.serving.predict import PredictEndpoint
from tierwise.serving.settings import OFF
from tierwise.serving.stats import Stats
from tierwise.serving.tracing import Tracer
from tierwise.serving.watchdog import watchdog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from tierwise.serving.model import ServedModel
    from tierwise.serving.otlp import SpanExport
    from tierwise.serving.settings import Endpoint, ServiceSettings

log = logging.getLogger("tierwise.service")


class Service:
    """One model behind its transports.

    ``async with`` opens and closes it; ``serve_until`` does both around an event. The model is loaded and warm before.
    """

    def __init__(self, settings: ServiceSettings, model: ServedModel) -> None:
        self.settings = settings
        self.service_id = settings.service_id or own_id(settings.tier)
        delay = settings.delay
        limits = settings.limits
        self.plane = DataPlane(
            model,
            tier=settings.tier,
            queue_size=limits.queue_size,
            inline=model.warm_s * 1e3 < limits.inline_below_ms,
            delay=Delay(delay) if delay.latency_ms or delay.jitter_ms else None,
        )
        self.stats = Stats()
        self.metrics = ServiceMetrics(settings.tier, self.stats.add)
        self.metrics.watch(QUEUE_LIMIT, lambda: limits.queue_size)
        self.influx = (
            InfluxWriter(settings.influx, self.metrics, service_id=self.service_id)
            if settings.influx.url != OFF
            else None
        )
        self._spans = open_span_export(settings, self.service_id)
        self._tracer = Tracer(settings.tracing.ratio, self._spans)
        self.health = Health(self.plane, service_id=self.service_id, http=settings.http.endpoint is not None)
        self.mqtt: MqttTransport | None = None
        self.http_endpoint: Endpoint | None = None
        self._http: HttpServer | None = None
        self._serving_http: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Opens the transports; all or none of them. Raises ``ConfigurationError`` where the address is taken."""
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def _open(self) -> None:
        settings, model = self.settings, self.plane.model
        if settings.http.endpoint is not None:
            listener = listen(settings.http.endpoint)
            self.http_endpoint = settings.http.endpoint._replace(port=listener.getsockname()[1])
            predict = PredictEndpoint(
                self.plane,
                self.metrics.meter(model.name, model.version, "http"),
                self._tracer,
            )
            app = http_app(metrics=self.metrics, health=self.health)
            limits = settings.limits
            self._http = HttpServer(
                app, predict, max_payload_bytes=limits.max_payload_bytes, max_connections=limits.max_connections
            )
            connections = self._http.server_state.connections
            self.metrics.watch(HTTP_CONNECTIONS, lambda: len(connections))
            self._serving_http = in_background(self._http.serve(sockets=[listener]), "HTTP")
        if settings.mqtt.endpoint is not None:
            self.mqtt = MqttTransport(
                self.plane,
                settings.mqtt,
                service_id=self.service_id,
                metrics=self.metrics,
                health=self.health,
                tracer=self._tracer,
                queue_size=settings.limits.queue_size,
                max_payload_bytes=settings.limits.max_payload_bytes,
            )
            self.metrics.watch(MQTT_CONNECTED, lambda: bool(self.health.mqtt_connected))
            await self.mqtt.start()
        if self.influx is not None:
            await self.influx.__aenter__()
        if settings.log.stats_interval_s:
            self._tasks.append(in_background(self._log_stats(settings.log.stats_interval_s), "statistics"))
        log.info(
            "serving",
            extra={
                "service_id": self.service_id,
                "tier": settings.tier,
                "model": model.name,
                "model_version": model.version,
                "runtime": model.runtime.name,
                "execution": "inline" if self.plane.inline else "thread",
                "warm_inference_ms": round(model.warm_s * 1e3, 4),
                "request_topic": self.mqtt.request_topic if self.mqtt else None,
                "broker": str(settings.mqtt.endpoint) if self.mqtt else None,
                "http": str(self.http_endpoint) if self.http_endpoint else None,
                "delay_ms_one_way": settings.delay.latency_ms or None,
            },
        )

    async def __aexit__(self, *_: object) -> None:
        """Stops accepting, finishes what is under way, says ``stopped``, closes.

        Takes ``drain_s`` and some six seconds more at most, whoever does not answer.
        """
        log.info("stopping", extra={"requests_in_progress": self.plane.pending})
        if self.mqtt is not None:
            await self.mqtt.stop_accepting()
        unfinished = await self.plane.drain(self.settings.limits.drain_s)
        if unfinished:
            log.warning("gave up on requests", extra={"requests": unfinished, "after_s": self.settings.limits.drain_s})
        await self._close()
        self._log_figures()
        log.info("stopped")

    async def _close(self) -> None:
        # Side by side: each waits for somebody else, and nobody may use up the time of the others.
        closings = await asyncio.gather(*self._closings(), return_exceptions=True)
        for error in filter(None, closings):
            log.error("closing failed", exc_info=error)
        self.plane.close()

    def _closings(self) -> Iterator[Awaitable[None]]:
        """What remains to be done once nothing is under way any more. Each takes some three seconds at most."""
        for task in self._tasks:
            task.cancel()
        if self.mqtt is not None:
            yield self.mqtt.stop()
        if self._http is not None and self._serving_http is not None:
            self._http.should_exit = True
            yield self._serving_http
        if self.influx is not None:
            yield self.influx.__aexit__()
        if self._spans is not None:
            yield asyncio.to_thread(self._spans.close)

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Opens the service, runs ``until`` and closes it."""
        async with self:
            await self.until(stop)

    async def until(self, stop: asyncio.Event) -> None:
        """Returns when ``stop`` is set. Raises ``BrokerError`` where the broker refuses this client for good."""
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait())]
        if self.mqtt is not None:
            waiting.append(asyncio.create_task(self.mqtt.connection.wait_failed()))
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()

    async def _log_stats(self, interval_s: float) -> None:
        due = asyncio.get_running_loop().time()
        while True:
            due += interval_s
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            self._log_figures()

    def _log_figures(self) -> None:
        self.metrics.count()
        log.info("stats", extra={"model": self.plane.model.name, **self.stats.take()})


def own_id(tier: str) -> str:
    """A name that no other service has. Not by the process id: that of containers on one host's network is mostly 1."""
    return f"{tier}-{socket.gethostname().split('.')[0]}-{secrets.token_hex(4)}"


def open_span_export(settings: ServiceSettings, service_id: str) -> SpanExport | None:
    """Where spans go, if anywhere. Raises ``DependencyError`` where OpenTelemetry is asked for and not installed."""
    if settings.tracing.otlp == OFF:
        return None
    # OpenTelemetry is optional, and takes longer to import than everything else here.
    from tierwise.serving.otlp import SpanExport  # noqa: PLC0415

    return SpanExport(settings.tracing.otlp, service_id=service_id, tier=settings.tier)


def run_service(settings: ServiceSettings) -> None:
    """Loads the model and serves until SIGTERM or SIGINT. Raises a ``ModelError`` at once for an unusable model."""
    model = load_model(settings.model, tier=settings.tier)

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        with watchdog(settings.limits.hang_s):
            await Service(settings, model).serve_until(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
