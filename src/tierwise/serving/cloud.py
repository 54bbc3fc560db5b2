"""The cloud tier as a Python class: the same data plane with PyTorch, behind a simulated network."""

from __future__ import annotations

import asyncio
import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import uvloop

from tierwise.core.errors import BrokerError, ConfigurationError, TierwiseError, TransportError
from tierwise.serving.model import ServedModel, load_model
from tierwise.serving.service import Service
from tierwise.serving.settings import (
    DelaySettings,
    Endpoint,
    HttpSettings,
    ModelSettings,
    MqttSettings,
    ServiceSettings,
    check,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from tierwise.core.messages import Prediction

CONNECT_TIMEOUT_S = 10.0


class CloudMLService:
    """Answers inference requests on MQTT with a PyTorch model and a simulated network delay.

    ::

        with CloudMLService("models/anomaly-detector/model.pt", cloud_latency_ms=50) as service:
            service.run()  # until stop() is called from another thread, or Ctrl-C

    ``cloud_latency_ms`` is the one-way delay; an answer says ``cloud_latency_ms`` for both ways and
    ``total_latency_ms`` with the time in the service. Requests wait independently of one another: a hundred at once
    are answered after little more than one round trip. The service works on a thread of its own from
    ``connect_mqtt`` on.
    """

    def __init__(
        self,
        model_path: str | Path,
        broker_host: str = "localhost",
        broker_port: int = 1883,
        cloud_latency_ms: float = 50,
        *,
        jitter_ms: float = 0.0,
        request_topic: str = "ml/inference/request",
        trust_pickle: bool = False,
    ) -> None:
        """Raises ``ConfigurationError`` for values that no service can run with."""
        self.settings = ServiceSettings(
            model=ModelSettings(path=Path(model_path), trust_pickle=trust_pickle),
            tier="cloud",
            mqtt=MqttSettings(endpoint=Endpoint(broker_host, broker_port), request_topic=request_topic),
            http=HttpSettings(endpoint=None),
            delay=DelaySettings(latency_ms=cloud_latency_ms, jitter_ms=jitter_ms),
        )
        check(self.settings)
        self.model: ServedModel | None = None
        self._thread: threading.Thread | None = None
        self._ask_to_stop: Callable[[], object] | None = None
        self._stop_asked = threading.Event()
        self._stopped = threading.Event()
        self._failure: TierwiseError | None = None

    def load_model(self) -> None:
        """Loads and warms the model. Raises a ``ModelError`` that says what is wrong with the file."""
        if self.model is None:
            self.model = load_model(self.settings.model, tier="cloud")

    def run_inference(self, features: ArrayLike) -> Prediction:
        """The model's prediction for one sample or a batch, without network and delay.

        ``features`` is numeric, flat or in the model's shape. Returns a number where the model yields one value, else
        a list; for a batch one entry a sample. Raises ``InvalidInputError`` where the features do not fit. Call it
        before ``connect_mqtt`` or from the thread that answers: a model runs one call at a time.
        """
        self.load_model()
        if self.model is None:
            raise ConfigurationError("the model is not loaded: call load_model()")
        array = np.asarray(features)
        inputs, is_batch = self.model.adapt(array)
        return self.model.predictions(self.model.run(inputs), is_batch=is_batch)[0]

    def connect_mqtt(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connects, subscribes, and from then on answers. Raises ``BrokerError`` where the broker is out of reach."""
        self.load_model()
        if self._thread is not None:
            return
        self._failure = None
        self._stopped.clear()
        self._stop_asked.clear()
        connected = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(connected,), name="cloud-service", daemon=True)
        self._thread.start()
        connected.wait(timeout_s)
        if connected.is_set() and not self._stopped.is_set():
            return
        self.stop()
        raise self._ended_by() or BrokerError(
            f"no broker answered at {self.settings.mqtt.endpoint} within {timeout_s:g} s"
        )

    def _ended_by(self) -> TierwiseError | None:
        """What ended the thread, if not ``stop``."""
        return self._failure

    def _work(self, connected: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(connected))
        except TierwiseError as error:
            self._failure = error
        except BaseException as error:  # noqa: BLE001 -- told to the thread that waits in connect_mqtt or run
            self._failure = TransportError(f"the cloud service ended: {type(error).__name__}: {error}")
        finally:
            self.model = None  # the service has closed it
            self._stopped.set()
            connected.set()

    async def _serve(self, connected: threading.Event) -> None:
        if self.model is None:
            raise ConfigurationError("the model is not loaded: call load_model()")
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        self._ask_to_stop = functools.partial(loop.call_soon_threadsafe, stop.set)
        if self._stop_asked.is_set():
            return
        async with Service(self.settings, self.model) as service:
            telling = asyncio.create_task(_tell_when_connected(service, connected))
            try:
                await service.until(stop)
            finally:
                self._ask_to_stop = None
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)  # what it fails with, ``until`` raises

    def run(self) -> None:
        """Answers until ``stop`` is called or Ctrl-C; then stops without losing a request.

        Raises ``BrokerError`` where the broker refuses the service for good.
        """
        self.connect_mqtt()
        try:
            self._stopped.wait()
        finally:
            self.stop()
        if (failure := self._ended_by()) is not None:
            raise failure

    def stop(self) -> None:
        """Finishes what is under way, says ``stopped`` and disconnects. Returns when that is done."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop_asked.set()
        ask_to_stop = self._ask_to_stop
        if ask_to_stop is not None and not self._stopped.is_set():
            ask_to_stop()
        thread.join(self.settings.limits.drain_s + CONNECT_TIMEOUT_S)

    def __enter__(self) -> Self:
        """Loads the model and connects."""
        self.connect_mqtt()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops."""
        self.stop()


async def _tell_when_connected(service: Service, connected: threading.Event) -> None:
    if service.mqtt is not None:
        await service.mqtt.connection.wait_connected()
    connected.set()
