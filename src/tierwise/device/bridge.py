"""Serial line ↔ MQTT: a device on the same topics as every tier.

Two roles. A *sensor* senses and lets the edge infer: its features go out as a request, the answer comes back to it over
the serial line. A *device* tier infers itself: what it has sensed, published on its result topic, or what others ask on
a request topic of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
import numpy as np

from tierwise.core.clocks import epoch_us, monotonic_ns
from tierwise.core.errors import (
    DeadlineExceededError,
    InferenceError,
    OverloadedError,
    TierwiseError,
    TransportError,
)
from tierwise.core.messages import Answer, Prediction
from tierwise.device.emulator import Emulator
from tierwise.device.link import DeviceError
from tierwise.device.runtime import encode_sample, encode_samples, measured
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.payloads import (
    decode_error,
    decode_request,
    decode_result,
    encode_error,
    encode_request,
    encode_result,
    salvage_ids,
)
from tierwise.messaging.topics import REQUEST_TOPIC, check_device_id, error_topic, result_topic
from tierwise.runtimes.quantization import dequantize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mqtt5 import PublishPacket
    from numpy.typing import NDArray

    from tierwise.core.tensors import Signature
    from tierwise.device.boards import BoardProfile
    from tierwise.messaging.payloads import DeviceRequest, ErrorMessage, ResultMessage
    from tierwise.messaging.settings import MqttConnectionSettings

_log = logging.getLogger(__name__)

DEVICE_REQUEST_TOPIC: Final = "ml/device/inference/request"
"""Where a device that serves others is asked; edge and cloud have topics of their own."""
TIMING: Final = "tierwise-timing"
"""Request with this user property: the answer tells ``arrived_us``, ``started_us``, ``finished_us`` (epoch)."""
ENERGY: Final = "energy_device_j"
"""User property of an answer: modelled joules of the inference on the device's board."""
_DEVICE_TIER: Final = "device"


@dataclass(frozen=True, kw_only=True)
class BridgeSettings:
    """How a device appears on MQTT."""

    device_id: str
    request_topic: str = REQUEST_TOPIC
    """Where a sensor asks."""
    serve_topic: str | None = None
    """Where others may ask the device; ``None``: nowhere."""
    board: BoardProfile | None = None
    """Models ``inference_time_ms`` and energy from counted instructions; without it, the emulation's own time."""
    label_of: Callable[[Prediction], str | list[str] | None] | None = None
    """The word for a prediction; by default that of the card from which the device was built."""
    deadline_s: float = 10.0
    """For the edge's answer to a sensor."""
    max_waiting: int = 64
    """Requests that wait for the device; more are refused."""


@dataclass(slots=True)
class _Job:
    device: DeviceRequest
    packet: PublishPacket
    acknowledge: Callable[[], None]


@dataclass(slots=True)
class _Asked:
    answer: asyncio.Future[ResultMessage] = field(repr=False)


class DeviceBridge:
    """One device and its connection to a broker, as an async context manager; the emulator is the caller's."""

    def __init__(self, emulator: Emulator, connection: MqttConnectionSettings, settings: BridgeSettings) -> None:
        check_device_id(settings.device_id)
        self.settings = settings
        self.answers_taken = 0
        """Answers of the edge that the device has confirmed."""
        self._emulator = emulator
        self._signature: Signature = emulator.build.signature
        self._connection = MqttConnection(connection, on_message=self._on_message)
        self._waiting: asyncio.Queue[_Job] = asyncio.Queue(settings.max_waiting)
        self._asked: dict[str, _Asked] = {}
        self._count = 0
        self._server: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connects and subscribes. Raises ``TransportError`` where the broker is out of reach."""
        device_id = self.settings.device_id
        topics = [result_topic(device_id), error_topic(device_id)]
        topics += [self.settings.serve_topic] if self.settings.serve_topic is not None else []
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._connection)
            await self._connection.subscribe(*topics)
            await self._connection.wait_connected(self._connection.settings.connect_timeout_s)
            stack.pop_all()
        self._server = asyncio.create_task(self._serve(), name=f"bridge of {device_id}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.cancel()
            await asyncio.wait({self._server})
        await self._connection.stop()

    async def ask(self, features: NDArray[Any] | Mapping[str, NDArray[Any]]) -> ResultMessage:
        """As a sensor: the device senses one sample, the edge answers, the answer reaches the device.

        Raises ``DeadlineExceededError`` without an answer in time, ``InferenceError`` where the edge refuses (the
        device is told so too), and what the serial line raises.
        """
        payload = await self._emulator.link.sense(encode_sample(features, self._signature))
        self._count += 1
        request_id = f"{self.settings.device_id}-{self._count}"
        asked = _Asked(asyncio.get_running_loop().create_future())
        self._asked[request_id] = asked
        message = encode_request(
            self.settings.device_id, epoch_us(monotonic_ns()), self._features(payload), request_id=request_id
        )
        try:
            async with asyncio.timeout(self.settings.deadline_s):
                await self._connection.publish_and_wait(self.settings.request_topic, message)
                result = await asked.answer
        except (TimeoutError, TierwiseError) as error:
            self.answers_taken = await self._emulator.link.answer([], failed=True)
            if isinstance(error, TimeoutError):
                raise DeadlineExceededError(
                    f"no answer on {result_topic(self.settings.device_id)} within {self.settings.deadline_s:g} s"
                ) from None
            raise
        finally:
            del self._asked[request_id]
        values = [float(value) for value in np.asarray(result.prediction, dtype=np.float64).ravel()]
        self.answers_taken = await self._emulator.link.answer(values)
        return result

    async def infer(self, features: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Answer:
        """As a device tier: infers one sample and publishes the result on the device's own result topic."""
        received_ns = monotonic_ns()
        answer, _ = await self._answer(features, received_ns, request_id=None)
        payload = encode_result(self.settings.device_id, epoch_us(received_ns), answer)
        await self._connection.publish_and_wait(result_topic(self.settings.device_id), payload)
        return answer

    # --- inside: asking the edge

    def _features(self, payload: bytes) -> NDArray[Any] | dict[str, NDArray[Any]]:
        """What the device has sensed, as real numbers."""
        values, at = {}, 0
        for spec in self._signature.inputs:
            count = spec.sample_size or 1
            part = np.frombuffer(payload, np.dtype(spec.dtype), count=count, offset=at)
            at += part.nbytes
            values[spec.name] = part if spec.scale is None else dequantize(part, spec)
        return values if len(values) > 1 else next(iter(values.values()))

    def _on_message(self, packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        if packet.topic == self.settings.serve_topic:
            self._take(packet, acknowledge)
            return
        acknowledge()
        try:
            if packet.topic == result_topic(self.settings.device_id):
                self._settle(decode_result(packet.payload))
            else:
                self._fail(decode_error(packet.payload))
        except TransportError as error:  # whoever waits for it times out
            _log.warning("a message on %s was %s", packet.topic, error)

    def _settle(self, result: ResultMessage) -> None:
        asked = self._asked.get(result.request_id or "")
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(result)

    def _fail(self, message: ErrorMessage) -> None:
        asked = self._asked.get(message.request_id or "")
        if asked is not None and not asked.answer.done():
            asked.answer.set_exception(InferenceError(f"the edge refuses: {message.error.message}"))

    # --- inside: answering others

    def _take(self, packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        try:
            device = decode_request(packet.payload, received_ns=monotonic_ns())
        except TierwiseError as error:
            device_id, timestamp_us = salvage_ids(packet.payload)
            self._connection.publish(error_topic(device_id), encode_error(device_id, timestamp_us, error), qos=1)
            acknowledge()
            return
        try:
            self._waiting.put_nowait(_Job(device, packet, acknowledge))
        except asyncio.QueueFull:
            self._refuse(_Job(device, packet, acknowledge), OverloadedError("the device is busy; try again later"))

    async def _serve(self) -> None:
        while True:
            job = await self._waiting.get()
            request = job.device.request
            try:
                if request.deadline_ns is not None and monotonic_ns() > request.deadline_ns:
                    raise DeadlineExceededError("the deadline passed while the request waited for the device")
                answer, energy_j = await self._answer(request.features, request.received_ns, request.request_id)
                payload = encode_result(job.device.device_id, job.device.timestamp_us, answer)
            except TierwiseError as error:
                self._refuse(job, error)
                if isinstance(error, DeviceError):
                    await self._restart()
                continue
            self._publish(job, result_topic(job.device.device_id), payload, self._told(job, answer, energy_j))

    async def _restart(self) -> None:
        """Starts a device again that has failed; if that fails too, the next request tries again."""
        try:
            await self._emulator.restart()
        except TierwiseError as error:
            _log.warning("the device does not start again: %s", error)

    async def _answer(
        self, features: NDArray[Any] | Mapping[str, NDArray[Any]], received_ns: int, request_id: str | None
    ) -> tuple[Answer, float | None]:
        """The answer, and the modelled joules it took on the device's board."""
        samples, is_batch = encode_samples(features, self._signature)
        started_ns = monotonic_ns()
        inferences = [measured(await self._emulator.infer(sample), self._signature) for sample in samples]
        finished_ns, energy_j = monotonic_ns(), None
        counts = [inference.instructions for inference in inferences if inference.instructions is not None]
        if self.settings.board is not None and counts:
            # The emulator's speed says nothing about the board: the modelled time takes its place.
            finished_ns = started_ns + round(self.settings.board.latency_ms(sum(counts)) * 1e6)
            energy_j = self.settings.board.energy_mj(sum(counts)) / 1e3
        columns = [
            _prediction(column, is_batch=is_batch) for column in zip(*(i.outputs for i in inferences), strict=True)
        ]
        names = [spec.name for spec in self._signature.outputs]
        build = self._emulator.build
        answer = Answer(
            prediction=columns[0],
            model=build.model,
            model_version=build.model_version,
            tier=_DEVICE_TIER,
            received_ns=received_ns,
            started_ns=started_ns,
            finished_ns=finished_ns,
            label=(self.settings.label_of or build.label_of)(columns[0]),
            outputs=dict(zip(names, columns, strict=True)) if len(columns) > 1 else None,
            request_id=request_id,
        )
        return answer, energy_j

    def _told(self, job: _Job, answer: Answer, energy_j: float | None) -> list[tuple[str, str]]:
        asked = dict(job.packet.user_properties)
        told = []
        if TIMING in asked:
            instants = ("arrived_us", answer.received_ns), ("started_us", answer.started_ns)
            told += [(name, str(epoch_us(at))) for name, at in (*instants, ("finished_us", answer.finished_ns))]
        if energy_j is not None:
            told.append((ENERGY, repr(energy_j)))
        return told

    def _refuse(self, job: _Job, error: TierwiseError) -> None:
        device = job.device
        payload = encode_error(device.device_id, device.timestamp_us, error, device.request.request_id)
        self._publish(job, error_topic(device.device_id), payload, [])

    def _publish(self, job: _Job, topic: str, payload: bytes, told: list[tuple[str, str]]) -> None:
        try:
            self._connection.publish(topic, payload, qos=1, user_properties=told)
        except TierwiseError as error:
            _log.warning("not published on %s: %s", topic, error)
        job.acknowledge()


async def run_bridge(
    folder: Path,
    connection: MqttConnectionSettings,
    settings: BridgeSettings,
    samples: Sequence[Mapping[str, NDArray[Any]]],
    *,
    as_sensor: bool,
    on_line: Callable[[str], None],
) -> None:
    """Starts the device built in ``folder`` and its bridge, and drives it with ``samples``, one after the other.

    ``on_line`` hears each answer as JSON, with a tab and its label where it has one. With
    ``serve_topic`` it goes on until cancelled.
    """
    async with Emulator(folder) as emulator, DeviceBridge(emulator, connection, settings) as bridge:
        for sample in samples:
            single = {name: values[0] for name, values in sample.items()}
            features = single if len(single) > 1 else next(iter(single.values()))
            answer = await (bridge.ask(features) if as_sensor else bridge.infer(features))
            words = [] if answer.label is None else [answer.label if isinstance(answer.label, str) else answer.label[0]]
            on_line("\t".join([msgspec.json.encode(answer.prediction).decode(), *words]))
        if settings.serve_topic is not None:
            await asyncio.Event().wait()


def _prediction(column: tuple[NDArray[Any], ...], *, is_batch: bool) -> Prediction:
    """One output of all samples: a number where the model yields one value, else a list; for a batch a list of them."""
    values = [float(output.reshape(-1)[0]) if output.size == 1 else output[0].tolist() for output in column]
    return values if is_batch else values[0]
